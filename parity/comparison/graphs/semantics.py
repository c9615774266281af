"""Level 3 of a comparison of graphs: every subject in float64."""

from __future__ import annotations

from pathlib import Path

from parity.comparison.graphs.isolation import criteria
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.comparison.judging import judge_captures
from parity.comparison.results import Level, Outcome
from parity.comparison.semantics import FOLDED_CONSTANTS, float64_criteria
from parity.comparison.state import ReferenceRun
from parity.errors import ParityError
from parity.numerics.verdict import PointResult, find_first_failure
from parity.processes import registry


def judge_semantics(state: GraphState, runner: GraphRunner, reference: ReferenceRun) -> Level:
    """Run every subject in float64 and judge it by the floor of float64.

    ONNX Runtime has no float64 convolution: its file is read by PyTorch. An exporter that folds
    constants rounds them to float32: a graph that differs by at most the float32 floor passes,
    with a note.
    """
    notes: list[str] = []
    has_failed = has_passed = False
    names = [name for name in state.models if state.models[name] is not state.reference]
    for name in names:
        if name == state.reference.subject.name:
            continue
        try:
            stages = _run_and_judge(state, runner, reference, name)
        except ParityError as error:
            notes.append(f"{name}: not run in float64: {error}")
            continue
        is_graph = state.models[name].subject.runtime not in registry.model_runtimes()
        worst = max((stage.subjects[name].rel_l2 for stage in stages), default=0.0)
        first = find_first_failure(stages, name)
        if first is None:
            has_passed = True
            notes.append(f"{name}: the same in float64 to {worst:.1e}")
        elif is_graph and all(s.subjects[name].x_floor <= FOLDED_CONSTANTS for s in stages):
            has_passed = True
            notes.append(
                f"{name}: the same in float64 to {worst:.1e}; the graph holds constants that were "
                "rounded to float32"
            )
        else:
            has_failed = True
            result = first.subjects[name]
            notes.append(
                f"{name}: differs in float64 first at {first.name}: rel_l2 {result.rel_l2:.1e}, "
                f"max abs {result.max_abs:.1e}"
            )
    if has_failed:
        return Level(Outcome.FAIL, tuple(notes))
    if not notes:
        return Level(Outcome.SKIPPED, ("only one model was compared",))
    return Level(Outcome.PASS if has_passed else Outcome.SKIPPED, tuple(notes))


def _run_and_judge(
    state: GraphState, runner: GraphRunner, reference: ReferenceRun, name: str
) -> list[PointResult]:
    points = state.table.points(state.request.depth, list(state.models))
    capture: Path = runner.run_float64(name, points, "float64").path
    judged = float64_criteria(criteria(state), name)
    return judge_captures(reference.capture, reference.floors, {name: capture}, points, judged)
