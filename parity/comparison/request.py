"""The request for a comparison, validated before any child is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.comparison.settings import OWN, RANDOM, SELECTABLE_PRECISIONS, Settings
from parity.errors import UsageError
from parity.network import architectures
from parity.network.spec import ModelSpec
from parity.network.table import LayerTable
from parity.processes import registry
from parity.processes.subjects import (
    Side,
    Subject,
    child_name,
    parse_child_name,
    parse_subject,
    runs_graph,
    runtime_of,
    side_of,
    subject_kinds,
)

if TYPE_CHECKING:
    from parity.network.inputs import Input

__all__ = [
    "NAMES_MODEL",
    "OWN",
    "RANDOM",
    "SELECTABLE_PRECISIONS",
    "Request",
    "Side",
    "runtime_of",
    "side_of",
]

NAMES_MODEL: Mapping[str, bool] = {"names_model": True}
"""The metadata of a field whose value the user gives as one of the models, `NAME=REF`."""


@dataclass(frozen=True)
class Request(Settings):
    """One comparison. `model` names a registered architecture; `keras` and `torch` are
    `module:callable` references to the user's own models, which `table` pairs. `onnx_keras` and
    `onnx_torch` are ONNX files to run in place of a fresh export.

    `weights` is a file, `random` (seeded, calibrated) or `own` (each model keeps its own). `xla`
    compiles Keras models; `serial` runs one subject at a time.
    """

    model: str | None = None
    keras: str | None = field(default=None, metadata=NAMES_MODEL)
    torch: str | None = field(default=None, metadata=NAMES_MODEL)
    table: Path | None = None
    onnx_keras: Path | None = field(default=None, metadata=NAMES_MODEL)
    onnx_torch: Path | None = field(default=None, metadata=NAMES_MODEL)
    weights: str | Path | None = None
    subjects: tuple[str, ...] = field(default_factory=subject_kinds)
    cache: bool = True
    xla: bool = False
    serial: bool = False
    model_references: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        by_side = {"keras": self.keras, "torch": self.torch}
        references = {side: reference for side, reference in by_side.items() if reference}
        object.__setattr__(self, "model_references", references)
        self._check_subjects()
        if self.model is None and not self.model_references:
            raise UsageError("nothing to compare: give one or more models")
        if self.model is None and self.table is None:
            raise UsageError("a table is missing that pairs their layers")
        if self.model is None:
            for subject in self.subjects:
                if side_of(subject) not in self.model_references:
                    raise UsageError(f"subject '{subject}' needs a model: {side_of(subject)}=REF")
        self._check_places()
        self._check_values()

    def _check_subjects(self) -> None:
        if not self.subjects:
            raise UsageError("--subjects is empty: nothing would be compared")
        for subject in self.subjects:
            parse_subject(subject)
        if len(set(self.subjects)) != len(self.subjects):
            raise UsageError(f"a subject is given twice: {', '.join(self.subjects)}")

    def _check_places(self) -> None:
        """Check devices, precisions, backends and environments, without asking a runtime."""
        self._check_choices((self.reference, registry.reference_candidates(), "--reference"))
        for subject in self.subjects_by_name.values():
            environment = subject.environment
            if environment is not None and environment not in self.python:
                raise UsageError(
                    f"subject '{subject.name}': there is no environment '{environment}'; name it "
                    f"with --python {environment}=PATH or under [environments] in parity.toml"
                )
        if self.xla and not any(
            registry.get(s.runtime).compiles_xla for s in self.subjects_by_name.values()
        ):
            raise UsageError("--xla compiles Keras models, and no subject is one")
        if self.xla and self.isolate:
            raise UsageError("--isolate cannot feed the parts of a model that --xla has compiled")

    @cached_property
    def subjects_by_name(self) -> dict[str, Subject]:
        """The parsed subjects by name."""
        return {name: parse_subject(name) for name in self.subjects}

    def child(self, subject: str) -> str:
        """Return the name of the child that runs a subject."""
        parts = self.subjects_by_name[subject]
        backend = None
        if parts.kind == "keras":
            backend = parts.backend or self.keras_backend
        return child_name(parts.runtime, backend=backend, environment=parts.environment)

    def home_child(self, side: Side) -> str:
        """Return the child that exports and calibrates a framework's model, and runs the reference.

        It is the child without a backend where a subject needs that, else the first subject's: only
        on TensorFlow does Keras export to ONNX and compute in float64.
        """
        children = [
            self.child(name) for name, parts in self.subjects_by_name.items() if parts.kind == side
        ]
        without_backend = [name for name in children if parse_child_name(name).backend is None]
        return next(iter(without_backend), side) if side not in without_backend else side

    def load_arguments(self, side: Side) -> dict[str, Any]:
        """Return the arguments of the request that makes a child load a framework's model."""
        reference = self.model_references.get(side)
        spec = None if reference or self.spec is None else self.spec.to_json()
        return {"spec": spec, "callable_path": reference}

    def is_at_home(self, subject: str) -> bool:
        """Whether a subject runs in its framework's home child."""
        return self.child(subject) == self.home_child(side_of(subject))

    def needs_passes(self, source: Input) -> bool:
        """Whether the input is compared in several passes, some items at a time."""
        # Saved captures are files of whole batches.
        whole = not self.judge or self.save_captures is not None
        # NumPy is imported only when there is an input: children start before that.
        from parity.network import inputs

        many = inputs.exceeds_one_pass(len(source.array))
        return source.source_type == "folder" and many and not whole

    def graph_file(self, side: str) -> Path | None:
        """Return the ONNX file given for the subject `onnx-SIDE`."""
        return self.onnx_keras if side == "keras" else self.onnx_torch

    @property
    def graph_files(self) -> dict[str, Path]:
        """The ONNX files that were given, by subject."""
        found = {subject: self.graph_file(side_of(subject)) for subject in self.subjects}
        return {name: path for name, path in found.items() if path is not None and runs_graph(name)}

    @property
    def spec(self) -> ModelSpec | None:
        """The registered architecture; raises `ArchitectureError`."""
        if self.model is None:
            return None
        return architectures.get(
            self.model,
            classes=self.classes,
            image_size=self.image_size,
            channels=self.channels,
        )

    @property
    def layer_table(self) -> LayerTable:
        """The table given, else the architecture's; raises `TableError`."""
        if self.table is not None:
            return LayerTable.load(self.table)
        assert self.spec is not None
        return self.spec.table()

    @property
    def weight_source(self) -> str | Path:
        """Where the weights come from: a file, `random` or `own`."""
        if self.weights is not None:
            return self.weights
        return RANDOM if self.model is not None else OWN

    @property
    def reference_side(self) -> Side:
        """The framework that the float64 reference runs in."""
        if self.reference is not None:
            return self.reference
        present = set(map(side_of, self.subjects))
        sides = [side for side in registry.reference_candidates() if side in present]
        preferred = None if self.spec is None else self.spec.default_reference
        return next((side for side in sides if side == preferred), sides[0])

    @property
    def sides(self) -> tuple[Side, ...]:
        """The frameworks whose models are needed, the reference's first."""
        needed = [self.reference_side, *map(side_of, self.subjects)]
        return tuple(dict.fromkeys(needed))

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The children that are needed, the slowest to start first."""
        needed = [*map(self.home_child, self.sides), *map(self.child, self.subjects)]
        order = list(registry.all_runtimes())
        return tuple(
            sorted(dict.fromkeys(needed), key=lambda n: order.index(parse_child_name(n).runtime))
        )

    @property
    def name(self) -> str:
        """The model's name in the report."""
        return self.model or " | ".join(self.model_references.values())
