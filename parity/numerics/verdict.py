"""The numeric verdict: every subject's capture against the float64 reference, in floors.

The formulas are those of docs/design.md, "The verdict"; ``parity.numerics.distance`` measures the
errors and ``parity.numerics.floor`` the floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from parity.defaults import LIMIT
from parity.errors import CaptureError
from parity.numerics.capture import CaptureReader
from parity.numerics.distance import ErrorMetrics, measure_error
from parity.numerics.floor import Floor, compute_floor
from parity.numerics.measurement import PairResult, RowErrors, StartHelpers, measure_rows
from parity.numerics.points import ComparisonPoint

__all__ = [
    "LIMIT",
    "ErrorMetrics",
    "FirstDivergence",
    "Floor",
    "Judgement",
    "PairResult",
    "PointResult",
    "Status",
    "SubjectResult",
    "build_divergence",
    "compare_captures",
    "compute_floor",
    "find_failing_subjects",
    "find_first_divergence",
    "find_first_failure",
    "find_first_not_passing",
    "find_precision",
    "judge_error",
    "measure_error",
]


class Status(StrEnum):
    """The result of a subject at one comparison point, from best to worst."""

    EXACT = "exact"
    AT_FLOOR = "at-floor"
    DIVERGED = "diverged"
    NON_FINITE = "non-finite"
    MISSING = "missing"

    @property
    def passes(self) -> bool:
        """Whether the status is parity."""
        return self in (Status.EXACT, Status.AT_FLOOR)

    @property
    def is_failure(self) -> bool:
        """Whether the subject was compared and differs; a missing subject was not compared."""
        return self in (Status.DIVERGED, Status.NON_FINITE)

    @property
    def severity(self) -> int:
        """The rank of the status, from 0 for the best."""
        return tuple(Status).index(self)


@dataclass(frozen=True, slots=True)
class Judgement:
    """An error in units of the floor, and its status."""

    x_floor: float
    x_floor_max: float
    status: Status


@dataclass(frozen=True, slots=True)
class SubjectResult:
    """One subject at one comparison point.

    The figures are infinite where they do not exist (``null`` in JSON).

    ``worst`` is the index of the largest difference from the reference (batch first, NCHW) or of
    the first value that is NaN or Inf, ``actual`` and ``expected`` the two values there.
    """

    status: Status
    max_abs: float = math.inf
    rel_l2: float = math.inf
    x_floor: float = math.inf
    x_floor_max: float = math.inf
    worst: tuple[int, ...] | None = None
    actual: float | None = None
    expected: float | None = None
    wrong: int = 0
    left_out: int = 0
    """Values that are the same NaN or infinity in the reference: no figure counts them."""
    message: str | None = None

    @property
    def larger_ratio(self) -> float:
        """The larger of the two ratios that the verdict uses."""
        return max(self.x_floor, self.x_floor_max)

    @property
    def shape_differs(self) -> bool:
        """Whether its tensor has another shape than the reference's."""
        return self.status is Status.DIVERGED and self.message is not None


@dataclass(frozen=True, slots=True)
class PointResult:
    """All subjects at one comparison point; ``shape`` is NCHW, batch first."""

    name: str
    stage: str
    row: str
    shape: tuple[int, ...]
    floor: Floor | None
    subjects: Mapping[str, SubjectResult]
    pairs: Mapping[str, PairResult] = field(default_factory=dict)
    isolated: Mapping[str, SubjectResult] = field(default_factory=dict)
    """The isolated results: each subject was given the reference's input of this point."""
    isolated_floor: Floor | None = None


@dataclass(frozen=True, slots=True)
class FirstDivergence:
    """The first comparison point at which a subject differs, and the subjects that differ there."""

    subject: str
    stage: str
    layer: str | None
    """The layer's row; None when the depth compared does not resolve the layers of the stage."""
    point: str
    """The name of the comparison point."""
    subjects: tuple[str, ...]


def judge_error(
    error: ErrorMetrics, floor: Floor, *, limit: float = LIMIT, precision: str = "float32"
) -> Judgement:
    """Judge an error by the floor of a precision (docs/design.md, "The verdict").

    Comparisons are written so that NaN, had it come this far, would not pass.
    """
    if error.mismatch:
        return Judgement(math.inf, math.inf, Status.DIVERGED)
    if error.size == 0:
        return Judgement(math.inf, math.inf, Status.MISSING)
    if error.wrong or not error.compared:
        return Judgement(math.inf, math.inf, Status.NON_FINITE)
    precision_floor = floor.for_precision(precision)
    x_floor = _ratio(error.rel_l2, precision_floor.rel_l2)
    x_floor_max = _ratio(error.max_abs, precision_floor.max_abs)
    if error.exact:
        status = Status.EXACT
    elif x_floor <= limit and x_floor_max <= limit:
        status = Status.AT_FLOOR
    else:
        status = Status.DIVERGED
    return Judgement(x_floor, x_floor_max, status)


def _ratio(value: float, floor: float) -> float:
    if value == 0.0:
        return 0.0
    return value / floor if floor else math.inf


