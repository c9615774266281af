"""A folder of many photographs, compared some at a time, so that memory does not grow with it.

Each pass is a comparison of its own, with a floor of its own: photographs differ in scale, and a
floor with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.comparison.judging import judge
from parity.comparison.labels import decide_labels
from parity.comparison.results import Decision
from parity.comparison.runner import Runner
from parity.comparison.semantics import try_float64
from parity.comparison.state import Comparison, State
from parity.errors import ParityError
from parity.network import inputs
from parity.numerics.floor import REPLICATES
from parity.numerics.measurement import PairResult
from parity.numerics.verdict import StageResult, SubjectResult, failing_subjects

FEW = 2
"""Float32 runs that a later pass's floor is measured on, unless it differs by that floor."""


@dataclass(frozen=True)
class Passes:
    """What all passes together show, at each comparison point the worst of them.

    `state` is that of the pass whose captures are on disk, and `inspected` its results: where to
    look further.
    """

    state: State
    stages: list[StageResult]
    inspected: list[StageResult]
    decision: Decision | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pass:
    """One pass: which items it has, its input file, and what ran on it."""

    items: slice
    label: str
    input: Path
    comparison: Comparison


def compare_remaining_passes(
    state: State, comparison: Comparison, runner: Runner, stages: list[StageResult]
) -> Passes:
    """Run what the first pass, whose result is `stages`, has left of the input.

    Where only a later pass differs, that one's captures are on disk afterwards, so that whoever
    looks for the layer looks where it can be found.
    """
    row = comparison.table.points("stage")[-1].row
    decision = decide_labels(row, comparison.reference.capture, comparison.captures)
    if not state.request.streams(state.input):
        return Passes(state, stages, stages, decision)
    whole, inspected = state.input.array, stages
    looked = inputs.split_into_passes(len(whole))[0]
    remaining = _Remaining(state, comparison, runner)
    for first, by_few in remaining.run(whole):
        done, found = first, by_few
        if failing_subjects(found) - failing_subjects(stages):
            # By the floor of few runs: before it is reported, all of them are made.
            done = _measure_all_replicates(first, runner)
            found = _judge(done.comparison)
        capture, captures = done.comparison.reference.capture, done.comparison.captures
        labels = decide_labels(row, capture, captures)
        decision = decision and labels and _merge_decisions(decision, labels, done.items)
        if failing_subjects(found) and not failing_subjects(inspected):
            inspected, looked = found, done.items
            np.save(runner.input, whole[done.items])
            remaining.state = _capture_again(remaining.state, runner)
        stages = [_worst(a, b, done.items.start) for a, b in zip(stages, found, strict=True)]
    elsewhere = failing_subjects(stages) - failing_subjects(inspected)
    count = len(inputs.split_into_passes(len(whole)))
    notes = [
        f"{len(whole)} items in {count} passes, each with a floor of its "
        f"own (of {FEW} float32 runs after the first pass, of {REPLICATES} where it differs): each "
        "figure is the worst of them, the floor shown is the first one's; what is looked at "
        f"further (layers, isolation, float64, repeats) is items {looked.start + 1} to "
        f"{looked.stop}"
    ]
    notes += [f"{name} differs in other items only, which were not looked into: give them alone"
              for name in sorted(elsewhere)]  # fmt: skip
    total = [replace(stage, shape=(len(whole), *stage.shape[1:])) for stage in stages]
    return Passes(remaining.state, total, inspected, decision, tuple(notes))


