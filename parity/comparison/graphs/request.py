"""The request for a comparison of any models, validated before any child is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parity.comparison.settings import OWN, RANDOM, Settings
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
from parity.processes.subjects import DEVICES
from parity.text import closest, did_you_mean, quote, suggest

FLOAT64 = "-float64"
"""The end of the name of an ONNX file that PyTorch reads in float64, as the reference."""

_OF_TABLES = ("xla", "serial")
"""The options that only a comparison by a layer table has."""


def refuse_table_options(**options: Any) -> None:
    """Raise `UsageError` for an option that was given and that only comparisons by a table have.

    `options` are those of the command, by name.
    """
    for name in _OF_TABLES:
        if options.get(name):
            raise UsageError(f"--{name} belongs to one registered architecture or a --table")


@dataclass(frozen=True)
class GraphRequest(Settings):
    """One comparison of models that are named by references, `NAME=REF` or `REF`.

    `weights` is a reference or a checkpoint whose weights are copied into every model, or "random";
    with "own" or None each model that brings weights keeps them. `inputs` are arrays or files by
    the input's name, `shapes` the shapes of inputs for which nothing else gives one; both are in
    the axes of the model that has an input of that name. `input` is the one input of image models,
    as in `parity.network.inputs.load`. `subjects` selects by name, with a device: `torch@gpu`.
    `reference` is the name of the subject that is right. Without `export` no graph is exported.
    `trust` are files that hold programs and may be run. `environments` gives the model of a name
    the environment that it is loaded in, one of `python`'s. An architecture alone has `classes` and
    `channels`; other models state theirs in their reference.
    """

    references: tuple[str, ...]
    weights: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    export: bool = True
    trust: tuple[str, ...] = ()
    custom_objects: str | None = None
    environments: Mapping[str, str] = field(default_factory=dict)
    cache: bool = True
    """Whether a comparison may use what earlier ones made of the same models."""
    table: Path | None = None
    """A file of pairs, `given_pairs`, that are kept."""

    def __post_init__(self) -> None:
        if not self.references:
            raise UsageError("nothing to compare: give one or more models")
        self._check_choices()
        if self.weights not in (None, OWN, RANDOM) and not model_files.is_checkpoint(self.weights):
            self._check_weights_reference(self.weights)
        if self.keras_backend != "tensorflow":
            raise UsageError("--keras-backend: models are read on TensorFlow alone")
        self._check_values()
        self._check_classes_and_channels()

    def _check_classes_and_channels(self) -> None:
        """Raise `UsageError` for a size that no model takes, or one of several alone."""
        for name, size in (("classes", self.classes), ("channels", self.channels)):
            if size is None:
                continue
            if len(self.references) > 1:
                reason = "several models are compared"
            elif parse_reference(split_name(self.references[0])[1]).form != REGISTERED:
                reason = "the model is none of `parity models`"
            else:
                continue
            raise UsageError(
                f"--{name}: {reason}; give it to the model that takes it, resnet50,{name}={size} "
                f"or net.py:build,ARGUMENT={size}"
            )

    def _check_weights_reference(self, weights: str) -> None:
        """Raise `UsageError` unless `weights` is one of the models, or a reference."""
        names = [name for name, _, _ in self.name_models()]
        if weights in names:
            return
        try:
            parse_reference(weights)
        except UsageError as error:
            similar = closest(weights, names)
            if similar:
                hint = did_you_mean(similar)
                raise UsageError(
                    f"--weights: no model here is called {quote(weights)}{hint}"
                ) from error
            raise UsageError(f"--weights: {error}") from error

    def name_models(self) -> tuple[tuple[str, str, ModelReference], ...]:
        """Return the name, the expected runtime and the reference of each model.

        Raises `UsageError` for a text that is no reference, and for a name that is given twice.
        """
        parsed = []
        for text in self.references:
            name, reference = split_name(text)
            parsed += [(name, each) for each in self._expand_reference(parse_reference(reference))]
        runtimes = [expect_runtime(reference) for _, reference in parsed]
        names = name_subjects(parsed, runtimes)
        references = [reference for _, reference in parsed]
        return tuple(zip(names, runtimes, references, strict=True))

    @property
    def onnx_files(self) -> dict[str, Path]:
        """The ONNX files among the models, by subject."""
        found = {name: reference.onnx_file for name, _, reference in self.name_models()}
        return {name: path for name, path in found.items() if path is not None}

    def _expand_reference(self, reference: ModelReference) -> list[ModelReference]:
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
    def runtime_label(self) -> str:
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
