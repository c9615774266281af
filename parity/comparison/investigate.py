"""What a comparison does beyond its cuts: isolate, drill down, run in float64, attribute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.comparison.captures import Reference, SubjectCapture
from parity.comparison.flow import Flow
from parity.comparison.request import side_of
from parity.errors import ParityError
from parity.network.table import Cut
from parity.numerics import verdict
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.verdict import FirstDivergence, StageResult, Status, SubjectResult
from parity.processes import registry
from parity.processes.subjects import is_model_of, runs_graph
from parity.report.model import Level, Outcome

SEMANTICS_SLACK = 2.0
"""Both sides of a float64 comparison round, the reference too, so twice the limit is allowed."""

_FOLDED = 2.0**29
"""One float32 floor, in floors of float64: what constants that were rounded once can add."""

BAD = (Status.DIVERGED, Status.NON_FINITE)


def compare(
    flow: Flow,
    reference: Path,
    floors: Mapping[str, Floor],
    captures: Mapping[str, Path],
    cuts: Sequence[Cut],
    *,
    precisions: Mapping[str, str] | None = None,
    slack: float = 1.0,
) -> list[StageResult]:
    """Judge captures on disk against the reference's."""
    with contextlib.ExitStack() as stack:
        readers = {
            name: stack.enter_context(CaptureReader(path)) for name, path in captures.items()
        }
        return verdict.compare(
            reference=stack.enter_context(CaptureReader(reference)),
            floors=floors,
            subjects=readers,
            cuts=cuts,
            limit=flow.request.limit * slack,
            precisions=flow.precisions if precisions is None else precisions,
        )


def isolate(flow: Flow, stages: Sequence[StageResult]) -> list[StageResult]:
    """Give every part between two cuts the reference's input, and add what each makes of it."""
    cuts = flow.table.result().cuts(flow.request.depth)
    rows = [cut.row.name for cut in cuts]
    reference = flow.reference.result()
    subjects = list(flow.subjects)
    if reference.isolated_floors:
        made = flow.captures.subjects(subjects, rows, "isolated", feed=reference.capture)
    else:
        # Nobody asked for isolation until something was found to differ: only that is looked at.
        subjects = [name for name in subjects if _first_bad(stages, name) is not None]
        with flow.children.threads(1) as pool:
            floors_of = pool.submit(
                flow.captures.reference,
                rows, "capture", isolate=True, accumulate=False, given=True,
            )  # fmt: skip
            made = flow.captures.subjects(subjects, rows, "isolated", feed=reference.capture)
            reference = floors_of.result()
    found = compare(flow, reference.capture, reference.isolated_floors, made, cuts)
    return [
        replace(stage, isolated=alone.subjects, isolated_floor=alone.floor)
        for stage, alone in zip(stages, found, strict=True)
    ]


def drill_down(
    flow: Flow, stages: Sequence[StageResult], layers: Layers | None
) -> tuple[FirstDivergence, ...]:
    """The first layer at which each subject differs, in execution order.

    With `layers`, those of `faulty_layers`, every stage that is wrong by itself was looked into, so
    that several independent faults of one subject are all named; else only each subject's first
    such stage is, since what comes after it may be inherited.
    """
    if layers is not None:
        return _faults(flow, stages, layers)
    suspects = {name: _first_bad(stages, name) for name in flow.subjects}
    suspects = {name: stage for name, stage in suspects.items() if stage is not None}
    if not suspects:
        return ()
    cuts = layers_of(flow, {stage.stage for stage in suspects.values() if stage is not None})
    reference, made = _capture_layers(flow, cuts, list(suspects), isolated=False)
    results = compare(flow, reference.capture, reference.floors, made, cuts)
    found = []
    for name, stage in suspects.items():
        assert stage is not None
        layer = _first_bad([cut for cut in results if cut.stage == stage.stage], name)
        found.append(_divergence(name, layer or stage, layer is not None))
    return _in_order(found, flow)


@dataclass(frozen=True)
class Layers:
    """Every layer of the stages that are wrong by themselves, each given the right input."""

    inside: frozenset[str]
    reference: Reference
    captures: Mapping[str, Path]
    results: Sequence[StageResult]

    def wrong(self) -> Iterator[tuple[str, StageResult]]:
        """Each subject and layer that is wrong though it is given the right input."""
        for layer in self.results:
            for name, result in layer.subjects.items():
                if layer.stage in self.inside and result.status in BAD:
                    yield name, layer


def faulty_layers(flow: Flow, stages: Sequence[StageResult]) -> Layers | None:
    """Look into the stages that are wrong by themselves; None if there are none."""
    wrong = _wrong_stages(stages)
    if not wrong:
        return None
    inside = frozenset(stage for _, stage in wrong)
    subjects = [name for name in flow.subjects if any(name == other for other, _ in wrong)]
    cuts = layers_of(flow, inside, others=True)
    reference, made = _capture_layers(flow, cuts, subjects, isolated=True)
    results = compare(flow, reference.capture, reference.isolated_floors, made, cuts)
    return Layers(inside, reference, made, results)