def compare_captures(
    *,
    reference: CaptureReader,
    floors: Mapping[str, Floor],
    subjects: Mapping[str, CaptureReader],
    points: Iterable[ComparisonPoint],
    limit: float = LIMIT,
    precisions: Mapping[str, str] | None = None,
    row_precisions: Mapping[str, Mapping[str, str]] | None = None,
    start_helpers: StartHelpers | None = None,
) -> list[PointResult]:
    """Compare every subject with the float64 reference, and with each other, at every point.

    ``floors`` are keyed by row; ``precisions`` by subject, float32 where not given;
    ``row_precisions`` by subject and row, where a row has another. Tensors are read once, in
    pieces; large ones with the help of the processes that ``start_helpers`` starts.
    Raises CaptureError for a capture that is damaged, and for a row that the reference has no floor
    for.
    """
    points = list(points)
    rows = [point.row for point in points if point.row in reference]
    for row in rows:
        if row not in floors:
            raise CaptureError(f"{reference.path}: {row}: has no floor; measure its replicates")
    errors = measure_rows(rows, reference, subjects, start_helpers=start_helpers)
    return judge_rows(
        errors,
        reference=reference,
        floors=floors,
        subjects=list(subjects),
        points=points,
        limit=limit,
        precisions=precisions,
        row_precisions=row_precisions,
    )


def judge_rows(
    errors_by_row: Mapping[str, RowErrors],
    *,
    reference: CaptureReader,
    floors: Mapping[str, Floor],
    subjects: Iterable[str],
    points: Iterable[ComparisonPoint],
    limit: float = LIMIT,
    precisions: Mapping[str, str] | None = None,
    row_precisions: Mapping[str, Mapping[str, str]] | None = None,
) -> list[PointResult]:
    """Judge measured errors by the floors: see `compare_captures`."""
    subjects = list(subjects)
    stages = []
    for point in points:
        row, floor = point.row, floors.get(point.row)
        row_errors = errors_by_row.get(row)
        errors = {} if row_errors is None else row_errors.errors
        results = {
            name: _result(
                errors.get(name),
                floor,
                limit,
                find_precision(precisions or {}, row_precisions or {}, name, row),
            )
            for name in subjects
        }
        shape = point.shape if row_errors is None else reference.shape(row)
        pairs = {} if row_errors is None else row_errors.pairs
        stages.append(PointResult(point.name, point.stage, row, shape, floor, results, pairs))
    return stages


def find_precision(
    precisions: Mapping[str, str],
    row_precisions: Mapping[str, Mapping[str, str]],
    subject: str,
    row: str,
) -> str:
    """Return the precision whose floor a subject is judged by at a row; float32 by default."""
    return row_precisions.get(subject, {}).get(row, precisions.get(subject, "float32"))


def _result(
    error: ErrorMetrics | None, floor: Floor | None, limit: float, precision: str
) -> SubjectResult:
    if error is None or floor is None:
        return SubjectResult(Status.MISSING, message="the subject or the reference lacks the row")
    judgement = judge_error(error, floor, limit=limit, precision=precision)
    message = error.mismatch
    if judgement.status is Status.NON_FINITE:
        message = (
            f"{error.wrong} of {error.size} values are NaN or Inf, unlike the reference's"
            if error.wrong
            else "no value is finite, so nothing was compared"
        )
    return SubjectResult(
        status=judgement.status,
        max_abs=error.max_abs,
        rel_l2=error.rel_l2,
        x_floor=judgement.x_floor,
        x_floor_max=judgement.x_floor_max,
        worst=error.worst,
        actual=error.actual,
        expected=error.expected,
        wrong=error.wrong,
        left_out=0 if error.mismatch else error.size - error.compared - error.wrong,
        message=message,
    )


def find_first_failure(stages: Iterable[PointResult], subject: str) -> PointResult | None:
    """Return the first point of `stages` where the subject is diverged or non-finite, or None."""
    for stage in stages:
        result = stage.subjects.get(subject)
        if result is not None and result.status.is_failure:
            return stage
    return None


def find_first_not_passing(stages: Iterable[PointResult], subject: str) -> PointResult | None:
    """Return the first point of `stages` where the subject does not pass or is missing, or None.

    A point that does not list the subject at all is skipped.
    """
    for stage in stages:
        result = stage.subjects.get(subject)
        if result is not None and not result.status.passes:
            return stage
    return None


def find_failing_subjects(stages: Iterable[PointResult]) -> set[str]:
    """Return the subjects that do not pass, or are missing, at one comparison point or more."""
    return {
        name
        for stage in stages
        for name, result in stage.subjects.items()
        if not result.status.passes
    }


def build_divergence(stage: PointResult, subjects: tuple[str, ...]) -> FirstDivergence:
    """Return the divergence of one or more subjects at one comparison point."""
    layer = stage.row if stage.name == stage.row else None
    return FirstDivergence(subjects[0], stage.stage, layer, stage.name, subjects)


def find_first_divergence(stages: Sequence[PointResult]) -> FirstDivergence | None:
    """Return the first point, in execution order, where a subject is diverged or non-finite."""
    for stage in stages:
        wrong = tuple(name for name, result in stage.subjects.items() if result.status.is_failure)
        if wrong:
            return build_divergence(stage, wrong)
    return None
