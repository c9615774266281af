"""`parity.compare` of any models: load, read, align, run, judge, explain, report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from parity.commands import saved_captures
from parity.commands.class_names import (
    IMAGENET,
    NamedPredictions,
    name_predictions,
    read_class_names,
)
from parity.commands.values import Progress, no_progress
from parity.comparison.graphs.devices import plan_devices
from parity.comparison.graphs.inputs import is_image
from parity.comparison.graphs.isolation import (
    IsolatedRows,
    criteria,
    isolate_failing_layers,
    isolate_stages,
    locate_divergences,
)
from parity.comparison.graphs.model_store import (
    CAUSES,
    CHECK,
    ModelStore,
    hash_file,
    open_store,
)
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.reference_tensors import ReferenceTensors
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.restoration import Restoration
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.semantics import judge_semantics
from parity.comparison.graphs.state import GraphState, PreparedModels
from parity.comparison.graphs.structure import (
    PairDifference,
    find_differences,
    is_same_function,
    leave_out_shared,
    list_inputs,
    summarise,
)
from parity.comparison.graphs.trials import compare_other_inputs, measure_repeatability
from parity.comparison.graphs.weights import WeightDifference, compare_weights
from parity.comparison.judging import judge_captures
from parity.comparison.labels import ends_in_softmax, predict_first
from parity.comparison.placement import Placement
from parity.comparison.plain_data import decode, encode
from parity.comparison.results import Level, Outcome
from parity.comparison.settings import OWN, RANDOM
from parity.comparison.state import ReferenceRun, SubjectCapture
from parity.comparison.stated_models import read_stated_models
from parity.errors import SUBJECT_ERRORS, ParityError
from parity.explain import graph_layers
from parity.explain.cause import Cause
from parity.numerics.verdict import FirstDivergence, PointResult, find_first_divergence
from parity.processes.cache import Cache, prune
from parity.processes.children import Children
from parity.processes.references import WEIGHTS
from parity.report.graph_assembly import GraphFindings, assemble_graph_report, describe_unpaired
from parity.report.model import Report


def compare_graphs(
    request: GraphRequest,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Run a comparison of models that references name; return its report.

    `children` may have been started before, with the GPU setting of `placement`; without that they
    see no GPU, so that every model then runs on the CPU.

    Raises a `ParityError` for bad input, and `AlignmentError` where two models have nothing in
    common. A model that cannot be run is a `failure` in the report.
    """
    report, _ = run_graph_comparison(
        request, children=children, placement=placement, progress=progress
    )
    return report


def run_graph_comparison(
    request: GraphRequest,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = no_progress,
) -> tuple[Report, dict[str, Path]]:
    """Run a comparison; return its report and its saved captures, by subject and ``reference``.

    The parameters are those of `compare_graphs`.
    """
    start = time.perf_counter()
    names = [name for name, _, _ in request.name_models()]
    if request.labels is not None:
        read_class_names(request.labels)
    if request.save_captures is not None:
        saved_captures.require_replaceable(request.save_captures, names)
    files: dict[str, Path] = {}
    with contextlib.ExitStack() as stack:
        if children is None:
            placement = plan_devices(request)
            children = stack.enter_context(
                Children(python=request.python, timeout=request.timeout, gpu=placement.uses_gpu)
            )
        folder = stack.enter_context(saved_captures.create_capture_folder(request.save_captures))
        placement = placement or Placement({})
        preparation = Preparation(request, children, folder, progress, placement=placement)
        preparation.start()
        cache = Cache(request.cache)
        store = open_store(request, cache, folder, uses_gpu=placement.uses_gpu)
        prepared, restoration = _restore(store, children, progress, stack)
        is_new = prepared is None
        if prepared is None:
            prepared = preparation.prepare()
            store = _read_sources(store, children, prepared)
        state = preparation.build_state(prepared)
        runner = GraphRunner(state, children, folder, progress, store, restoration)
        state, findings = judge_models(state, runner)
        if request.judge:
            findings = _compare_again(replace(runner, state=state), findings, preparation)
        notes = [*findings.notes, *cache.notes]
        if restoration is not None:
            state = restoration.complete(state)
        if store is not None and store.note is not None:
            notes.append(store.note)
        findings = replace(findings, notes=tuple(notes))
        report = assemble_graph_report(state, findings, time.perf_counter() - start)
        if store is not None and is_new and not preparation.failures:
            store.keep_models(prepared)
        if request.save_captures is not None:
            files = _move_captures(state, findings, report, request.save_captures)
    if store is not None:
        prune()
    return report, files


