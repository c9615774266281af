"""Captures on disk against the reference's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from parity.comparison.state import Criteria
from parity.numerics import verdict
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import StageResult, Status
from parity.processes.helpers import measuring_helpers

FAILURES = (Status.DIVERGED, Status.NON_FINITE)


def judge(
    reference: Path,
    floors: Mapping[str, Floor],
    captures: Mapping[str, Path],
    points: Sequence[ComparisonPoint],
    criteria: Criteria,
) -> list[StageResult]:
    """Judge captures, by subject, at every comparison point.

    `floors` are by row. Raises `CaptureError` for a capture that is damaged.
    """
    with contextlib.ExitStack() as stack:
        readers = {
            name: stack.enter_context(CaptureReader(path)) for name, path in captures.items()
        }
        return verdict.compare(
            reference=stack.enter_context(CaptureReader(reference)),
            floors=floors,
            subjects=readers,
            points=points,
            limit=criteria.limit,
            precisions=criteria.precisions,
            start_helpers=measuring_helpers,
        )


def failing_subjects(stages: Sequence[StageResult]) -> set[str]:
    """The subjects that do not pass at every point."""
    return {n for stage in stages for n, r in stage.subjects.items() if not r.status.passes}


def first_failure(stages: Iterable[StageResult], subject: str) -> StageResult | None:
    """The first point, in execution order, at which a subject is diverged or non-finite."""
    for stage in stages:
        result = stage.subjects.get(subject)
        if result is not None and result.status in FAILURES:
            return stage
    return None
