"""Whether a difference is the precision that was asked for: the same run in a higher one."""

from __future__ import annotations

from collections.abc import Sequence

from parity import investigate
from parity.errors import ParityError
from parity.explain.causes.low_precision import HALF, TF32
from parity.flow import Flow
from parity.report.model import Cause
from parity.verdict import StageResult


def causes(flow: Flow, stages: Sequence[StageResult]) -> tuple[Cause, ...]:
    """A cause for each subject that is at the floor once it computes in the precision judged by.

    Nothing but the precision is changed: same device, same weights, same input.
    """
    request = flow.request
    judged = request.judge_as
    if judged is None or judged == request.precision:
        return ()
    reference = flow.reference.result()
    cuts = flow.table.result().cuts(request.depth)
    rows = [cut.row.name for cut in cuts]
    found = []
    for name in flow.subjects:
        first = next((s for s in stages if not s.subjects[name].status.passes), None)
        if first is None:
            continue
        try:
            again = flow.captures.subject(name, rows, "arithmetic", precision=judged)
        except ParityError:
            # A runtime without the higher precision leaves the question to the layers.
            continue
        results = investigate.compare(
            flow, reference.capture, reference.floors, {name: again.path}, cuts
        )
        if all(stage.subjects[name].status.passes for stage in results):
            found.append(_cause(name, first, stages, results, request.precision, judged))
    return tuple(found)


def _cause(
    name: str,
    first: StageResult,
    before: Sequence[StageResult],
    after: Sequence[StageResult],
    precision: str,
    judged: str,
) -> Cause:
    worst = [max(stage.subjects[name].x_floor for stage in stages) for stages in (before, after)]
    cause = TF32 if precision == "tf32" else HALF
    return Cause(
        layer=first.row,
        subject=name,
        cause=cause,
        evidence={"x_floor_before": worst[0], "x_floor_after": worst[1]},
        message=(
            f"{name} computes in {precision}: {worst[0]:.3g}x the floor of {judged}; the same run "
            f"in {judged} is {worst[1]:.2g}x"
        ),
    )
