"""What is known of one comparison: plain data, once its subjects have run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity.comparison.placement import Placement
from parity.comparison.request import Request, Side, side_of
from parity.errors import ParityError
from parity.network.inputs import Input
from parity.network.table import Depth, LayerTable
from parity.numerics.floor import Floor
from parity.numerics.points import ComparisonPoint

Description = Mapping[str, Any]
"""A model's layers and parameter count, as its runtime reads them."""


@dataclass(frozen=True)
class ReferenceRun:
    """The float64 reference: its capture, and the floor of each row, accumulated and isolated."""

    capture: Path
    floors: Mapping[str, Floor]
    isolated_floors: Mapping[str, Floor] = field(default_factory=dict)


@dataclass(frozen=True)
class SubjectCapture:
    """The capture of one run, and the facts that its child answered."""

    path: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class SubjectRun:
    """What one subject produced: its capture, and facts for the report.

    `seconds` are those of loading and of the run. `instrumentation_gap` is the distance (`max_abs`,
    `rel_l2`) of a plain graph's final output from the instrumented graph's.
    """

    capture: Path
    runtime: str
    versions: Mapping[str, str]
    seconds: Mapping[str, float]
    flags: Mapping[str, Any] = field(default_factory=dict)
    proof: Mapping[str, Any] = field(default_factory=dict)
    instrumentation_gap: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Criteria:
    """How errors are judged: the limit in floors, and each subject's precision."""

    limit: float
    precisions: Mapping[str, str] = field(default_factory=dict)
    """The precision whose floor a subject is judged by; float32 where it has none here."""


@dataclass(frozen=True)
class Comparison:
    """Subjects that have run on one input, and all that judging their captures takes."""

    table: LayerTable
    depth: Depth
    criteria: Criteria
    reference: ReferenceRun
    captures: Mapping[str, Path]
    """By subject."""

    @property
    def points(self) -> tuple[ComparisonPoint, ...]:
        """The comparison points at the depth compared, in execution order."""
        return self.table.points(self.depth)

    @property
    def rows(self) -> list[str]:
        """The rows of `points`."""
        return [point.row for point in self.points]


@dataclass(frozen=True)
class State:
    """All that is known once the subjects have run; what could not be had is None or absent.

    Failures are kept by subject, and by the framework whose model failed. `descriptions` are by
    framework, `further_descriptions` by the subjects whose child is not their framework's own.
    """

    request: Request
    placement: Placement
    folder: Path
    input: Input
    table: LayerTable | None = None
    weights: Path | None = None
    """The canonical weights that every model was given, a safetensors file."""
    weights_sha256: str = ""
    reference: ReferenceRun | None = None
    subjects: Mapping[str, SubjectRun] = field(default_factory=dict)
    float64: Mapping[str, SubjectCapture | ParityError] = field(default_factory=dict)
    """The subjects' float64 runs, or why there is none."""
    failures: Mapping[str, ParityError] = field(default_factory=dict)
    model_failures: Mapping[str, ParityError] = field(default_factory=dict)
    descriptions: Mapping[str, Description] = field(default_factory=dict)
    further_descriptions: Mapping[str, Description] = field(default_factory=dict)
    own_weights: Mapping[Side, Path] = field(default_factory=dict)
    """The weights that each framework's model brought, where none were given."""
    graphs: Mapping[Side, Path] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Package versions by child."""
    notes: tuple[str, ...] = ()

    @property
    def criteria(self) -> Criteria:
        """The limit asked for, and the precision that every subject is judged by."""
        judged_as = self.request.judge_as or self.request.precision
        return Criteria(self.request.limit, dict.fromkeys(self.request.subjects, judged_as))

    @property
    def comparison(self) -> Comparison | None:
        """What can be judged; None where there is no reference to judge by."""
        if self.table is None or self.reference is None:
            return None
        captures = {name: run.capture for name, run in self.subjects.items()}
        depth = self.request.depth
        return Comparison(self.table, depth, self.criteria, self.reference, captures)

    def failure(self, subject: str) -> ParityError | None:
        """Why a subject could not be run."""
        side = side_of(subject)
        own = self.request.subjects_by_name[subject].kind == side and self.request.is_at_home(
            subject
        )
        return self.failures.get(subject) or (self.model_failures.get(side) if own else None)
