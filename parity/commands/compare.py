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
from parity.comparison.attribution import attribute
from parity.comparison.isolation import isolate, isolate_failing_layers, locate
from parity.comparison.judging import judge
from parity.comparison.levels import structure_level
from parity.comparison.passes import compare_remaining_passes
from parity.comparison.placement import Placement, confirm, plan
from parity.comparison.preparation import Preparation
from parity.comparison.profile import profile_worst
from parity.comparison.repeats import repeat, try_other_inputs
from parity.comparison.request import Request
from parity.comparison.runner import Runner
from parity.comparison.semantics import semantics_level
from parity.comparison.state import Comparison, State
from parity.errors import OutputError
from parity.explain import session
from parity.explain.cause import Cause
from parity.numerics import verdict
from parity.numerics.verdict import FirstDivergence, StageResult, failing_subjects
from parity.processes import cache
from parity.processes.children import Children
from parity.report.assembly import NO_SEMANTICS, Findings, assemble
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
            placement = plan(request)
            children = stack.enter_context(
                Children(python=request.python, timeout=request.timeout, gpu=placement.gpu)
            )
            children.start(request.runtimes)
        placement = confirm(placement or plan(request), request, children)
        folder = stack.enter_context(_working_folder(request.save_captures))
        preparation = Preparation(request, children, folder, progress, placement)
        state, runner = preparation.run(), preparation.runner
        findings = Findings()
        if request.judged:
            state, findings = find(state, runner)
        structure = structure_level(state, runner)
        report = assemble(state, findings, structure, time.perf_counter() - started)
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
    stages = judge(
        comparison.reference.capture,
        comparison.reference.floors,
        comparison.captures,
        comparison.points,
        comparison.criteria,
    )
    passes = compare_remaining_passes(state, comparison, runner, stages)
    # Of a folder, one pass is looked into; what all of them show is put together at the end.
    state, stages = passes.state, passes.inspected
    comparison = state.comparison or comparison
    found = _look_further(state, comparison, runner, stages)
    trials, spread = try_other_inputs(
        comparison, runner, _image_shape(state), seeds=request.seeds, stress=request.stress
    )
    semantics = NO_SEMANTICS
    if request.semantics:
        failures = {n: error for n in request.subjects if (error := state.failure(n)) is not None}
        semantics = semantics_level(comparison, runner, state.float64, failures)
    again = repeat(comparison, runner, request.repeat) if request.repeat > 1 else None
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
    differs = verdict.first_divergence(stages) is not None
    causes: tuple[Cause, ...] = ()
    if request.explain and (differs or state.failures):
        causes = session.explain_runs(state, comparison, runner, stages)
    # A compiled model's parts cannot be fed, and what is explained needs no look at its layers.
    explained = {cause.subject for cause in causes}
    explain = request.explain and not request.xla
    explain = explain and not (differs and failing_subjects(stages) <= explained)
    if captures and (request.isolate or (explain and differs)):
        stages, captures = isolate(comparison, runner, stages)
    layers = isolate_failing_layers(comparison, runner, stages) if differs else None
    divergences: tuple[FirstDivergence, ...] = ()
    blame: tuple[str, ...] = ()
    by_numbers: session.NumericProofs = frozenset()
    structural = session.StructuralFindings()
    if request.explain:
        structural = session.explain_structure(state, comparison, runner, layers)
    if differs:
        divergences = locate(comparison, runner, stages, layers)
        blame = attribute(comparison, runner, stages)
        if explain and layers is not None:
            known = {(n, layer.row) for n, layer in layers.failing() if n in explained}
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
        blame=blame,
        causes=causes + structural.describe(by_numbers),
        profile=profile_worst(
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
