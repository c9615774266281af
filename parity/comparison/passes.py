"""Comparison of a large image folder in several passes, with bounded memory.

Each pass is a separate comparison with its own floor: images differ in scale, and floors with them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.comparison.judging import judge_captures
from parity.comparison.labels import compare_labels
from parity.comparison.results import LabelAgreement
from parity.comparison.runner import Runner
from parity.comparison.semantics import try_float64
from parity.comparison.state import Comparison, State
from parity.errors import ParityError
from parity.network import inputs
from parity.numerics.floor import REPLICATES
from parity.numerics.measurement import PairResult
from parity.numerics.verdict import PointResult, SubjectResult, find_failing_subjects
from parity.text import describe_remaining

LATER_REPLICATES = 2
"""Float32 runs for the floor of a later pass; a pass that differs is measured with all runs."""


@dataclass(frozen=True)
class PassResults:
    """The results of all passes: at each comparison point the worst of them.

    `state` and `detail_stages` belong to the pass whose captures are on disk, which later steps
    (isolation, explanation) examine.
    """

    state: State
    stages: list[PointResult]
    detail_stages: list[PointResult]
    decision: LabelAgreement | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pass:
    """One pass: its items, its input file and its comparison."""

    items: slice
    label: str
    input: Path
    comparison: Comparison


def compare_remaining_passes(
    state: State, comparison: Comparison, runner: Runner, stages: list[PointResult]
) -> PassResults:
    """Run the passes after the first, whose result is `stages`.

    If only a later pass differs, its captures replace those on disk, so that the difference can be
    located.
    """
    row = comparison.table.points("stage")[-1].row
    decision = compare_labels(row, comparison.reference.capture, comparison.captures)
    if not state.request.needs_passes(state.input):
        return PassResults(state, stages, stages, decision)
    whole, detail_stages = state.input.array, stages
    detail_items = inputs.split_into_passes(len(whole))[0]
    remaining = _RemainingPasses(state, comparison, runner)
    for first_run, few_stages in remaining.run(whole):
        current, pass_stages = first_run, few_stages
        if find_failing_subjects(pass_stages) - find_failing_subjects(stages):
            # The floor is of few runs: measure all replicates before a difference is reported.
            current = _measure_all_replicates(first_run, runner)
            pass_stages = _judge_pass(current.comparison)
        capture, captures = current.comparison.reference.capture, current.comparison.captures
        labels = compare_labels(row, capture, captures)
        decision = decision and labels and _merge_labels(decision, labels, current.items)
        if find_failing_subjects(pass_stages) and not find_failing_subjects(detail_stages):
            detail_stages, detail_items = pass_stages, current.items
            np.save(runner.input, whole[current.items])
            remaining.state = _capture_detail(remaining.state, runner)
        stages = [
            _merge_point_results(known, new, current.items.start)
            for known, new in zip(stages, pass_stages, strict=True)
        ]
    undetailed = find_failing_subjects(stages) - find_failing_subjects(detail_stages)
    count = len(inputs.split_into_passes(len(whole)))
    notes = [
        f"{len(whole)} items were compared in {count} passes, each with its own floor: "
        f"{LATER_REPLICATES} float32 runs after the first pass, {REPLICATES} where "
        "a pass differs. Each figure is the worst of all passes; the floor shown is that of the "
        "first pass. Layers, isolation, float64 and repeats use items "
        f"{detail_items.start + 1} to {detail_items.stop}"
    ]
    notes += [
        f"{name} differs only in other items, which were not examined further: compare them alone"
        for name in sorted(undetailed)
    ]
    total = [replace(stage, shape=(len(whole), *stage.shape[1:])) for stage in stages]
    return PassResults(remaining.state, total, detail_stages, decision, tuple(notes))


class _RemainingPasses:
    """The passes after the first; a subject that fails in one is excluded from later passes."""

    def __init__(self, state: State, comparison: Comparison, runner: Runner) -> None:
        self.state = state
        self.comparison = comparison
        self.runner = runner

    def run(self, whole: NDArray[np.float32]) -> Iterator[tuple[_Pass, list[PointResult]]]:
        """Yield every later pass and its result; a pass is judged while the next one runs."""
        with ThreadPoolExecutor(1) as judges:
            previous: tuple[_Pass, Future[list[PointResult]]] | None = None
            start = time.perf_counter()
            passes = inputs.split_into_passes(len(whole))[1:]
            for number, items in enumerate(passes):
                left = describe_remaining(number, len(passes), time.perf_counter() - start)
                text = f"items {items.start + 1} to {items.stop} of {len(whole)}{left}"
                self.runner.progress("parity", text)
                # Two files in turn: one pass is read while the next is written.
                current = self._run_pass(whole, items, f"pass{number % 2}")
                if previous is not None:
                    yield previous[0], previous[1].result()
                previous = current, judges.submit(_judge_pass, current.comparison)
            if previous is not None:
                yield previous[0], previous[1].result()

    def _run_pass(self, whole: NDArray[np.float32], items: slice, label: str) -> _Pass:
        path = self.runner.folder / f"{label}.npy"
        np.save(path, whole[items])
        runner = self.runner.with_input(path)
        rows, captures = self.comparison.rows, {}
        subjects = list(self.state.subjects)
        with runner.children.threads(len(subjects) + 1) as pool:
            reference = pool.submit(runner.run_reference, rows, label, replicates=LATER_REPLICATES)
            runs = {name: pool.submit(runner.run_subject, name, rows, label) for name in subjects}
            for name, run in runs.items():
                try:
                    captures[name] = run.result().path
                except ParityError as error:
                    # The earlier passes are not the whole folder, so they give no verdict.
                    self._exclude(name, error)
            comparison = replace(self.comparison, reference=reference.result(), captures=captures)
        return _Pass(items, label, path, comparison)

    def _exclude(self, subject: str, error: ParityError) -> None:
        self.state = replace(
            self.state,
            failures={**self.state.failures, subject: error},
            subjects={n: run for n, run in self.state.subjects.items() if n != subject},
        )


def _capture_detail(state: State, runner: Runner) -> State:
    """Capture the reference and all subjects again, on the input that is now on disk."""
    assert state.table is not None
    rows = [point.row for point in state.table.points(state.request.depth)]
    reference = runner.run_reference(rows, "capture", isolate=state.request.isolate)
    runner.run_subjects(list(state.subjects), rows, "capture")
    float64 = {name: try_float64(runner, name, rows, state.table) for name in state.float64}
    return replace(state, reference=reference, float64=float64)


def _measure_all_replicates(source: _Pass, runner: Runner) -> _Pass:
    """Return a pass with the floor of all replicates."""
    rows = source.comparison.rows
    other = runner.with_input(source.input)
    reference = other.run_reference(rows, source.label, reuse_capture=True)
    return replace(source, comparison=replace(source.comparison, reference=reference))


def _judge_pass(comparison: Comparison) -> list[PointResult]:
    reference = comparison.reference
    return judge_captures(
        reference.capture,
        reference.floors,
        comparison.captures,
        comparison.points,
        comparison.criteria,
    )


def _merge_point_results(known: PointResult, new: PointResult, start: int) -> PointResult:
    """Merge a point's results by the worst of each figure.

    The indices of `new` count from item `start` of the folder.
    """
    subjects = {
        name: _merge_results(result, _shift_index(new.subjects[name], start))
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


def _merge_results(known: SubjectResult, new: SubjectResult) -> SubjectResult:
    status = max(known.status, new.status, key=lambda status: status.severity)
    is_worse = (new.status.severity, new.max_abs) > (known.status.severity, known.max_abs)
    return replace(
        new if is_worse else known,
        status=status,
        max_abs=max(known.max_abs, new.max_abs),
        rel_l2=max(known.rel_l2, new.rel_l2),
        x_floor=max(known.x_floor, new.x_floor),
        x_floor_max=max(known.x_floor_max, new.x_floor_max),
        wrong=known.wrong + new.wrong,
    )


def _merge_labels(known: LabelAgreement, new: LabelAgreement, items: slice) -> LabelAgreement:
    """Merge the agreement of the items before `items` with that of `items`."""
    before, count = items.start, items.stop - items.start

    def mean(left: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
        return {
            name: (left[name] * before + right[name] * count) / items.stop
            for name in left
            if name in right
        }

    return LabelAgreement(
        top1=mean(known.top1, new.top1),
        top5=mean(known.top5, new.top5),
        margin=min(known.margin, new.margin),
        worst_ratio={
            name: max(ratio, new.worst_ratio.get(name, ratio))
            for name, ratio in known.worst_ratio.items()
        },
    )