def _read_sources(
    store: ModelStore | None, children: Children, prepared: PreparedModels
) -> ModelStore | None:
    """Return the store once it knows the source of prepared models; None where that is unknown."""
    try:
        if store is not None:
            store.read_sources(children, prepared)
    except ParityError:
        return None
    return store


def _restore(
    store: ModelStore | None,
    children: Children,
    progress: Progress,
    stack: contextlib.ExitStack,
) -> tuple[PreparedModels | None, Restoration | None]:
    """Return the models of an earlier run, and what has begun to load them; None for neither."""
    prepared = None if store is None else store.find_models()
    if prepared is None:
        return None, None
    restoration = Restoration(prepared, children, progress)
    restoration.begin(stack.enter_context(children.threads(len(prepared.models))))
    return prepared, restoration


def _compare_again(
    runner: GraphRunner, findings: GraphFindings, preparation: Preparation
) -> GraphFindings:
    """Repeat the comparison on the same inputs and on others, as far as the request asks for it."""
    runs = findings.runs or {}
    repeats = runner.state.request.repeat
    try:
        if repeats > 1:
            findings = replace(findings, repeat=measure_repeatability(runner, runs, repeats))
    except SUBJECT_ERRORS as error:
        findings = replace(findings, notes=(*findings.notes, f"the runs stopped: {error}"))
    try:
        trials = compare_other_inputs(runner, list(runs), preparation.read_at)
    except SUBJECT_ERRORS as error:
        return replace(findings, notes=(*findings.notes, f"other inputs were not tried: {error}"))
    return replace(
        findings,
        trials=tuple(trials.results),
        spread=trials.spread,
        notes=(*findings.notes, *trials.notes),
    )


def _move_captures(
    state: GraphState, findings: GraphFindings, report: Report, folder: Path
) -> dict[str, Path]:
    """Move the captures into the user's folder; return their files."""
    if not findings.runs or findings.reference is None:
        return {}
    captures = {name: run.path for name, run in findings.runs.items()}
    return saved_captures.move_captures(
        folder,
        {**captures, saved_captures.REFERENCE: findings.reference.capture},
        report,
        points=state.table.points(state.request.depth, list(state.models)),
        outputs=state.table.outputs,
        floors=findings.reference.floors,
        instrumentation_gaps={},
    )


def judge_models(state: GraphState, runner: GraphRunner) -> tuple[GraphState, GraphFindings]:
    """Run the reference and the subjects; judge, locate and explain their differences.

    A request that is not judged ends with the captures.
    """
    request = state.request
    with runner.children.threads(1) as pool:
        # The children run the models while the weights are compared.
        weights = (
            pool.submit(_find_weight_differences, state, runner.store) if request.judge else None
        )
        state, runs, reference = _run_all(state, runner)
    runner = replace(runner, state=state)
    findings = GraphFindings(runs=runs, reference=reference)
    if weights is None:
        return state, findings
    points = state.table.points(request.depth, list(state.models))
    stages = judge_captures(
        reference.capture,
        reference.floors,
        {name: run.path for name, run in runs.items()},
        points,
        criteria(state),
    )
    differences = {n: each for n, each in weights.result().items() if n in state.models}
    level = _judge_weights(differences)
    findings = replace(findings, stages=tuple(stages), weights=level)
    named = _predict(state, reference.capture, {name: run.path for name, run in runs.items()})
    findings = replace(
        findings,
        predictions=named.predictions,
        class_names=named.class_names,
        notes=(*findings.notes, *named.notes),
    )
    if request.semantics:
        level = judge_semantics(state, runner, reference)
        findings = replace(findings, semantics=level)
    try:
        unrelated = _find_unrelated_weights(state, differences)
        return state, _find_explanation(state, runner, findings, reference, unrelated)
    except ParityError as failure:
        # The verdict needs the captures alone, and these are judged.
        note = f"the differences were not examined further: {failure}"
        return state, replace(findings, notes=(*findings.notes, note))


