"""The request for a comparison of any models, validated before any child is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.comparison.settings import OWN, RANDOM, Settings
from parity.errors import UsageError
from parity.processes import model_files, registry
from parity.processes.references import (
    ModelReference,
    name_subjects,
    parse_reference,
    split_name,
)
from parity.processes.script_imports import guess_script_runtime
from parity.processes.subjects import DEVICES
from parity.text import quote, suggest

FLOAT64 = "-float64"
"""The end of the name of an ONNX file that PyTorch reads in float64, as the reference."""

_OF_ARCHITECTURES = ("onnx_keras", "onnx_torch", "table", "xla", "serial")
"""The options that only a comparison with a given layer table has, beside the user's twins."""

_OF_REFERENCES = ("classes", "channels")
"""The options of a registered architecture that a reference states itself."""

_NOT_YET = {"repeat": 1, "seeds": 0, "stress": False, "save_captures": None}
"""The options that come later, with their defaults."""


def refuse_foreign_options(**options: Any) -> None:
    """Raise `UsageError` for an option that was given and that only registered architectures have.

    `options` are those of the command, by name.
    """
    for name in (*registry.model_runtimes(), *_OF_ARCHITECTURES):
        if options.get(name):
            raise UsageError(f"{_option(name)} belongs to one registered architecture or a --table")
    for name in _OF_REFERENCES:
        value = options.get(name)
        if value is not None:
            raise UsageError(
                f"{_option(name)}: several models are compared; give it to the model that takes "
                f"it, resnet50,{name}={value} or net.py:build,ARGUMENT={value}"
            )
    for name, default in _NOT_YET.items():
        if options.get(name, default) != default:
            raise UsageError(f"{_option(name)} is not there yet for models that references name")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class GraphRequest(Settings):
    """One comparison of models that are named by references, `NAME=REF` or `REF`.

    `weights` is a reference or a checkpoint whose weights are copied into every model, or "random";
    with "own" or None each model that brings weights keeps them. `inputs` are arrays or files by
    the input's name, `shapes` the shapes of inputs for which nothing else gives one; both are in
    the axes of the model that has an input of that name. `input` is the one input of image models,
    as in `parity.network.inputs.load`. `subjects` selects by name, with a device: `torch@gpu`.
    `reference` is the name of the subject that is right. Without `export` no graph is exported.
    `trust` are files that hold programs and may be run.
    """

    references: tuple[str, ...]
    weights: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    export: bool = True
    trust: tuple[str, ...] = ()
    custom_objects: str | None = None

    def __post_init__(self) -> None:
        if not self.references:
            raise UsageError("nothing to compare: give one or more models")
        self._check_choices()
        if self.weights not in (None, OWN, RANDOM) and not model_files.is_checkpoint(self.weights):
            self._require_weight_source(self.weights)
        if self.keras_backend != "tensorflow":
            raise UsageError("--keras-backend: models are read on TensorFlow alone")
        self._check_numbers()

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
            parsed.append((name, parse_reference(reference)))
        runtimes = [expect_runtime(reference) for _, reference in parsed]
        names = name_subjects(parsed, runtimes)
        references = [reference for _, reference in parsed]
        return tuple(zip(names, runtimes, references, strict=True))


def expect_runtime(reference: ModelReference) -> str:
    """Return the runtime that a reference is loaded in first."""
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
