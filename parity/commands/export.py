"""`parity export --onnx`: a registered model and its weights as one ONNX file that was proved."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import files
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    parse_image_size,
    silent,
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
from parity.processes.cache import Cache, prune, require_ours
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.interpreters import interpreter_of
from parity.version import __version__


@dataclass(frozen=True)
class Export:
    """A finished ONNX file. `checks` are its outputs against the framework's at N = 1, 2 and 3.

    `outputs` are the graph's, `seconds` what each step took, `notes` what happened to the cache.
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
    """Export one twin of a registered model to an ONNX file, and prove the file.

    The graph takes `input`, float32 (N, C, H, W) with any N, whichever framework it comes from, and
    gives `logits` (N, classes). The file is proved before it takes its name: it passes the ONNX
    checker and shape inference, loads in ONNX Runtime, and gives the framework's outputs, up to
    rounding, at N = 1, 2 and 3.

    Parameters:
        model: The architecture; `parity models` lists them.
        path: The file to write.
        side: Whose twin to export, "keras" or "torch".
        weights: A checkpoint of any format that `parity.convert` reads; None: random weights,
            seeded and calibrated.
        opset: The ONNX opset, 17 or newer.
        stage_outputs: Give every stage's tensor too, in its framework's axis order.
        seed: Seed of the random weights.
        classes, image_size, channels: Other sizes than the architecture's own; the image's in
            pixels: 224, "96x128" or (height, width).
        cache: Use exports and calibrated weights that earlier runs left.
        python: The interpreter of a runtime: {"keras": "envs/keras"}.
        progress: Is called with a runtime and what it is doing now.

    Raises `ExportFailed` for a graph that does not hold what it must, `WeightError` for a
    checkpoint that does not fit, `SpecError` for an unknown model or impossible sizes, `UsageError`
    for a side or suffix that is none, `OutputError` for a path that cannot be written,
    `RuntimeMissing` without the framework. No file is written then.

    Example:
        >>> import parity
        >>> export = parity.export("resnet18", "resnet18.onnx", side="torch", weights="r18.pth")
        >>> export.outputs
        ('logits',)
        >>> max(check["max_abs"] for check in export.checks) < 1e-3
        True
    """
    progress = progress or silent
    known = [name for name, info in registry.all_runtimes().items() if info.exports_onnx]
    if side not in known:
        raise UsageError(f"--from must be {' or '.join(known)}, found '{side}'")
    path = Path(path)
    # The exporter proves the file beside the place that it is for, and then moves it there.
    target = files.plain(path)
    if cache:
        require_ours()
    kept = Cache(cache)
    size = parse_image_size(image_size)
    found = architectures.get(model, classes=classes, image_size=size, channels=channels)
    interpreters = find_interpreters(python)
    if weights is not None:
        detect_format(weights)
    with (
        tempfile.TemporaryDirectory(prefix="parity-") as name,
        Children(python=interpreters) as made,
    ):
        folder = Path(name)
        child = made[side]
        progress(side, "starting")
        interpreter = interpreter_of(side, interpreters)
        if weights is None:
            facts = weights_key(found, seed, side, python=interpreter)
            canonical = _random_weights(found, facts, folder, child, seed, kept, progress)
        else:
            canonical = folder / "canonical.safetensors"
            convert_checkpoint(found, Path(weights), canonical, made, progress)
        child.call("load", spec=found.to_json())
        child.call("load_weights", path=str(canonical))
        progress(side, f"exporting to {path.name}")
        table = found.table()
        digest = canonical_weights.digest(canonical_weights.load(canonical, table))
        stages = [table.tensor_name(row) for row in table.last_rows("stage").values()]
        facts = graph_key(found, side, opset, python=interpreter)
        held = kept.find("graphs", facts)
        structure = held or folder / "structure.onnx"
        answer = child.call(
            "export_and_verify",
            path=str(target),
            structure=str(structure),
            opset=opset,
            input_shape=list(found.input_shape),
            names=build_tap_names(table, side),
            outputs=[stage for stage in stages if stage != LOGITS] if stage_outputs else [],
            metadata={
                "model": found.name,
                "weights_sha256": digest,
                "exporter": f"parity {__version__}",
            },
        )
        if held is None:
            kept.publish("graphs", facts, structure)
    if cache:
        prune()
    return Export(
        model=found.name,
        path=path,
        side=side,
        opset=answer["opset"],
        outputs=tuple(answer["outputs"]),
        weights_sha256=digest,
        bytes=path.stat().st_size,
        seconds=answer["seconds"],
        checks=tuple(answer["checks"]),
        notes=tuple(kept.notes),
    )


def _random_weights(
    found: ModelSpec,
    facts: dict[str, Any],
    folder: Path,
    child: Child,
    seed: int,
    kept: Cache,
    progress: Progress,
) -> Path:
    """The canonical file of seeded weights, drawn and calibrated unless an earlier run did that."""
    held = kept.find("weights", facts)
    if held is not None:
        return held
    progress(child.name, "drawing and calibrating weights")
    child.call("load", spec=found.to_json())
    made = draw_and_calibrate(found, seed, child, folder / "canonical.safetensors")
    return kept.publish("weights", facts, made)