def _predict(state: GraphState, reference: Path, captures: Mapping[str, Path]) -> NamedPredictions:
    """Return what the models predict of an image, if they are seen to be classifiers.

    An output of another number of features than ImageNet's classes may be anything, unless
    somebody names its classes or it is the probabilities of a softmax.
    """
    request, table = state.request, state.table
    first = next(iter(state.reference.inputs.arrays.values()), None)
    if first is None or not is_image(first.shape) or len(table.outputs) != 1:
        return NamedPredictions()
    (row,) = table.outputs
    shape = table.by_name(row).shape
    if len(shape) != 2:
        return NamedPredictions()
    paths = _list_checkpoints(request)
    named = name_predictions(
        predict_first(row, reference, captures),
        shape[1],
        given=request.labels,
        stated=read_stated_models(request.onnx_files),
        checkpoints=paths,
        has_trained_weights=not state.weight_source.startswith(RANDOM),
    )
    if named.class_names or shape[1] == IMAGENET or ends_in_softmax(row, reference):
        return named
    return NamedPredictions(notes=named.notes)


def _list_checkpoints(request: GraphRequest) -> list[Path]:
    """Return the checkpoints that a request names: for all models, and for each."""
    given = [request.weights] if request.weights not in (None, RANDOM, OWN) else []
    own = [reference.options.get(WEIGHTS) for _, _, reference in request.name_models()]
    return [Path(str(each)) for each in (*given, *own) if each is not None]


def _run_all(
    state: GraphState, runner: GraphRunner
) -> tuple[GraphState, dict[str, SubjectCapture], ReferenceRun]:
    """Run the reference and every subject side by side; the reference's own child does both.

    A subject that fails is kept as a failure, and the others are judged.
    """
    runs: dict[str, SubjectCapture] = {}
    failures = dict(state.failures)
    points = state.table.points(state.request.depth, list(state.models))
    with runner.children.threads(len(state.models) + 1) as pool:
        reference = pool.submit(
            runner.run_reference, points, "capture", isolate=state.request.isolate
        )
        futures = {
            name: pool.submit(runner.run_subject, name, points, "capture") for name in state.models
        }
        for name, future in futures.items():
            try:
                runs[name] = future.result()
            except SUBJECT_ERRORS as error:
                failures[name] = str(error)
        floors = reference.result()
    models = {name: model for name, model in state.models.items() if name in runs}
    return replace(state, models=models, failures=failures), runs, floors


def _find_explanation(
    state: GraphState,
    runner: GraphRunner,
    findings: GraphFindings,
    reference: ReferenceRun,
    unrelated: Mapping[str, str],
) -> GraphFindings:
    """Return the findings with what explains the differences: the search's result, or a kept one.

    A search's result is kept by the bits of every capture that it began with; the proofs of the
    causes are then left out, which only a repair needs.
    """
    store = runner.store
    if store is None:
        return _explain(state, runner, findings, reference, unrelated)
    captures = {name: run.path for name, run in (findings.runs or {}).items()}
    on = {
        "judgement": store.judgement,
        "captures": {name: hash_file(path) for name, path in captures.items()},
        "reference": hash_file(reference.capture),
        "floors": encode([reference.floors, reference.isolated_floors]),
        "failures": dict(state.failures),
    }
    kept = store.find_result(CAUSES, on)
    if kept is not None:
        fields = {name: decode(hint, kept[name]) for name, hint in _EXPLAINED.items()}
        notes = (*findings.notes, *decode(tuple[str, ...], kept["notes"]))
        return replace(findings, **fields, notes=notes)
    if runner.restoration is not None:
        runner.restoration.save_export_weights(state.models)
    found = _explain(state, runner, findings, reference, unrelated)
    if found.is_explained:
        data = {name: encode(getattr(found, name)) for name in _EXPLAINED}
        notes = encode(found.notes[len(findings.notes) :])
        store.keep_result(CAUSES, on, {**data, "notes": notes})
    return found


_EXPLAINED: Mapping[str, Any] = {
    "stages": tuple[PointResult, ...],
    "divergences": tuple[FirstDivergence, ...],
    "causes": tuple[Cause, ...],
    "followers": frozenset[tuple[str, str]],
    "structure": Level,
}
"""The fields of the findings that `_explain` gives, apart from its notes, and their types."""


