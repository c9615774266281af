"""Judging captures on disk against the reference's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from parity.comparison.state import Criteria
from parity.numerics import verdict
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import PointResult
from parity.processes.helpers import start_measurement_helpers


def judge_captures(
    reference: Path,
    floors: Mapping[str, Floor],
    captures: Mapping[str, Path],
    points: Sequence[ComparisonPoint],
    criteria: Criteria,
) -> list[PointResult]:
    """Judge each subject's capture at every comparison point.

    `floors` are keyed by row. Raises `CaptureError` for a capture that is damaged.
    """
    with contextlib.ExitStack() as stack:
        readers = {
            name: stack.enter_context(CaptureReader(path)) for name, path in captures.items()
        }
        return verdict.compare_captures(
            reference=stack.enter_context(CaptureReader(reference)),
            floors=floors,
            subjects=readers,
            points=points,
            limit=criteria.limit,
            precisions=criteria.precisions,
            row_precisions=criteria.row_precisions,
            start_helpers=start_measurement_helpers,
        )