def _wrong_stages(stages: Sequence[StageResult]) -> set[tuple[str, str]]:
    return {
        (name, stage.stage)
        for stage in stages
        for name, alone in stage.isolated.items()
        if alone.status in BAD
    }


def _faults(
    flow: Flow, stages: Sequence[StageResult], layers: Layers
) -> tuple[FirstDivergence, ...]:
    """Every layer that is wrong though it is given the right input."""
    found = [_divergence(name, layer, True) for name, layer in layers.wrong()]
    told = {(fault.subject, fault.stage) for fault in found}
    for name, stage in _wrong_stages(stages) - told:
        # Each layer is within its own floor, but the stage is not: say as much as is known.
        result = next(cut for cut in stages if cut.stage == stage)
        found.append(_divergence(name, result, False))
    return _in_order(found, flow)


def layers_of(flow: Flow, stages: Iterable[str], *, others: bool = False) -> list[Cut]:
    """Every layer of `stages`; with `others`, also the ends of the other stages, to feed them."""
    table = flow.table.result()
    inside = set(stages)
    ends = {cut.row.name for cut in table.cuts("stage")} if others else set()
    return [cut for cut in table.cuts("layer") if cut.stage in inside or cut.row.name in ends]


def _capture_layers(
    flow: Flow, cuts: Sequence[Cut], subjects: Sequence[str], *, isolated: bool
) -> tuple[Reference, dict[str, Path]]:
    flow.progress("parity", "looking into the layers")
    rows = [cut.row.name for cut in cuts]
    label = "layers-isolated" if isolated else "layers"
    reference = flow.captures.reference(rows, label, isolate=isolated, accumulate=not isolated)
    feed = reference.capture if isolated else None
    return reference, flow.captures.subjects(subjects, rows, label, feed=feed)


def semantics(flow: Flow) -> Level:
    """Level 3: every model in float64, where a real difference stands far above rounding.

    A graph whose exporter folded constants holds their float32 roundings: one that is off by no
    more than the float32 floor passes, and the note says so.
    """
    reference = flow.reference.result()
    cuts = flow.table.result().cuts(flow.request.depth)
    notes: list[str] = []
    faulty: set[str] = set()
    # The models before their graphs: what a model has wrong, its graph has too.
    for name in sorted(flow.subjects, key=runs_graph):
        if name == flow.request.reference_side:
            continue
        done = flow.float64.get(name)
        if not isinstance(done, SubjectCapture):
            notes.append(f"{name}: not run in float64: {done or flow.failure(name)}")
            continue
        stages = _compare_float64(flow, name, done.path, reference, cuts)
        first = _first_bad(stages, name)
        worst = max(stage.subjects[name].rel_l2 for stage in stages)
        evaluator = registry.label(registry.graph_evaluator())
        how = f", its graph read into {evaluator}" if runs_graph(name) else ""
        if first is None:
            notes.append(f"{name}: the same in float64 to {worst:.1e}{how}")
            continue
        inherited = side_of(name) in faulty
        folded = all(stage.subjects[name].x_floor <= _FOLDED for stage in stages)
        if how and folded and not inherited:
            notes.append(
                f"{name}: the same in float64 to {worst:.1e}{how}; it holds constants that were "
                "rounded to float32"
            )
            continue
        faulty.add(name)
        notes.append(_semantic_fault(flow, name, first))
    if not notes:
        return Level(Outcome.SKIPPED, ("there is one model only",))
    if faulty:
        return Level(Outcome.FAIL, tuple(notes))
    compared = any("the same in float64" in note for note in notes)
    return Level(Outcome.PASS if compared else Outcome.SKIPPED, tuple(notes))


def _in_float64(
    flow: Flow, name: str, reference: Reference, cuts: Sequence[Cut], label: str
) -> list[StageResult]:
    rows = [cut.row.name for cut in cuts]
    done = flow.captures.in_float64(name, rows, label, flow.table.result())
    return _compare_float64(flow, name, done.path, reference, cuts)


def _compare_float64(
    flow: Flow, name: str, path: Path, reference: Reference, cuts: Sequence[Cut]
) -> list[StageResult]:
    return compare(
        flow,
        reference.capture,
        reference.floors,
        {name: path},
        cuts,
        precisions={name: "float64"},
        slack=SEMANTICS_SLACK,
    )


