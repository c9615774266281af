"""The request for a comparison of any models, validated before any child is started."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from parity.errors import UsageError
from parity.processes import model_files, registry
from parity.processes.references import (
    REGISTERED,
    WEIGHTS,
    ModelReference,
    name_subjects,
    parse_reference,
    registered_spec,
    split_name,
)
from parity.processes.script_imports import guess_script_runtime
from parity.processes.subjects import DEVICES, backend_names
from parity.text import quote, suggest

Depth = Literal["stage", "block", "layer"]

OWN, RANDOM = "own", "random"
"""The values of `weights` that name no file and no model."""

FLOAT64 = "-float64"
"""The end of the name of an ONNX file that PyTorch reads in float64, as the reference."""

PRECISIONS = ("float32", "tf32", "float16", "bfloat16")


@dataclass(frozen=True)
class GraphRequest:
    """One comparison of models that are named by references, `NAME=REF` or `REF`.

    `weights` is a reference or a checkpoint whose weights are copied into every model, or "random";
    with "own" or None each model that brings weights keeps them. `inputs` are arrays or files by
    the input's name, `shapes` the shapes of inputs for which nothing else gives one; both are in
    the axes of the model that has an input of that name. `input` is the one input of image models,
    as in `parity.network.inputs.load`. `subjects` selects by name, with a device: `torch@gpu`.
    `reference` is the name of the subject that is right. Without `export` no graph is exported.
    `repeat` is the number of runs, `seeds` that of the other random inputs, and with `stress`
    extreme ones are compared too. Without `judge` the captures are made and saved alone.
    `trust` are files that hold programs and may be run. `limit` is in units of the floor, `timeout`
    in seconds for one request to a child.
    """

    references: tuple[str, ...]
    weights: str | None = None
    input: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batch: int | None = None
    seed: int = 0
    subjects: tuple[str, ...] = ()
    reference: str | None = None
    depth: Depth = "stage"
    limit: float = 4.0
    isolate: bool = False
    semantics: bool = False
    explain: bool = True
    export: bool = True
    repeat: int = 1
    seeds: int = 0
    stress: bool = False
    judge: bool = True
    trust: tuple[str, ...] = ()
    custom_objects: str | None = None
    classes: int | None = None
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    opset: int | None = None
    timeout: float = 900.0
    device: str = "auto"
    precision: str = "float32"
    judge_as: str | None = None
    python: Mapping[str, str] = field(default_factory=dict)
    keras_backend: str = "tensorflow"
    save_captures: Path | None = None

    def __post_init__(self) -> None:
        if not self.references:
            raise UsageError("nothing to compare: give one or more models")
        for value, known, option in (
            (self.device, ("auto", *DEVICES), "--device"),
            (self.precision, PRECISIONS, "--precision"),
            (self.judge_as, PRECISIONS, "--judge-as"),
            (self.keras_backend, backend_names("keras"), "--keras-backend"),
        ):
            if value is not None and value not in known:
                raise UsageError(f"{option}: expected one of {', '.join(known)}, found '{value}'")
        if self.weights not in (None, OWN, RANDOM) and not model_files.is_checkpoint(self.weights):
            self._require_weight_source(self.weights)
        if self.keras_backend != "tensorflow":
            raise UsageError("--keras-backend: models are read on TensorFlow alone")
        if self.repeat < 1:
            raise UsageError(f"--repeat must be at least 1, found {self.repeat}")
        if self.seeds < 0:
            raise UsageError(f"--seeds must be at least 0, found {self.seeds}")
        if not self.limit > 0:
            raise UsageError(f"--limit must be above 0, found {self.limit}")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"--batch must be at least 1, found {self.batch}")
        if not 0 < self.timeout < threading.TIMEOUT_MAX:
            raise UsageError(f"--timeout must be a number of seconds, found {self.timeout}")

    def _require_weight_source(self, weights: str) -> None:
        """Raise `UsageError` unless `weights` is one of the models, or a reference."""
        if weights in {name for name, _, _ in self.name_models()}:
            return
        try:
            parse_reference(weights)
        except UsageError as error:
            raise UsageError(f"--weights: {error}") from error

    def name_models(self) -> tuple[tuple[str, str, ModelReference], ...]:
        """Return the name, the expected runtime and the reference of each model.

        Raises `UsageError` for a text that is no reference, and for a name that is given twice.
        """
        parsed = []
        for text in self.references:
            name, reference = split_name(text)
            parsed += [(name, each) for each in self._find_models(parse_reference(reference))]
        runtimes = [expect_runtime(reference) for _, reference in parsed]
        names = name_subjects(parsed, runtimes)
        references = [reference for _, reference in parsed]
        return tuple(zip(names, runtimes, references, strict=True))

    def _find_models(self, reference: ModelReference) -> list[ModelReference]:
        """Return a reference at the request's sizes; an architecture alone stands for its twins."""
        if reference.form != REGISTERED:
            return [reference]
        sizes = {"classes": self.classes, "image_size": self.image_size, "channels": self.channels}
        given = {name: size for name, size in sizes.items() if size is not None}
        sized = replace(reference, options={**given, **reference.options})
        registered_spec(sized)
        if len(self.references) > 1 or WEIGHTS in reference.options:
            return [sized]
        return [replace(sized, runtime=runtime) for runtime in registry.model_runtimes()]


def expect_runtime(reference: ModelReference) -> str:
    """Return the runtime that a reference is loaded in first.

    A registered model is built where its checkpoint is read.
    """
    if reference.form == REGISTERED:
        checkpoint = str(reference.options.get(WEIGHTS, ""))
        for suffix, runtime in registry.checkpoint_suffixes().items():
            if checkpoint.endswith(suffix):
                return runtime
    return reference.runtime or guess_script_runtime(reference) or "torch"


@dataclass(frozen=True)
class GraphSubject:
    """One model, and the runtime, child and device that run it.

    `exported_from` is the name of the subject whose export it is; its reference is then None.
    """

    name: str
    runtime: str
    child: str
    reference: ModelReference | None = None
    device: str = "cpu"
    exported_from: str = ""

    @property
    def label(self) -> str:
        """The framework's name for a message."""
        return registry.label(self.runtime)


def select_subjects(names: Sequence[str], selection: Sequence[str]) -> dict[str, str | None]:
    """Return the subjects to compare, with the device that the selection gives each, or None.

    An empty selection is all of `names`. Raises `UsageError` for a name that is none of them.
    """
    if not selection:
        return dict.fromkeys(names)
    found: dict[str, str | None] = {}
    for text in selection:
        name, _, device = text.partition("@")
        if name not in names:
            hint = suggest(name, names, otherwise=f"there are: {', '.join(names)}")
            raise UsageError(f"--subjects: no subject is called {quote(name)}{hint}")
        if device and device not in DEVICES:
            raise UsageError(f"--subjects {quote(text)}: expected @cpu or @gpu")
        found[name] = device or None
    return found
