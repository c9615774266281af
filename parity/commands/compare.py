"""A comparison from beginning to end: start the children, run the subjects, judge, explain."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from parity.commands import saved_captures
from parity.comparison.attribution import attribute_differences
from parity.comparison.isolation import (
    isolate_failing_layers,
    locate_divergences,
    measure_isolated_errors,
)
from parity.comparison.judging import judge_captures
from parity.comparison.levels import judge_structure
from parity.comparison.passes import compare_remaining_passes
from parity.comparison.placement import Placement, confirm_placement, plan_placement
from parity.comparison.preparation import Preparation
from parity.comparison.profile import profile_worst_error
from parity.comparison.repeats import compare_other_inputs, measure_repeatability
from parity.comparison.request import Request
from parity.comparison.runner import Runner
from parity.comparison.semantics import judge_semantics
from parity.comparison.state import Comparison, State
from parity.errors import OutputError
from parity.explain import session
from parity.explain.cause import Cause
from parity.numerics import verdict
from parity.numerics.verdict import FirstDivergence, StageResult, find_failing_subjects
from parity.processes import cache
from parity.processes.children import Children
from parity.report.assembly import SEMANTICS_SKIPPED, Findings, assemble_report
from parity.report.model import Report

Progress = Callable[[str, str], None]


def compare(
    model: str | None = None, *, progress: Progress = lambda runtime, text: None, **options: Any
) -> Report:
    """Compare a model's subjects with the float64 reference and with each other.

    `model` and `options` are the fields of `Request`. Raises the `ParityError` of
    bad input; a runtime that cannot be had is told in the report, whose verdict is then `unknown`.
    """
    return run(Request(model=model, **options), progress=progress)


def run(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = lambda runtime, text: None,
) -> Report:
    """Do what `request` asks for; `children` may be importing their frameworks already.

    They must then have been started as `placement` says.
    """
    started = time.perf_counter()
    if request.cache:
        cache.require_ours()
    if request.save_captures is not None:
        saved_captures.require_ours(request.save_captures, request.subjects)
    with contextlib.ExitStack() as stack:
        if children is None:
            placement = plan_placement(request)
            children = stack.enter_context(
                Children(python=request.python, timeout=request.timeout, gpu=placement.gpu)
            )
            children.start(request.runtimes)
        placement = confirm_placement(placement or plan_placement(request), request, children)
        folder = stack.enter_context(_working_folder(request.save_captures))
        preparation = Preparation(request, children, folder, progress, placement)
        state, runner = preparation.run(), preparation.runner
        findings = Findings()
        if request.judge:
            state, findings = find(state, runner)
        structure = judge_structure(state, runner)
        report = assemble_report(state, findings, structure, time.perf_counter() - started)
        if request.save_captures is not None:
            _keep(state, request.save_captures, report)
    if request.cache:
        cache.prune()
    return report


@contextlib.contextmanager
def _working_folder(beside: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards; in `beside`, which captures are to be moved to."""
    if beside is not None:
        try:
            beside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{beside}: cannot be a folder: {error.strerror}") from error
    # Captures of a large model are gigabytes: where they stay, they need not be copied.
    with tempfile.TemporaryDirectory(prefix=".parity-", dir=beside) as name:
        yield Path(name)


def find(state: State, runner: Runner) -> tuple[State, Findings]:
    """Judge the captures; where something differs, find the layer, where it enters, and why.

    Also the state of what is on disk afterwards: of a folder of photographs, one pass.
    """
    comparison = state.comparison
    if comparison is None:
        return state, Findings()
    request = state.request
    stages = judge_captures(
        comparison.reference.capture,
        comparison.reference.floors,
        comparison.captures,
        comparison.points,
        comparison.criteria,
    )
    passes = compare_remaining_passes(state, comparison, runner, stages)
    # Of a folder, one pass is looked into; what all of them show is put together at the end.
    state, stages = passes.state, passes.detail_stages
    comparison = state.comparison or comparison
    found = _look_further(state, comparison, runner, stages)
    trials, spread = compare_other_inputs(
        comparison, runner, _image_shape(state), seeds=request.seeds, stress=request.stress
    )
    semantics = SEMANTICS_SKIPPED
    if request.semantics:
        failures = {
            n: error for n in request.subjects if (error := state.find_failure(n)) is not None
        }
        semantics = judge_semantics(comparison, runner, state.float64, failures)
    again = (
        measure_repeatability(comparison, runner, request.repeat) if request.repeat > 1 else None
    )
    return state, replace(
        found,
        stages=_with_isolated(passes.stages, found.stages),
        semantics=semantics,
        decision=passes.decision,
        repeat=again,
        trials=trials,
        spread=spread,
        notes=passes.notes,
    )


def _look_further(
    state: State, comparison: Comparison, runner: Runner, stages: list[StageResult]
) -> Findings:
    """Isolate, locate, attribute and explain what `stages` show."""
    request, captures = state.request, comparison.captures
    differs = verdict.find_first_divergence(stages) is not None
    causes: tuple[Cause, ...] = ()
    if request.explain and (differs or state.failures):
        causes = session.explain_runs(state, comparison, runner, stages)
    # A compiled model's parts cannot be fed, and what is explained needs no look at its layers.
    explained = {cause.subject for cause in causes}
    explain = request.explain and not request.xla
    explain = explain and not (differs and find_failing_subjects(stages) <= explained)
    if captures and (request.isolate or (explain and differs)):
        stages, captures = measure_isolated_errors(comparison, runner, stages)
    layers = isolate_failing_layers(comparison, runner, stages) if differs else None
    divergences: tuple[FirstDivergence, ...] = ()
    attribution: tuple[str, ...] = ()
    by_numbers: session.NumericProofs = frozenset()
    structural = session.StructuralCauses()
    if request.explain:
        structural = session.explain_structure(state, comparison, runner, layers)
    if differs:
        divergences = locate_divergences(comparison, runner, stages, layers)
        attribution = attribute_differences(comparison, runner, stages)
        if explain and layers is not None:
            known = {(n, layer.row) for n, layer in layers.failures() if n in explained}
            numeric, by_numbers = session.explain_layers(
                state, comparison, runner, layers, stages, structural.explained | known
            )
            causes += numeric
            causes += session.explain_float64(state, comparison, runner, layers)
    elif explain and captures:
        causes += session.explain_float64(state, comparison, runner)
    return Findings(
        stages=tuple(stages),
        divergences=divergences,
        attribution=attribution,
        causes=causes + structural.describe(by_numbers),
        profile=profile_worst_error(
            stages, comparison.reference.capture, captures, comparison.criteria.precisions
        ),
    )


def _image_shape(state: State) -> tuple[int, int, int]:
    channels, height, width = state.input.array.shape[1:]
    return channels, height, width


def _with_isolated(
    whole: Sequence[StageResult], inspected: Sequence[StageResult]
) -> tuple[StageResult, ...]:
    """All passes' figures, with the isolated ones of the pass that was looked into."""
    return tuple(
        replace(stage, isolated=looked.isolated, isolated_floor=looked.isolated_floor)
        for stage, looked in zip(whole, inspected, strict=True)
    )


def _keep(state: State, folder: Path, report: Report) -> None:
    """Move the captures to where the user wants them."""
    comparison = state.comparison
    if comparison is None:
        return
    saved_captures.keep(
        folder,
        {**comparison.captures, saved_captures.REFERENCE: comparison.reference.capture},
        report,
        points=comparison.points,
        floors=comparison.reference.floors,
        gaps={name: run.instrumentation_gap for name, run in state.subjects.items()},
    )