def _explain(
    state: GraphState,
    runner: GraphRunner,
    findings: GraphFindings,
    reference: ReferenceRun,
    unrelated: Mapping[str, str],
) -> GraphFindings:
    request, stages = state.request, list(findings.stages)
    if request.isolate:
        stages = isolate_stages(state, runner, stages, reference)
    tensors = ReferenceTensors(state, runner)
    with contextlib.closing(tensors):
        findings = replace(findings, stages=tuple(stages))
        return _explain_with(state, runner, findings, tensors, unrelated)


def _explain_with(
    state: GraphState,
    runner: GraphRunner,
    findings: GraphFindings,
    tensors: ReferenceTensors,
    unrelated: Mapping[str, str],
) -> GraphFindings:
    request, stages = state.request, findings.stages
    differs = find_first_divergence(stages) is not None
    layers: IsolatedRows | None = None
    structure: Level | None = None
    explained = graph_layers.Explained()
    if differs:
        runner.progress("parity", "comparing the layers")
        with runner.children.threads(1) as pool:
            early = _EarlyStructure(state, tensors, pool)
            layers = isolate_failing_layers(state, runner, stages, early.begin)
            structure = early.finish()
    divergences = locate_divergences(state, stages, layers)
    failures = [] if layers is None else layers.failures()
    # Layers of other weights differ; their causes would be as many, and the same. An export has
    # those of its model.
    failures = [
        (name, result)
        for name, result in failures
        if name not in unrelated and state.models[name].subject.exported_from not in unrelated
        if layers is not None and (name, result.row) not in layers.shared
    ]
    if request.explain and layers is not None and failures:
        runner.progress("parity", "explaining")
        explained = graph_layers.explain_rows(state, runner, tensors, failures, layers)
    return replace(
        findings,
        divergences=divergences,
        causes=explained.causes,
        explanations=explained.findings,
        is_explained=explained.is_complete,
        followers=frozenset() if layers is None else layers.followers,
        structure=structure or _judge_structure(state, tensors, outputs_agree=not differs),
        notes=(
            *findings.notes,
            *unrelated.values(),
            *explained.notes,
            *describe_unpaired(state, explained.causes),
        ),
    )


def _find_weight_differences(
    state: GraphState, store: ModelStore | None
) -> dict[str, list[WeightDifference]]:
    """Return what `_compare_all_weights` does, of the same files what it did before."""
    if store is None:
        return _compare_all_weights(state)
    compared = [name for name, model in state.models.items() if not model.subject.exported_from]
    names = dict.fromkeys([state.reference.subject.name, *compared])
    on = {"files": {name: state.weight_files.hash(state.weights[name]) for name in names}}
    kept = store.find_result(CHECK, on)
    if kept is not None:
        found: dict[str, list[WeightDifference]] = decode(_DIFFERENCES, kept)
        return found
    differences = _compare_all_weights(state)
    store.keep_result(CHECK, on, encode(differences))
    return differences


_DIFFERENCES = dict[str, list[WeightDifference]]


def _compare_all_weights(state: GraphState) -> dict[str, list[WeightDifference]]:
    """Return the weights that differ from the reference's, by subject that has its own."""
    found = {}
    for name, alignment in state.alignments.items():
        if name in state.models and not state.models[name].subject.exported_from:
            # An export folds and renames weights; its numbers are judged.
            base = state.load_weights(state.reference.subject.name)
            found[name] = compare_weights(alignment, base, state.load_weights(name))
    return found


def _judge_weights(differences: Mapping[str, Sequence[WeightDifference]]) -> Level:
    """Judge level 2: every pair of weights is equal, bit for bit, in the reference's axes."""
    messages: list[str] = []
    for name, found in differences.items():
        if len(found) > 3:
            messages.append(
                f"{name}: {len(found)} weights differ, by up to "
                f"{np.max([d.largest for d in found]):.1e}; the first: "
                f"{found[0].message}"
            )
        else:
            messages += [f"{name}: {each.message}" for each in found]
    return Level(Outcome.FAIL, tuple(messages)) if messages else Level(Outcome.PASS)


def _find_unrelated_weights(
    state: GraphState, differences: Mapping[str, Sequence[WeightDifference]]
) -> dict[str, str]:
    """Return a sentence, by subject, for models most of whose weights are not the reference's."""
    found = {}
    for name, differing in differences.items():
        own = {each.name: len(each.shape) for each in state.models[name].graph.parameters}
        known = {pair.other for pair in state.alignments[name].weights}
        kernels = {other for other in known if own.get(other, 0) > 1}
        others = {each.pair.other for each in differing} & kernels
        if len(kernels) >= _FEW_WEIGHTS and 2 * len(others) > len(kernels):
            found[name] = (
                f"{name} holds other weights than {state.reference.subject.name}: "
                f"{len(others)} of {len(kernels)} kernels differ. No layer of it "
                "is explained; --weights copies one model's weights into all"
            )
    return found


