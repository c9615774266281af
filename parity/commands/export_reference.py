"""The export of a model that a reference names: it is loaded, exported and verified in a child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parity import files, temporary
from parity.commands.values import Progress
from parity.comparison.graphs.inputs import DeclaredInput, InputArrays, choose_inputs
from parity.comparison.graphs.request import GraphRequest, expect_runtime
from parity.errors import InputError, UsageError, WrongFrameworkError
from parity.numerics.npz import load_npz
from parity.processes import model_files, registry
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.graph_requests import ExportRequest
from parity.processes.references import FILE, ModelReference
from parity.text import quote


@dataclass(frozen=True)
class ReferenceExport:
    """The export of the model `reference` to the file `path`; `options` are the exporters'.

    `inputs` are arrays or `.npy` files and `shapes` sizes, by input; `input` is the array or file
    of the only input. `side` is the framework that a module or script is loaded in.
    """

    reference: ModelReference
    path: Path
    options: ExportRequest
    side: str | None = None
    weights: Path | None = None
    input: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    trust: tuple[str, ...] = ()
    custom_objects: str | None = None
    seed: int = 0


def export_reference(
    request: ReferenceExport, children: Children, progress: Progress
) -> tuple[str, dict[str, Any]]:
    """Export the model; return its runtime and the child's answer, which describes the file.

    Raises `UsageError` for a model that is no Keras or PyTorch model, and the errors of
    `parity.export`. No file is written then.
    """
    runtime = _choose_runtime(request)
    target = files.require_plain_file(request.path)
    try:
        child, loaded = _load(request, children[runtime], progress)
    except WrongFrameworkError as error:
        if request.side is not None or error.framework not in registry.model_runtimes():
            raise
        runtime = error.framework
        child, loaded = _load(request, children[runtime], progress)
    if request.weights is not None:
        child.call("load_checkpoint", path=str(request.weights))
    # Of an exporter that was killed, a temporary folder remains beside the target.
    with temporary.swept(target.parent), temporary.working_folder() as folder:
        inputs = _write_inputs(request, runtime, child, folder, loaded)
        progress(runtime, f"exporting to {request.path.name}")
        options = replace(
            request.options,
            path=str(target),
            inputs=None if inputs is None else str(inputs),
            shapes=request.shapes,
        )
        answer = child.call("export_reference", **options.to_json())
    return runtime, {**answer, "notes": [*loaded.get("notes", ()), *answer["notes"]]}


def _choose_runtime(request: ReferenceExport) -> str:
    """Return the runtime to load the model in. Raises UsageError for one that has no exporter."""
    runtime = request.side or expect_runtime(request.reference)
    stated = request.reference.runtime
    text = quote(request.reference.text)
    if stated is not None and stated not in registry.model_runtimes():
        raise UsageError(f"{text}: is an ONNX file already; give a Keras or PyTorch model")
    if request.reference.form == FILE:
        kind = model_files.identify(request.reference.target)
        if kind in (model_files.SAVED_MODEL_FOLDER, model_files.TORCHSCRIPT):
            raise UsageError(
                f"{text}: a {kind.format} is not exported; give the model that it was made from"
            )
    if stated is not None and stated != runtime:
        raise UsageError(
            f"{text}: is a model of {registry.label(stated)}, not of {registry.label(runtime)}"
        )
    return runtime


def _load(
    request: ReferenceExport, child: Child, progress: Progress
) -> tuple[Child, dict[str, Any]]:
    progress(child.name, "building the model")
    answer = child.call(
        "load_reference",
        reference=request.reference.to_json(),
        trust=list(request.trust),
        custom_objects=request.custom_objects,
        nested_example=True,
    )
    return child, answer


def _write_inputs(
    request: ReferenceExport,
    runtime: str,
    child: Child,
    folder: Path,
    loaded: Mapping[str, Any],
) -> Path | None:
    """Write the example inputs to a file; None where the model's own, or its example, are used."""
    given = bool(request.inputs or request.shapes or request.input is not None)
    if loaded["has_example"] and not given:
        return None
    answer = child.call("read_inputs", example=str(folder / "example.npz"))
    declared = [DeclaredInput.from_json(entry) for entry in answer["inputs"]]
    states_inputs = all(spec.shape is not None for spec in declared)
    if runtime == "keras" and states_inputs and request.input is None and not request.inputs:
        # A functional model's inputs are its own; shapes are passed on as they are.
        return None
    if not declared:
        # Every argument has a default, as those of transformers' models: the user says which.
        declared = [DeclaredInput(name, None, "", "unknown") for name in request.inputs]
    example = load_npz(folder / "example.npz") if answer["has_example"] else None
    chosen = _choose_inputs(request, declared, example)
    if runtime == "torch":
        chosen = _with_types(chosen, declared, request, child)
    return chosen.save(folder / "inputs.npz")


def _choose_inputs(
    request: ReferenceExport,
    declared: list[DeclaredInput],
    example: Mapping[str, Any] | None,
) -> InputArrays:
    inputs = dict(request.inputs)
    if request.input is not None:
        if len(declared) != 1:
            names = ", ".join(spec.name for spec in declared)
            raise UsageError(f"--input: the model takes {names}; give NAME=FILE for each")
        inputs.setdefault(declared[0].name, request.input)
    # A shape replaces what the model declares, so that it need not fit that.
    fixed = [
        replace(spec, shape=request.shapes[spec.name]) if spec.name in request.shapes else spec
        for spec in declared
    ]
    graph_request = GraphRequest(
        references=(request.reference.text,),
        inputs=inputs,
        shapes=request.shapes,
        image_size=request.image_size,
        seed=request.seed,
    )
    return choose_inputs(graph_request, fixed, example, seed=request.seed)


def _with_types(
    chosen: InputArrays,
    declared: list[DeclaredInput],
    request: ReferenceExport,
    child: Child,
) -> InputArrays:
    """Return the inputs as integers where a module that states no types takes only those."""
    unknown = [spec.name for spec in declared if not spec.dtype and spec.name in request.shapes]
    if not unknown or request.inputs:
        return chosen
    shapes = [list(array.shape) for array in chosen.arrays.values()]
    try:
        answer = child.call("guess_inputs", shapes=shapes)
    except InputError as error:
        raise InputError(f"--shape: the model does not run on these shapes: {error}") from error
    for candidate in answer["candidates"]:
        if [guess["shape"] for guess in candidate] == shapes:
            arrays = {
                guess["name"]: _cast(chosen.arrays[guess["name"]], guess) for guess in candidate
            }
            return replace(chosen, arrays=arrays)
    text = ", ".join(f"{name}={'x'.join(map(str, request.shapes[name]))}" for name in unknown)
    raise InputError(
        f"--shape {text}: the model does not run on it, but with its axes in the order "
        f"{answer['candidates'][0][0]['shape']}"
    )


def _cast(array: Any, guess: Mapping[str, Any]) -> Any:
    """Return an array in a guessed type; ids are 0, which every embedding has."""
    return array if guess["dtype"] == "float32" else (array * 0).astype(guess["dtype"])
