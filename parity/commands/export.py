"""`parity.export`: export any model and its weights to one verified ONNX file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from parity import files, temporary
from parity.commands.class_names import state_model
from parity.commands.export_reference import ReferenceExport, export_reference
from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    optional_path,
    parse_image_size,
)
from parity.comparison.cache_entries import build_tap_names, graph_key, weights_key
from parity.comparison.checkpoints import convert_checkpoint, detect_format
from parity.comparison.random_weights import draw_and_calibrate
from parity.comparison.request import Side
from parity.errors import UsageError
from parity.network import architectures
from parity.network import weights as canonical_weights
from parity.network.onnx_metadata import StatedModel, build_properties
from parity.network.spec import ModelSpec
from parity.network.table import LOGITS
from parity.processes import registry
from parity.processes.cache import Cache, prune, require_own_folder
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.graph_requests import ExportRequest
from parity.processes.interpreters import select_interpreter
from parity.processes.references import REGISTERED, parse_reference
from parity.text import quote
from parity.version import __version__

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Export:
    """A finished ONNX file. `checks` compare its outputs with the framework's on usual inputs.

    `outputs` are the graph's output names, `bytes` the size with the weights' own file, if there is
    one, `seconds` the time of each step. `other_checks` are those of other sizes, of extreme inputs
    and of ties; of a large input the last two are the batch of N = 2. `notes` say what the checks
    leave open, which layers stay in float32, and which damaged cache entries were computed again.
    `tensors` describes the inputs and outputs.
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
    other_checks: tuple[dict[str, Any], ...] = ()
    tensors: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def batches(self) -> tuple[int, ...]:
        """The values of N that the file was verified at, in order, up to the usual largest one."""
        usual = {int(check["batch"]) for check in self.checks}
        others = {int(check["batch"]) for check in self.other_checks}
        return tuple(sorted(usual | {n for n in others if n < max(usual, default=0)}))

    @property
    def worst(self) -> dict[str, Any]:
        """The check with the largest error, in floors."""
        return max((*self.checks, *self.other_checks), key=lambda check: float(check["floors"]))

    def to_record(self) -> dict[str, Any]:
        """Return what was verified, as plain data."""
        return {
            "parity": __version__,
            "model": self.model,
            "framework": self.side,
            "file": self.path.name,
            "bytes": self.bytes,
            "sha256": _hash_file(self.path),
            "opset": self.opset,
            "precision": self.precision,
            **self.tensors,
            "worst": self.worst,
            "checks": [*self.checks, *self.other_checks],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


@show_in_notebooks
def export(
    model: str,
    path: str | Path,
    *,
    side: Side | None = None,
    weights: str | Path | None = None,
    opset: int | None = None,
    stage_outputs: bool = False,
    seed: int = 0,
    classes: int | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    input: str | Path | NDArray[Any] | None = None,
    inputs: Mapping[str, str | Path | NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    fixed_batch: bool = False,
    precision: Literal["float32", "float16"] = "float32",
    external_data: bool = False,
    record: str | Path | None = None,
    preprocess: str | None = None,
    labels: str | Path | None = None,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    cache: bool = True,
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    progress: Progress | None = None,
) -> Export:
    """Export a model to an ONNX file, and verify the file.

    Before the file replaces `path` it is verified: it passes the ONNX checker and shape inference,
    loads in ONNX Runtime, and computes the framework's outputs, up to rounding, at N = 1, 2 and 3,
    at other sizes that vary, and on extreme inputs.

    Of a registered model the graph's input is `input`, float32 (N, C, H, W) with any N, for every
    framework, and its output is `logits` (N, classes). Of any other model inputs and outputs have
    the model's own names and axes.

    Parameters:
        model: The architecture (`parity models` lists them), or any other model as the command
            line names it: "net.py:build", "model.keras", "timm:resnet50".
        path: The file to write.
        side: The framework whose twin is exported, "keras" or "torch"; of a script or module, the
            framework that it is loaded in first.
        weights: A checkpoint of any format that `parity.convert` reads; None: random weights,
            seeded and calibrated, or the model's own.
        opset: The ONNX opset, 17 or newer.
        stage_outputs: Also output every stage's tensor, in its framework's axis order.
        seed: Seed of the random weights.
        classes, image_size, channels: Sizes that override the architecture's; `image_size` is in
            pixels: 224, "96x128" or (height, width).
        input: An example of the only input, an array or an `.npy` file, for a module that states no
            shapes.
        inputs: The same of several, by name.
        shapes: The shapes of inputs, the batch first, instead of an example.
        dynamic: By input, the axes whose size varies beside the batch, and a name of each size, or
            "": {"tokens": {1: "length"}}. A size called "batch" is the batch.
        fixed_batch: The batch does not vary either.
        precision: "float16" computes in float16, but for what exceeds its range; inputs and outputs
            stay as they are.
        external_data: Put the weights in a file beside it, which is automatic above 2 GB.
        record: A JSON file to write what was verified to.
        preprocess: What the model's pixels go through, to be stated in the file's metadata: a name
            as `parity.compare` takes it. None: that of a training run's checkpoint, or of a model
            of keras.applications; of any other model nothing is stated.
        labels: A file of class names, one a line or JSON, for the metadata. None: those of a
            training run's checkpoint.
        trust: Model files that hold programs, which may be run.
        custom_objects: A Python file with the classes that a Keras file needs.
        cache: Use exports and calibrated weights of earlier runs.
        python: The interpreters of runtimes: {"keras": "envs/keras"}.
        timeout: Seconds for one step.
        progress: A function that is called with a runtime and what it is doing now.

    Raises `ModelExportError` if the model cannot be exported or the file fails its verification,
    `WeightError` for a checkpoint that does not fit, `ArchitectureError` for an unknown model or
    impossible sizes, `UsageError` for an unknown side, option or checkpoint suffix, `OutputError`
    for a path that cannot be written, `RequirementError` without the framework. No file is written
    then.

    Example:
        >>> import parity
        >>> export = parity.export("resnet18", "resnet18.onnx", side="torch", weights="r18.pth")
        >>> export.outputs
        ('logits',)
        >>> max(check["max_abs"] for check in export.checks) < 1e-3
        True
    """
    progress = progress or no_progress
    path = Path(path)
    read = [model, weights, custom_objects, *(inputs or {}).values()]
    _require_outputs(path, record, [str(each) for each in (*read, input) if each is not None])
    parsed = parse_reference(model)
    options = ExportRequest(
        path=str(path),
        dynamic={name: dict(axes) for name, axes in (dynamic or {}).items()},
        fixed_batch=fixed_batch,
        opset=opset,
        precision=precision,
        external_data=external_data,
    )
    interpreters = find_interpreters(python)
    own_weights = parsed.options.get("weights", weights)
    stated = state_model(
        preprocess,
        optional_path(labels),
        zoo_model=parsed.text if parsed.zoo == "keras" else None,
        checkpoint=None if own_weights is None else Path(str(own_weights)),
    )
    if parsed.form == REGISTERED:
        own = dict(parsed.options)
        weights = own.get("weights", weights)
        classes = own.get("classes", classes)
        channels = own.get("channels", channels)
        image_size = own.get("image_size", image_size)
        _require_no_inputs(parsed.text, input, inputs, shapes, dynamic)
        result = _export_registered(
            parsed.target,
            path,
            side=_require_exporter(side),
            weights=weights,
            options=options,
            stated=stated,
            stage_outputs=stage_outputs,
            seed=seed,
            classes=classes,
            image_size=image_size,
            channels=channels,
            cache=cache,
            interpreters=interpreters,
            timeout=timeout,
            progress=progress,
        )
    else:
        _require_unregistered(model, stage_outputs, classes, channels)
        result = _export_reference(
            ReferenceExport(
                parsed,
                path,
                options,
                side=None if side is None else _require_exporter(side),
                weights=optional_path(weights),
                input=input,
                inputs=dict(inputs or {}),
                shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
                image_size=parse_image_size(image_size),
                trust=tuple(map(str, trust)),
                custom_objects=None if custom_objects is None else str(custom_objects),
                seed=seed,
            ),
            interpreters,
            timeout,
            progress,
            stated,
        )
    if record is not None:
        files.write_text(record, json.dumps(result.to_record(), indent=2) + "\n")
    return result


def _export_reference(
    request: ReferenceExport,
    interpreters: Mapping[str, str],
    timeout: float,
    progress: Progress,
    stated: StatedModel,
) -> Export:
    metadata = {
        "model": request.reference.text,
        "exporter": f"parity {__version__}",
        **build_properties(
            preprocessing=stated.preprocessing, size=request.image_size, classes=stated.classes
        ),
    }
    request = replace(request, options=replace(request.options, metadata=metadata))
    with Children(python=interpreters, timeout=timeout) as children:
        runtime, answer = export_reference(request, children, progress)
    return _build_result(
        request.reference.text, request.path, runtime, request.options.precision, answer
    )


def _export_registered(
    model: str,
    path: Path,
    *,
    side: Side,
    weights: str | Path | None,
    options: ExportRequest,
    stated: StatedModel,
    stage_outputs: bool,
    seed: int,
    classes: int | None,
    image_size: ImageSize | None,
    channels: int | None,
    cache: bool,
    interpreters: Mapping[str, str],
    timeout: float,
    progress: Progress,
) -> Export:
    # The exporter writes and verifies a temporary file beside the target, and then renames it.
    target = files.require_plain_file(path)
    if cache:
        require_own_folder()
    store = Cache(cache)
    size = parse_image_size(image_size)
    spec = architectures.get(model, classes=classes, image_size=size, channels=channels)
    if weights is not None:
        detect_format(weights)
    with (
        # Of an exporter that was killed, a temporary folder remains beside the target.
        temporary.swept(target.parent),
        temporary.working_folder() as folder,
        Children(python=interpreters, timeout=timeout) as children,
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
        key = graph_key(spec, side, options.opset, python=interpreter)
        entry = store.find("graphs", key)
        structure = entry or folder / "structure.onnx"
        answer = child.call(
            "export_and_verify",
            path=str(target),
            structure=str(structure),
            opset=options.opset,
            metadata=_describe_export(spec, digest, stated),
            fixed_batch=options.fixed_batch,
            precision=options.precision,
            external_data=options.external_data,
            **_describe_tensors(spec, side, stage_outputs=stage_outputs),
        )
        if entry is None and structure.exists():
            store.publish("graphs", key, structure)
    if cache:
        prune()
    result = _build_result(spec.name, path, side, options.precision, answer)
    return replace(result, weights_sha256=digest, notes=(*store.notes, *result.notes))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_outputs(path: Path, record: str | Path | None, read: Sequence[str]) -> None:
    """Raise OutputError unless both files can be written, before any work is done.

    Neither may be one of the files that are `read`: the model's, its weights, its inputs.
    """
    files.require_other_files([path, *([] if record is None else [record])], read)
    files.require_plain_file(path)
    files.require_suffix(path, ".onnx", only=True)
    if record is not None:
        files.require_writable(record)
        if Path(record).resolve() == path.resolve():
            raise UsageError(f"--record {record}: is the ONNX file itself; give another name")
        files.require_suffix(record, ".json")


def _require_no_inputs(model: str, *given: object) -> None:
    """Raise UsageError for an option that describes inputs, which a registered model has."""
    options = ("--input", "--input", "--shape", "--dynamic")
    for option, value in zip(options, given, strict=True):
        if value is not None and value != {}:
            raise UsageError(
                f"{option}: {quote(model)} is a registered model, whose one input is known; its "
                "sizes are --image-size and --channels"
            )


def _require_unregistered(
    model: str, stage_outputs: bool, classes: int | None, channels: int | None
) -> None:
    """Raise UsageError for an option of registered models alone."""
    given = (
        ("--stage-outputs", stage_outputs),
        ("--classes", classes is not None),
        ("--channels", channels is not None),
    )
    for option, is_given in given:
        if is_given:
            raise UsageError(
                f"{option}: {quote(model)} is not a registered model; its own options follow a "
                "comma, as in net.py:Net,num_classes=10"
            )


def _require_exporter(side: Side | None) -> Side:
    """Raise `UsageError` unless `side` is a runtime that exports its models to ONNX."""
    known = [name for name, info in registry.all_runtimes().items() if info.exports_onnx]
    if side not in known:
        found = "" if side is None else f", found '{side}'"
        raise UsageError(f"--from must be {' or '.join(known)}{found}")
    return side


def _describe_tensors(spec: ModelSpec, side: Side, *, stage_outputs: bool) -> dict[str, Any]:
    """Return the input's shape (C, H, W), the names of inner tensors, and the further outputs."""
    table = spec.table()
    stages = [table.tensor_name(row) for row in table.last_rows("stage").values()]
    return {
        "input_shape": list(spec.input_shape),
        "names": build_tap_names(table, side),
        "outputs": [stage for stage in stages if stage != LOGITS] if stage_outputs else [],
    }


def _describe_export(spec: ModelSpec, weights_sha256: str, stated: StatedModel) -> dict[str, str]:
    """Return the metadata of the ONNX file.

    Raises `UsageError` for another number of class names than the model has classes.
    """
    classes = spec.table().by_name(LOGITS).shape[-1]
    if stated.classes and len(stated.classes) != classes:
        raise UsageError(
            f"--labels: {len(stated.classes)} class names, and {spec.name} has {classes} classes"
        )
    _, height, width = spec.input_shape
    return {
        "model": spec.name,
        "weights_sha256": weights_sha256,
        "exporter": f"parity {__version__}",
        **build_properties(
            preprocessing=stated.preprocessing,
            size=(height, width),
            classes=stated.classes,
            axes={"input": "NCHW", "logits": "NC"},
        ),
    }


def _build_result(
    model: str, path: Path, side: Side, precision: str, answer: Mapping[str, Any]
) -> Export:
    """Return the finished export; `answer` is the child's, see `runtimes.export`."""
    data = path.with_name(f"{path.name}.data")
    has_data = bool(answer["external_data"]) and data.exists()
    return Export(
        model=model,
        path=path,
        side=side,
        opset=answer["opset"],
        outputs=tuple(answer["outputs"]),
        weights_sha256=answer["weights_sha256"],
        bytes=path.stat().st_size + (data.stat().st_size if has_data else 0),
        seconds=answer["seconds"],
        checks=tuple(answer["checks"]),
        notes=tuple(answer["notes"]),
        other_checks=tuple(answer["other_checks"]),
        tensors=answer["tensors"],
        precision=precision,
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