_FEW_WEIGHTS = 4
"""With fewer kernels, most of them differ by one fault."""


class _EarlyStructure:
    """Judges the structure of models that differ while their layers run in isolation."""

    def __init__(self, state: GraphState, tensors: ReferenceTensors, pool: Executor) -> None:
        self._state = state
        self._tensors = tensors
        self._pool = pool
        self._level: Future[Level | None] | None = None

    def begin(self, capture: Path) -> None:
        """Begin with the reference's layers, which `capture` holds."""
        self._tensors.add_capture(capture)
        self._level = self._pool.submit(self._judge)

    def finish(self) -> Level | None:
        """Return the level; None where it needs what the explanation may make known."""
        return None if self._level is None else self._level.result()

    def _judge(self) -> Level | None:
        differences = _find_all_differences(self._state)
        if any(each not in self._tensors for each in _list_inputs(self._state, differences)):
            return None
        return _judge_differences(self._state, differences, self._tensors)


def _judge_structure(
    state: GraphState, tensors: ReferenceTensors, *, outputs_agree: bool = False
) -> Level:
    """Judge level 1: a difference fails only if it can change a number at these shapes."""
    differences = _find_all_differences(state)
    with contextlib.suppress(ParityError):
        # Without them a difference stands.
        tensors.require(_list_inputs(state, differences))
    return _judge_differences(state, differences, tensors, outputs_agree=outputs_agree)


def _find_all_differences(state: GraphState) -> list[PairDifference]:
    return [
        difference
        for name, alignment in state.alignments.items()
        if name in state.models
        for difference in find_differences(state.reference, state.models[name], alignment)
    ]


def _list_inputs(state: GraphState, differences: Sequence[PairDifference]) -> list[str]:
    return list_inputs(state.reference.graph, differences)


def _judge_differences(
    state: GraphState,
    differences: Sequence[PairDifference],
    tensors: ReferenceTensors,
    *,
    outputs_agree: bool = False,
) -> Level:
    missing = _list_missing_outputs(state)
    if not differences:
        return Level(Outcome.FAIL, tuple(missing)) if missing else Level(Outcome.PASS)
    values = state.load_weights(state.reference.subject.name)
    failing, same, training = [], [], []
    # The exported graph has most differences of its model.
    known: dict[tuple[str, ...], bool | None] = {}
    for each in differences:
        if each.training_only:
            training.append(each)
            continue
        key = (
            *(each.reference_node, each.field, repr(each.value), repr(each.hyper)),
            repr(each.is_part),
        )
        if key not in known:
            known[key] = is_same_function(
                state.reference.graph, each, tensors, values, outputs_agree=outputs_agree
            )
        is_same = known[key]
        if is_same or is_same is None:
            # What cannot be evaluated alone is judged by its numbers, as every layer is.
            same.append(each)
        else:
            failing.append(each)
    sources = {name: model.subject.exported_from for name, model in state.models.items()}
    failing, same, training = (
        leave_out_shared(each, sources) for each in (failing, same, training)
    )
    messages = [*missing, *summarise(failing)]
    messages += [f"written differently, same function: {line}" for line in summarise(same)]
    messages += [f"differs in training: {line}" for line in summarise(training)]
    return Level(Outcome.FAIL if failing or missing else Outcome.PASS, tuple(messages))


def _list_missing_outputs(state: GraphState) -> list[str]:
    """Return a sentence for each output of one model that has no partner in the other."""
    found = []
    base = state.reference
    for name, alignment in state.alignments.items():
        if name not in state.models:
            continue
        own = {port.name for port in state.models[name].graph.outputs}
        known = {port.name for port in base.graph.outputs}
        lost = [port for port in known if alignment.outputs.get(port) not in own]
        surplus = own - set(alignment.outputs.values())
        for ports, owner, other in (
            (lost, base.subject.name, name),
            (surplus, name, base.subject.name),
        ):
            found += [
                f"the output '{port}' of {owner} has no partner in {other}"
                for port in sorted(ports)
            ]
    return found
