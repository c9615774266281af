"""`parity.export`: export a registered model and its weights to one verified ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import files, temporary
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    parse_image_size,
)
from parity.comparison.cache_entries import build_tap_names, graph_key, weights_key
from parity.comparison.checkpoints import convert_checkpoint, detect_format
from parity.comparison.random_weights import draw_and_calibrate
from parity.comparison.request import Side
from parity.errors import UsageError
from parity.network import architectures
from parity.network import weights as canonical_weights
from parity.network.spec import ModelSpec
from parity.network.table import LOGITS
from parity.processes import registry
from parity.processes.cache import Cache, prune, require_own_folder
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.interpreters import select_interpreter
from parity.version import __version__


@dataclass(frozen=True)
class Export:
    """A finished ONNX file. `checks` compare its outputs with the framework's at N = 1, 2 and 3.

    `outputs` are the graph's output names, `seconds` the time of each step, `notes` the damaged
    cache entries that were computed again.
    """

    model: str
    path: Path
    side: Side
    opset: int
    outputs: tuple[str, ...]
    weights_sha256: str
    bytes: int
    seconds: dict[str, float]
    checks: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


def export(
    model: str,
    path: str | Path,
    *,
    side: Side,
    weights: str | Path | None = None,
    opset: int | None = None,
    stage_outputs: bool = False,
    seed: int = 0,
    classes: int | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    cache: bool = True,
    python: Mapping[str, str | Path] | None = None,
    progress: Progress | None = None,
) -> Export:
    """Export one twin of a registered model to an ONNX file, and verify the file.

    The graph's input is `input`, float32 (N, C, H, W) with any N, for every framework; its output
    is `logits` (N, classes). Before the file replaces `path` it is verified: it passes the ONNX
    checker and shape inference, loads in ONNX Runtime, and computes the framework's outputs, up to
    rounding, at N = 1, 2 and 3.

    Parameters:
        model: The architecture; `parity models` lists them.
        path: The file to write.
        side: The framework whose twin is exported, "keras" or "torch".
        weights: A checkpoint of any format that `parity.convert` reads; None: random weights,
            seeded and calibrated.
        opset: The ONNX opset, 17 or newer.
        stage_outputs: Also output every stage's tensor, in its framework's axis order.
        seed: Seed of the random weights.
        classes, image_size, channels: Sizes that override the architecture's; `image_size` is in
            pixels: 224, "96x128" or (height, width).
        cache: Use exports and calibrated weights of earlier runs.
        python: The interpreters of runtimes: {"keras": "envs/keras"}.
        progress: A function that is called with a runtime and what it is doing now.

    Raises `ModelExportError` if the model cannot be exported or the file fails its verification,
    `WeightError` for a checkpoint that does not fit, `SpecError` for an unknown model or impossible
    sizes, `UsageError` for an unknown side or checkpoint suffix, `OutputError` for a path that
    cannot be written, `MissingRuntimeError` without the framework. No file is written then.

    Example:
        >>> import parity
        >>> export = parity.export("resnet18", "resnet18.onnx", side="torch", weights="r18.pth")
        >>> export.outputs
        ('logits',)
        >>> max(check["max_abs"] for check in export.checks) < 1e-3
        True
    """
    progress = progress or no_progress
    _require_exporter(side)
    path = Path(path)
    # The exporter writes and verifies a temporary file beside the target, and then renames it.
    target = files.require_plain_file(path)
    if weights is not None:
        files.require_other_files([target], [str(weights)])
    if cache:
        require_own_folder()
    store = Cache(cache)
    size = parse_image_size(image_size)
    spec = architectures.get(model, classes=classes, image_size=size, channels=channels)
    interpreters = find_interpreters(python)
    if weights is not None:
        detect_format(weights)
    with (
        # Of an exporter that was killed, a temporary folder remains beside the target.
        temporary.swept(target.parent),
        temporary.working_folder() as folder,
        Children(python=interpreters) as children,
    ):
        child = children[side]
        progress(side, "starting")
        interpreter = select_interpreter(side, interpreters)
        if weights is None:
            key = weights_key(spec, seed, side, python=interpreter)
            canonical = _random_weights(spec, key, folder, child, seed, store, progress)
        else:
            canonical = folder / "canonical.safetensors"
            convert_checkpoint(spec, Path(weights), canonical, children, progress)
        child.call("load", spec=spec.to_json())
        child.call("load_weights", path=str(canonical))
        digest = canonical_weights.digest(canonical_weights.load(canonical, spec.table()))
        progress(side, f"exporting to {path.name}")
        key = graph_key(spec, side, opset, python=interpreter)
        entry = store.find("graphs", key)
        structure = entry or folder / "structure.onnx"
        result = child.call(
            "export_and_verify",
            path=str(target),
            structure=str(structure),
            opset=opset,
            metadata=_describe_export(spec, digest),
            **_describe_tensors(spec, side, stage_outputs=stage_outputs),
        )
        if entry is None:
            store.publish("graphs", key, structure)
    if cache:
        prune()
    return _build_result(spec, path, side, digest, result, store.notes)


def _require_exporter(side: Side) -> None:
    """Raise `UsageError` unless `side` is a runtime that exports its models to ONNX."""
    known = [name for name, info in registry.all_runtimes().items() if info.exports_onnx]
    if side not in known:
        raise UsageError(f"--from must be {' or '.join(known)}, found '{side}'")


def _describe_tensors(spec: ModelSpec, side: Side, *, stage_outputs: bool) -> dict[str, Any]:
    """Return the input's shape (C, H, W), the names of inner tensors, and the further outputs."""
    table = spec.table()
    stages = [table.tensor_name(row) for row in table.last_rows("stage").values()]
    return {
        "input_shape": list(spec.input_shape),
        "names": build_tap_names(table, side),
        "outputs": [stage for stage in stages if stage != LOGITS] if stage_outputs else [],
    }


def _describe_export(spec: ModelSpec, weights_sha256: str) -> dict[str, str]:
    """Return the metadata of the ONNX file."""
    return {
        "model": spec.name,
        "weights_sha256": weights_sha256,
        "exporter": f"parity {__version__}",
    }


def _build_result(
    spec: ModelSpec,
    path: Path,
    side: Side,
    weights_sha256: str,
    answer: Mapping[str, Any],
    notes: Sequence[str],
) -> Export:
    """Return the finished export; `answer` is the child's answer to `export_and_verify`."""
    return Export(
        model=spec.name,
        path=path,
        side=side,
        opset=answer["opset"],
        outputs=tuple(answer["outputs"]),
        weights_sha256=weights_sha256,
        bytes=path.stat().st_size,
        seconds=answer["seconds"],
        checks=tuple(answer["checks"]),
        notes=tuple(notes),
    )


def _random_weights(
    spec: ModelSpec,
    key: dict[str, Any],
    folder: Path,
    child: Child,
    seed: int,
    store: Cache,
    progress: Progress,
) -> Path:
    """Return the file of seeded weights: of an earlier run, or drawn and calibrated now."""
    cached = store.find("weights", key)
    if cached is not None:
        return cached
    progress(child.name, "drawing and calibrating weights")
    child.call("load", spec=spec.to_json())
    weights = draw_and_calibrate(spec, seed, child, folder / "canonical.safetensors")
    return store.publish("weights", key, weights)