class _Remaining:
    """The passes after the first; a subject that fails in one is left out of those behind it."""

    def __init__(self, state: State, comparison: Comparison, runner: Runner) -> None:
        self.state = state
        self.comparison = comparison
        self.runner = runner

    def run(self, whole: NDArray[np.float32]) -> Iterator[tuple[_Pass, list[StageResult]]]:
        """Every later pass and its result; one is measured while the next one runs."""
        with ThreadPoolExecutor(1) as measuring:
            before: tuple[_Pass, Future[list[StageResult]]] | None = None
            for number, items in enumerate(inputs.split_into_passes(len(whole))[1:]):
                text = f"items {items.start + 1} to {items.stop} of {len(whole)}"
                self.runner.progress("parity", text)
                # Two places in turn: one pass is read while the next is written.
                done = self._run_pass(whole, items, f"pass{number % 2}")
                if before is not None:
                    yield before[0], before[1].result()
                before = done, measuring.submit(_judge, done.comparison)
            if before is not None:
                yield before[0], before[1].result()

    def _run_pass(self, whole: NDArray[np.float32], items: slice, label: str) -> _Pass:
        path = self.runner.folder / f"{label}.npy"
        np.save(path, whole[items])
        runner = self.runner.on(path)
        rows, captures = self.comparison.rows, {}
        subjects = list(self.state.subjects)
        with runner.children.threads(len(subjects) + 1) as pool:
            reference = pool.submit(runner.run_reference, rows, label, replicates=FEW)
            runs = {name: pool.submit(runner.run_subject, name, rows, label) for name in subjects}
            for name, run in runs.items():
                try:
                    captures[name] = run.result().path
                except ParityError as error:
                    # What it has passed so far is not the whole folder: that is no verdict.
                    self._leave_out(name, error)
            found = replace(self.comparison, reference=reference.result(), captures=captures)
        return _Pass(items, label, path, found)

    def _leave_out(self, subject: str, error: ParityError) -> None:
        self.state = replace(
            self.state,
            failures={**self.state.failures, subject: error},
            subjects={n: run for n, run in self.state.subjects.items() if n != subject},
        )


def _capture_again(state: State, runner: Runner) -> State:
    """Capture everything anew, of the input that is on disk now."""
    assert state.table is not None
    rows = [point.row for point in state.table.points(state.request.depth)]
    reference = runner.run_reference(rows, "capture", isolate=state.request.isolate)
    runner.run_subjects(list(state.subjects), rows, "capture")
    float64 = {name: try_float64(runner, name, rows, state.table) for name in state.float64}
    return replace(state, reference=reference, float64=float64)


def _measure_all_replicates(done: _Pass, runner: Runner) -> _Pass:
    """A pass with the floor of as many float32 runs as any comparison has."""
    rows = done.comparison.rows
    again = runner.on(done.input).run_reference(rows, done.label, given=True)
    return replace(done, comparison=replace(done.comparison, reference=again))


def _judge(comparison: Comparison) -> list[StageResult]:
    reference = comparison.reference
    return judge(
        reference.capture,
        reference.floors,
        comparison.captures,
        comparison.points,
        comparison.criteria,
    )


def _worst(known: StageResult, new: StageResult, start: int) -> StageResult:
    """The larger figure of each kind; indices count from the folder's first item."""
    subjects = {
        name: _worse(result, _shift_index(new.subjects[name], start))
        for name, result in known.subjects.items()
        if name in new.subjects
    }
    pairs = {
        name: PairResult(
            max(pair.max_abs, new.pairs[name].max_abs), max(pair.rel_l2, new.pairs[name].rel_l2)
        )
        for name, pair in known.pairs.items()
        if name in new.pairs
    }
    return replace(known, subjects=subjects, pairs=pairs)


def _shift_index(result: SubjectResult, start: int) -> SubjectResult:
    if result.worst is None:
        return result
    item, *place = result.worst
    return replace(result, worst=(item + start, *place))


def _worse(known: SubjectResult, new: SubjectResult) -> SubjectResult:
    status = max(known.status, new.status, key=lambda found: found.severity)
    ranked = (new.status.severity, new.max_abs) > (known.status.severity, known.max_abs)
    shown = new if ranked else known
    return replace(
        shown,
        status=status,
        max_abs=max(known.max_abs, new.max_abs),
        rel_l2=max(known.rel_l2, new.rel_l2),
        x_floor=max(known.x_floor, new.x_floor),
        x_floor_max=max(known.x_floor_max, new.x_floor_max),
        wrong=known.wrong + new.wrong,
    )


def _merge_decisions(known: Decision, new: Decision, items: slice) -> Decision:
    """Labels over all: `known` is of those before `items`, `new` of these."""
    before, more = items.start, items.stop - items.start

    def share(left: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
        return {
            name: (left[name] * before + right[name] * more) / items.stop
            for name in left
            if name in right
        }

    return Decision(
        top1=share(known.top1, new.top1),
        top5=share(known.top5, new.top5),
        margin=min(known.margin, new.margin),
        worst_ratio={
            name: max(ratio, new.worst_ratio.get(name, ratio))
            for name, ratio in known.worst_ratio.items()
        },
    )
