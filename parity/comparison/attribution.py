"""Attribution of a difference to a model, its exporter or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

from parity.comparison.judging import judge_captures
from parity.comparison.request import runtime_of, side_of
from parity.comparison.runner import Runner
from parity.comparison.semantics import is_explained_by_constant_rounding, run_and_judge_float64
from parity.comparison.state import Comparison
from parity.errors import ParityError
from parity.numerics.verdict import PointResult, find_first_failure
from parity.processes import registry
from parity.processes.subjects import is_model_of


def attribute_differences(
    comparison: Comparison, runner: Runner, stages: Sequence[PointResult]
) -> tuple[str, ...]:
    """Return a sentence for each model or graph that introduces a difference."""
    sentences = []
    # The first subject of each side: `keras@cpu` is a Keras model too.
    first_subjects = {
        (s.side, s.runs_graph): n for n, s in reversed(runner.request.subjects_by_name.items())
    }
    for side in registry.model_runtimes():
        label = registry.label(side)
        model, graph = first_subjects.get((side, False), side), first_subjects.get((side, True), "")
        in_model, in_graph = find_first_failure(stages, model), find_first_failure(stages, graph)
        if in_model is not None:
            sentence = f"the difference is in the {label} model, first at {in_model.name}"
            if in_graph is not None and _graph_matches_model(stages, model, graph):
                sentence += "; the graph exported from it computes the same"
            sentences.append(sentence)
            if in_graph is None or _graph_matches_model(stages, model, graph):
                continue
        if graph in comparison.captures and in_graph is not None:
            sentences.append(_attribute_graph(comparison, runner, graph, label, in_graph))
    return tuple(sentences)


def _graph_matches_model(stages: Sequence[PointResult], model: str, graph: str) -> bool:
    """Whether a graph differs from its own model by rounding alone."""
    for stage in stages:
        pair = stage.pairs.get(f"{model}|{graph}") or stage.pairs.get(f"{graph}|{model}")
        if pair is None or stage.floor is None:
            continue
        # Both differ by up to the floor, and an error that both have scales the rounding.
        own = stage.subjects[model].rel_l2
        if not pair.rel_l2 <= 8.0 * stage.floor.rel_l2 * max(1.0, own):
            return False
    return True


def _attribute_graph(
    comparison: Comparison, runner: Runner, graph: str, label: str, first: PointResult
) -> str:
    """Attribute a graph's difference to ONNX Runtime's optimiser, ONNX Runtime or the graph."""
    reference, points = comparison.reference, comparison.points
    plain = runner.run_subject(graph, comparison.rows, "unoptimised", optimise=False)
    stages = judge_captures(
        reference.capture, reference.floors, {graph: plain.path}, points, comparison.criteria
    )
    where = f"{graph} differs first at {first.name}"
    runtime = registry.label(runtime_of(graph))
    evaluator = registry.label(registry.graph_evaluator())
    if find_first_failure(stages, graph) is None:
        return (
            f"{where}: {runtime}'s graph optimiser, since with all optimisations off the same "
            "graph is at the floor"
        )
    try:
        float64_stages = run_and_judge_float64(comparison, runner, graph, "attribution-float64")
    except ParityError as error:
        return f"{where}: the exported graph or {runtime}; which of them is unknown: {error}"
    if is_explained_by_constant_rounding(float64_stages, graph):
        return (
            f"{where}: {runtime}, since the same graph evaluated in float64 by {evaluator} agrees "
            "with the reference"
        )
    side = side_of(graph)
    models = {name for name in comparison.captures if is_model_of(name, graph)}
    if not models and side != runner.request.reference_side:
        return (
            f"{where}: the {label} model or the graph exported from it, not {runtime}; add "
            f"{side} to --subjects to find out which"
        )
    return (
        f"{where}: the exported graph, not {label} and not {runtime}, since the graph evaluated "
        f"in float64 by {evaluator} differs from the reference too"
    )
