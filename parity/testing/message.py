"""The message of `assert_parity`: which model differs, where first, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from parity.network.table import Depth
from parity.numerics.capture import CaptureReader
from parity.numerics.verdict import PointResult, SubjectResult, find_first_not_passing
from parity.processes import registry
from parity.report.model import Report
from parity.report.wording import format_command, format_number, format_ratio, join_names
from parity.testing.comparison import InProcessComparison, agree


def write_message(
    comparison: InProcessComparison, stages: Sequence[PointResult], depth: Depth
) -> str:
    """Return the message for stages that do not all pass."""
    if comparison.table is not None and depth != "layer":
        # Fewer layers are compared as long as nothing differs; all of them are only now.
        layers = comparison.compare("layer")
        stages = stages if agree(layers) else layers
    first = {name: find_first_not_passing(stages, name) for name in comparison.models}
    differing = {name: stage for name, stage in first.items() if stage is not None}
    agreeing = [name for name in comparison.models if name not in differing]
    lines = [
        f"The models are not the same: {join_names(differing) or 'nothing'} "
        f"{'differ' if len(differing) > 1 else 'differs'} from {comparison.reference} in float64 "
        f"by more than {comparison.limit:g}× the rounding floor."
    ]
    for name, stage in differing.items():
        lines += ["", *_describe_difference(comparison, name, stage)]
    if agreeing:
        lines += ["", f"{join_names(agreeing)} agree{'s' if len(agreeing) == 1 else ''}."]
    return "\n".join([*lines, "", *_next_steps(comparison)])


def write_report_message(report: Report) -> str:
    """Return the message for a comparison of references: verdict, where, why, how to repeat it."""
    lines = ["The models are not the same.", "", str(report)]
    command = format_command(report)
    if command:
        lines += ["", "To look further:", f"  {command} --html report.html"]
    return "\n".join(lines)


def _describe_difference(
    comparison: InProcessComparison, name: str, stage: PointResult
) -> Iterator[str]:
    result = stage.subjects[name]
    label = stage.name if stage.name == stage.row else f"{stage.name} ({stage.row})"
    yield f"{name}, first at {label}, shape {stage.shape}:"
    if result.message:
        yield f"  {result.message}"
    if stage.floor is None or not math.isfinite(result.rel_l2):
        if result.worst is not None:
            yield f"  First at index {result.worst}: {_values(result)}"
        return
    limit = comparison.limit * stage.floor.max_abs
    count, size = _count_mismatches(comparison, name, stage.row, limit)
    yield f"  Mismatched elements: {count} / {size} ({100 * count / size:.1f}%)"
    yield (
        f"  Greatest absolute difference: {format_number(result.max_abs)} at index {result.worst}, "
        f"{_values(result)}"
    )
    yield (
        f"    {format_ratio(result.x_floor_max)} the floor of {format_number(stage.floor.max_abs)} "
        f"(up to {comparison.limit:g}× is rounding)"
    )
    yield (
        f"  Relative difference of the whole: {format_number(result.rel_l2)}, "
        f"{format_ratio(result.x_floor)} the floor of {format_number(stage.floor.rel_l2)}"
    )


def _count_mismatches(
    comparison: InProcessComparison, name: str, row: str, limit: float
) -> tuple[int, int]:
    """Return how many elements differ by more than `limit`, and how many there are."""
    with (
        CaptureReader(comparison.capture_path("reference")) as expected,
        CaptureReader(comparison.capture_path(name)) as actual,
    ):
        difference = np.abs(actual.read(row) - expected.read(row))
    # A NaN is a mismatch too.
    mismatches = ~(difference <= limit)
    return int(np.count_nonzero(mismatches)), mismatches.size


def _next_steps(comparison: InProcessComparison) -> Iterator[str]:
    yield "To look further:"
    if comparison.table is None:
        yield "  give table=, which pairs the layers, to see which one differs first"
    models = " ".join(
        f"{name}=MODULE:CALLABLE" for name in registry.model_runtimes() if name in comparison.models
    )
    table = "" if comparison.table is None else " --table FILE"
    yield f"  parity compare {models}{table} --isolate --html report.html"


def _values(result: SubjectResult) -> str:
    return f"{result.actual:.6g} instead of {result.expected:.6g}"