def _semantic_fault(flow: Flow, name: str, stage: StageResult) -> str:
    """Name the first layer of a stage that differs in float64."""
    cuts = layers_of(flow, [stage.stage])
    rows = [cut.row.name for cut in cuts]
    reference = flow.captures.reference(rows, "layers-float64")
    layers = _in_float64(flow, name, reference, cuts, "layers-float64-subject")
    layer = _first_bad(layers, name) or stage
    result = layer.subjects[name]
    return (
        f"{name}: differs in float64 first at {layer.row}: rel_l2 {result.rel_l2:.1e}, "
        f"max abs {result.max_abs:.1e}, where rounding explains "
        f"{result.rel_l2 / result.x_floor if result.x_floor else 0:.0e}"
    )


def blame(flow: Flow, stages: Sequence[StageResult]) -> tuple[str, ...]:
    """Sentences that say where a difference enters: in a model, an exporter or a runtime."""
    told = []
    for side in registry.model_runtimes():
        label = registry.label(side)
        # The first of each kind: `keras@cpu` is a Keras model like any.
        named = {(s.side, s.runs_graph): n for n, s in reversed(flow.request.parsed.items())}
        model, graph = named.get((side, False), side), named.get((side, True), "")
        model_first, graph_first = _first_bad(stages, model), _first_bad(stages, graph)
        if model_first is not None:
            sentence = f"the difference is in the {label} model, first at {model_first.name}"
            if graph_first is not None and _follows(stages, model, graph):
                sentence += "; the graph exported from it computes the same"
            told.append(sentence)
            if graph_first is None or _follows(stages, model, graph):
                continue
        if graph in flow.subjects and graph_first is not None:
            told.append(_blame_graph(flow, graph, label, graph_first))
    return tuple(told)


def _follows(stages: Sequence[StageResult], model: str, graph: str) -> bool:
    """Whether a graph is as close to its own model as rounding lets two runs be."""
    for stage in stages:
        pair = stage.pairs.get(f"{model}|{graph}") or stage.pairs.get(f"{graph}|{model}")
        if pair is None or stage.floor is None:
            continue
        # Both are off by up to the floor, and what one differs by scales with its own size.
        own = stage.subjects[model].rel_l2
        if not pair.rel_l2 <= 8.0 * stage.floor.rel_l2 * max(1.0, own):
            return False
    return True


def _blame_graph(flow: Flow, graph: str, label: str, first: StageResult) -> str:
    """Tell ONNX Runtime's optimiser, ONNX Runtime and the exported graph apart."""
    reference = flow.reference.result()
    cuts = flow.table.result().cuts(flow.request.depth)
    rows = [cut.row.name for cut in cuts]
    plain = flow.captures.subject(graph, rows, "unoptimised", optimise=False)
    stages = compare(flow, reference.capture, reference.floors, {graph: plain.path}, cuts)
    where = f"{graph} differs first at {first.name}"
    if _first_bad(stages, graph) is None:
        return (
            f"{where}: ONNX Runtime's graph optimiser, since with all optimisations off the same "
            "graph is at the floor"
        )
    try:
        exact = _in_float64(flow, graph, reference, cuts, "blame-float64")
    except ParityError as error:
        return f"{where}: the exported graph or ONNX Runtime; they cannot be told apart: {error}"
    if all(stage.subjects[graph].x_floor <= _FOLDED for stage in exact):
        return (
            f"{where}: ONNX Runtime, since the same graph evaluated in float64 by PyTorch agrees "
            "with the reference"
        )
    side = side_of(graph)
    models = {name for name in flow.subjects if is_model_of(name, graph)}
    if not models and side != flow.request.reference_side:
        return (
            f"{where}: the {label} model or the graph exported from it, not ONNX Runtime; add "
            f"{side} to --subjects to tell which"
        )
    return (
        f"{where}: the exported graph, not {label} and not ONNX Runtime, since the graph evaluated "
        "in float64 by PyTorch differs from the reference too"
    )


def _first_bad(stages: Iterable[StageResult], subject: str) -> StageResult | None:
    for stage in stages:
        result: SubjectResult | None = stage.subjects.get(subject)
        if result is not None and result.status in BAD:
            return stage
    return None


def _divergence(subject: str, stage: StageResult, is_layer: bool) -> FirstDivergence:
    layer = stage.row if is_layer or stage.name == stage.row else None
    return FirstDivergence(subject, stage.stage, layer, stage.name, (subject,))


def _in_order(found: Sequence[FirstDivergence], flow: Flow) -> tuple[FirstDivergence, ...]:
    """Sort by place in the network; subjects that differ at one place name each other."""
    order = {row.name: index for index, row in enumerate(flow.table.result().rows)}
    ends = {cut.stage: cut.row.name for cut in flow.table.result().cuts("stage")}
    shared: dict[tuple[str, str | None], list[str]] = {}
    for fault in found:
        shared.setdefault((fault.stage, fault.layer), []).append(fault.subject)
    return tuple(
        sorted(
            (replace(fault, subjects=tuple(shared[fault.stage, fault.layer])) for fault in found),
            key=lambda fault: order[fault.layer or ends[fault.stage]],
        )
    )
