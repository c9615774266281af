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

from parity.comparison import details, investigate
from parity.comparison.captures import Captures, Reference
from parity.comparison.flow import Flow
from parity.errors import ParityError
from parity.network import inputs
from parity.numerics.floor import REPLICATES
from parity.numerics.measurement import PairResult
from parity.numerics.verdict import StageResult, SubjectResult, without_parity
from parity.report.model import Decision

FEW = 2
"""Float32 runs that a later pass's floor is measured on, unless it differs by that floor."""


@dataclass(frozen=True)
class Passes:
    """What all passes together say, at each cut the worst of them, and what one of them says.

    `held` are the cuts of the pass whose captures `flow` holds: where to look further.
    """

    stages: list[StageResult]
    held: list[StageResult]
    decision: Decision | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pass:
    """One pass: which items it has, its reference and its captures."""

    items: slice
    label: str
    input: Path
    reference: Reference
    captures: Mapping[str, Path]


def rest(flow: Flow, stages: list[StageResult]) -> Passes:
    """Run what the first pass, whose result is `stages`, has left of the input.

    Where only a later pass differs, `flow` holds that one afterwards, so that whoever looks for
    the layer looks where it can be found.
    """
    decision = details.decision(flow)
    if not flow.in_passes:
        return Passes(stages, stages, decision)
    whole, held, looked = flow.input.result().array, stages, inputs.passes(flow.items)[0]
    for first, by_few in _judged(flow, whole):
        done, told = first, by_few
        if without_parity(told) - without_parity(stages):
            # By the floor of few runs: before it is told, all of them are made.
            done = _measured(flow, first)
            told = _compare(flow, done)
        labels = details.labels(flow, done.reference.capture, done.captures)
        decision = decision and labels and _merged(decision, labels, done.items)
        if without_parity(told) and not without_parity(held):
            held, looked = told, done.items
            np.save(flow.captures.input, whole[done.items])
            flow.capture_again()
        stages = [_worst(a, b, done.items.start) for a, b in zip(stages, told, strict=True)]
    elsewhere = without_parity(stages) - without_parity(held)
    notes = [
        f"{len(whole)} items in {len(inputs.passes(len(whole)))} passes, each with a floor of its "
        f"own (of {FEW} float32 runs after the first pass, of {REPLICATES} where it differs): each "
        "figure is the worst of them, the floor shown is the first one's; what is looked at "
        f"further (layers, isolation, float64, repeats) is items {looked.start + 1} to "
        f"{looked.stop}"
    ]
    notes += [f"{name} differs in other items only, which were not looked into: give them alone"
              for name in sorted(elsewhere)]  # fmt: skip
    total = [replace(stage, shape=(len(whole), *stage.shape[1:])) for stage in stages]
    return Passes(total, held, decision, tuple(notes))


def _judged(flow: Flow, whole: NDArray[np.float32]) -> Iterator[tuple[_Pass, list[StageResult]]]:
    """Every later pass and its result; one is measured while the next one runs."""
    with ThreadPoolExecutor(1) as measuring:
        before: tuple[_Pass, Future[list[StageResult]]] | None = None
        for number, items in enumerate(inputs.passes(len(whole))[1:]):
            flow.progress("parity", f"items {items.start + 1} to {items.stop} of {len(whole)}")
            # Two places in turn: one pass is read while the next is written.
            done = _run(flow, whole, items, f"pass{number % 2}")
            if before is not None:
                yield before[0], before[1].result()
            before = done, measuring.submit(_compare, flow, done)
        if before is not None:
            yield before[0], before[1].result()


def _measured(flow: Flow, done: _Pass) -> _Pass:
    """A pass with the floor of as many float32 runs as any comparison has."""
    again = flow.captures.on(done.input).reference(flow.rows(), done.label, given=True)
    return replace(done, reference=again)


def _run(flow: Flow, whole: NDArray[np.float32], items: slice, label: str) -> _Pass:
    path = flow.folder / f"{label}.npy"
    np.save(path, whole[items])
    captures: Captures = flow.captures.on(path)
    rows, made = flow.rows(), {}
    with flow.children.threads(len(flow.subjects) + 1) as pool:
        reference = pool.submit(captures.reference, rows, label, replicates=FEW)
        runs = {name: pool.submit(captures.subject, name, rows, label) for name in flow.subjects}
        for name, run in runs.items():
            try:
                made[name] = run.result().path
            except ParityError as error:
                # What it has passed so far is not the whole folder: it could not be told.
                flow.failures[name] = error
                del flow.subjects[name]
        return _Pass(items, label, path, reference.result(), made)


def _compare(flow: Flow, done: _Pass) -> list[StageResult]:
    cuts = flow.table.result().cuts(flow.request.depth)
    reference = done.reference
    return investigate.compare(flow, reference.capture, reference.floors, done.captures, cuts)


def _worst(known: StageResult, new: StageResult, start: int) -> StageResult:
    """The larger figure of each kind; indices count from the folder's first item."""
    subjects = {
        name: _worse(result, _shifted(new.subjects[name], start))
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


def _shifted(result: SubjectResult, start: int) -> SubjectResult:
    if result.worst is None:
        return result
    item, *place = result.worst
    return replace(result, worst=(item + start, *place))


def _worse(known: SubjectResult, new: SubjectResult) -> SubjectResult:
    status = max(known.status, new.status, key=lambda each: each.severity)
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


def _merged(known: Decision, new: Decision, items: slice) -> Decision:
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
