"""A folder of many photographs, compared some at a time, so that memory does not grow with it.

The first pass is a comparison like any other, floor and all. A later one is screened by the first
one's floor, and where it comes near the limit it is judged by a floor of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity import details, inputs, investigate
from parity.captures import Captures, Reference
from parity.flow import Flow
from parity.measuring import PairResult
from parity.report.model import Decision
from parity.verdict import StageResult, Status, SubjectResult

SCREEN = 0.75
"""The share of the limit from which a pass gets a floor of its own."""

_ORDER = list(Status)


@dataclass(frozen=True)
class Passes:
    """What all passes together say: at each cut the worst of them."""

    stages: list[StageResult]
    decision: Decision | None
    note: str | None = None


@dataclass(frozen=True)
class _Pass:
    """One pass: which items it has, and its captures."""

    items: slice
    input: Path
    reference: Path
    captures: Mapping[str, Path]


def rest(flow: Flow, stages: list[StageResult]) -> Passes:
    """Run what the first pass, whose result is `stages`, has left of the input.

    Where only a later pass differs, `flow` holds that one afterwards, so that whoever looks for
    the layer looks where it can be found.
    """
    decision = details.decision(flow)
    if not flow.in_passes:
        return Passes(stages, decision)
    whole, first = flow.input.result().array, flow.reference.result()
    found = _wrong(stages)
    for done, told in _judged(flow, whole, first):
        labels = details.labels(flow, done.reference, done.captures)
        decision = decision and labels and _merged(decision, labels, done.items)
        if _wrong(told) and not found:
            found = True
            np.save(flow.captures.input, whole[done.items])
            flow.capture_again()
        stages = [_worst(a, b, done.items.start) for a, b in zip(stages, told, strict=True)]
    count = len(inputs.passes(len(whole)))
    note = (
        f"{len(whole)} items in {count} passes: each figure is the worst of them; "
        "the floor is the first one's, and a pass that came near the limit had its own"
    )
    total = [replace(stage, shape=(len(whole), *stage.shape[1:])) for stage in stages]
    return Passes(total, decision, note)


def _judged(
    flow: Flow, whole: NDArray[np.float32], first: Reference
) -> Iterator[tuple[_Pass, list[StageResult]]]:
    """Every later pass and its result; one is measured while the next one runs."""
    with ThreadPoolExecutor(1) as measuring:
        before: tuple[_Pass, Future[list[StageResult]]] | None = None
        for number, items in enumerate(inputs.passes(len(whole))[1:]):
            flow.progress("parity", f"items {items.start + 1} to {items.stop} of {len(whole)}")
            # Two places in turn: one pass is read while the next is written.
            done = _run(flow, whole, items, f"pass{number % 2}")
            if before is not None:
                yield _settled(flow, *before)
            before = done, measuring.submit(_compare, flow, done, first)
        if before is not None:
            yield _settled(flow, *before)


def _run(flow: Flow, whole: NDArray[np.float32], items: slice, label: str) -> _Pass:
    path = flow.folder / f"{label}.npy"
    np.save(path, whole[items])
    captures: Captures = flow.captures.on(path)
    rows = flow.rows()
    with ThreadPoolExecutor(1) as pool:
        reference = pool.submit(captures.reference, rows, label, replicates=0)
        made = captures.subjects(list(flow.subjects), rows, label)
        return _Pass(items, path, reference.result().capture, made)


def _settled(
    flow: Flow, done: _Pass, screened: Future[list[StageResult]]
) -> tuple[_Pass, list[StageResult]]:
    stages = screened.result()
    if not _near(stages, flow.request.limit * SCREEN):
        return done, stages
    captures = flow.captures.on(done.input)
    return done, _compare(flow, done, captures.reference(flow.rows(), done.input.stem))


def _compare(flow: Flow, done: _Pass, reference: Reference) -> list[StageResult]:
    """Judge a pass by the floors of `reference`, its own or the first one's."""
    cuts = flow.table.result().cuts(flow.request.depth)
    return investigate.compare(flow, done.reference, reference.floors, done.captures, cuts)


def _near(stages: Sequence[StageResult], bound: float) -> bool:
    return any(
        not result.status.passes or max(result.x_floor, result.x_floor_max) > bound
        for stage in stages
        for result in stage.subjects.values()
    )


def _wrong(stages: Sequence[StageResult]) -> bool:
    return any(not r.status.passes for stage in stages for r in stage.subjects.values())


def _worst(known: StageResult, new: StageResult, start: int) -> StageResult:
    """The larger figure of each kind; indices count from the folder's first item."""
    subjects = {
        name: _worse(result, _shifted(new.subjects[name], start))
        for name, result in known.subjects.items()
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
    status = max(known.status, new.status, key=_ORDER.index)
    ranked = (_ORDER.index(new.status), new.max_abs) > (_ORDER.index(known.status), known.max_abs)
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
