"""The state of one comparison after its subjects have run, as plain data."""

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
from parity.numerics.verdict import find_precision

Description = Mapping[str, Any]
"""A model's layers and parameter count, from its runtime."""


@dataclass(frozen=True)
class ReferenceRun:
    """The run of the reference: its float64 capture, and accumulated and isolated floors by row."""

    capture: Path
    floors: Mapping[str, Floor]
    isolated_floors: Mapping[str, Floor] = field(default_factory=dict)


@dataclass(frozen=True)
class SubjectCapture:
    """The capture of one run, and the facts that its child reported."""

    path: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class SubjectRun:
    """The run of one subject: its capture, and facts for the report.

    `seconds` holds the durations of loading and of the run. `instrumentation_gap` is the error
    (`max_abs`, `rel_l2`) of a plain graph's final output against the instrumented graph's.
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
    """The criteria for errors: the limit in floors, and each subject's precision."""

    limit: float
    precisions: Mapping[str, str] = field(default_factory=dict)
    """By subject, the precision whose floor it is judged by; float32 by default."""
    row_precisions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By subject, the rows that are judged by the floor of another precision."""

    def precision(self, subject: str, row: str) -> str:
        """Return the precision whose floor a subject is judged by at a row."""
        return find_precision(self.precisions, self.row_precisions, subject, row)


@dataclass(frozen=True)
class Comparison:
    """The captures of subjects on one input, and the data needed to judge them."""

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
    """The results of all runs; a result that is not available is None or absent.

    `failures` is keyed by subject, `model_failures` by the framework whose model failed.
    `descriptions` is keyed by framework, `further_descriptions` by the subjects that do not run in
    their framework's home child.
    """

    request: Request
    placement: Placement
    folder: Path
    input: Input
    table: LayerTable | None = None
    weights: Path | None = None
    """The canonical weights of all models, a safetensors file."""
    weights_sha256: str = ""
    reference: ReferenceRun | None = None
    subjects: Mapping[str, SubjectRun] = field(default_factory=dict)
    float64: Mapping[str, SubjectCapture | ParityError] = field(default_factory=dict)
    """By subject, the float64 run or its error."""
    failures: Mapping[str, ParityError] = field(default_factory=dict)
    model_failures: Mapping[str, ParityError] = field(default_factory=dict)
    descriptions: Mapping[str, Description] = field(default_factory=dict)
    further_descriptions: Mapping[str, Description] = field(default_factory=dict)
    own_weights: Mapping[Side, Path] = field(default_factory=dict)
    """By framework, the own weights of its model, where none were given."""
    graphs: Mapping[Side, Path] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Package versions by child."""
    notes: tuple[str, ...] = ()

    @property
    def criteria(self) -> Criteria:
        """The limit, and the precision that every subject is judged by."""
        judged_as = self.request.judge_as or self.request.precision
        return Criteria(self.request.limit, dict.fromkeys(self.request.subjects, judged_as))

    @property
    def comparison(self) -> Comparison | None:
        """The captures to judge; None if there is no reference."""
        if self.table is None or self.reference is None:
            return None
        captures = {name: run.capture for name, run in self.subjects.items()}
        depth = self.request.depth
        return Comparison(self.table, depth, self.criteria, self.reference, captures)

    def find_failure(self, subject: str) -> ParityError | None:
        """Return the error of a subject that could not be run."""
        side = side_of(subject)
        own = self.request.subjects_by_name[subject].kind == side and self.request.is_at_home(
            subject
        )
        return self.failures.get(subject) or (self.model_failures.get(side) if own else None)
