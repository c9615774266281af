"""What a comparison says beside its verdict: labels, where the worst error lies, other inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.comparison import investigate, profile
from parity.comparison.flow import Flow
from parity.network import inputs
from parity.numerics.capture import CaptureReader
from parity.numerics.verdict import StageResult, Status
from parity.report.model import Decision, Profile, Repeat, Trial

Array = NDArray[np.float64]


def decision(flow: Flow) -> Decision | None:
    """Whether the errors of the final output can change a label; None where there are no classes.

    A label can flip from where an error reaches half the distance of the two largest logits.
    """
    captures = {name: run.capture for name, run in flow.subjects.items()}
    return labels(flow, flow.reference.result().capture, captures)


def labels(flow: Flow, reference: Path, captures: Mapping[str, Path]) -> Decision | None:
    """What `decision` says, of these captures."""
    row = flow.table.result().cuts("stage")[-1].row.name
    with CaptureReader(reference) as reader:
        expected = reader.read(row).astype(np.float64)
    if expected.ndim != 2 or expected.shape[1] < 2:
        return None
    ranked = np.sort(expected, axis=1)
    margin = float((ranked[:, -1] - ranked[:, -2]).min())
    top1, top5, ratio = {}, {}, {}
    for name, path in captures.items():
        with CaptureReader(path) as reader:
            actual = reader.read(row).astype(np.float64)
        if actual.shape != expected.shape:
            continue
        top1[name] = float((actual.argmax(axis=1) == expected.argmax(axis=1)).mean())
        top5[name] = _same_best(actual, expected, 5)
        error = float(np.abs(actual - expected).max())
        ratio[name] = 2.0 * error / margin if margin else float("inf")
    return Decision(top1, top5, margin, ratio)


def _same_best(actual: Array, expected: Array, count: int) -> float:
    """The fraction of the batch whose `count` best classes are the same, in any order."""
    count = min(count, expected.shape[1])
    pairs = zip(actual.argsort(axis=1), expected.argsort(axis=1), strict=True)
    same = [set(left[-count:]) == set(right[-count:]) for left, right in pairs]
    return float(np.mean(same))


def worst_profile(flow: Flow, stages: Sequence[StageResult]) -> Profile | None:
    """Where in its tensor the worst error lies: in isolation where that was measured."""
    isolated = bool(stages) and bool(stages[0].isolated)
    candidates = [
        (result.x_floor_max, index, name)
        for index, stage in enumerate(stages)
        for name, result in (stage.isolated if isolated else stage.subjects).items()
        if result.status is not Status.MISSING and result.message is None
    ]
    if not candidates:
        return None
    # Of equally bad ones the first: what comes behind may have inherited it.
    _, index, name = max(candidates, key=lambda found: (found[0], -found[1]))
    stage = stages[index]
    floor = stage.isolated_floor if isolated else stage.floor
    label = "isolated" if isolated else "capture"
    with (
        CaptureReader(flow.reference.result().capture) as expected,
        CaptureReader(flow.captures.path(name, label)) as actual,
    ):
        if actual.shape(stage.row) != expected.shape(stage.row):
            return None
        return profile.measure(
            actual=actual.read(stage.row),
            expected=expected.read(stage.row),
            stage=stage.name,
            row=stage.row,
            subject=name,
            floor_max=0.0 if floor is None else floor.scaled(flow.precisions[name]).max_abs,
        )


def repeat(flow: Flow, runs: int) -> Repeat:
    """Run every subject again, and count the runs that are not bit for bit the first one."""
    rows = flow.rows()
    differed = dict.fromkeys(flow.subjects, 0)
    for _ in range(runs - 1):
        again = flow.captures.subjects(list(flow.subjects), rows, "repeat")
        for name, path in again.items():
            differed[name] += _checksums(path) != _checksums(flow.subjects[name].capture)
    return Repeat(runs, differed)


def _checksums(path: Path) -> Mapping[str, str]:
    with CaptureReader(path) as reader:
        checksums: Mapping[str, str] = reader.manifest["checksums"]
        return checksums


def trials(
    flow: Flow, *, seeds: int, stress: bool
) -> tuple[tuple[Trial, ...], dict[str, tuple[float, float]]]:
    """The same comparison on seeded and on stress inputs.

    Also, by cut, the least and largest `x_floor` over the seeded inputs and all subjects.
    """
    shape = flow.input.result().array.shape[1:]
    image = (shape[0], shape[1], shape[2])
    found: list[Trial] = []
    ratios: dict[str, list[float]] = {}
    for seed in range(1, seeds + 1):
        data = inputs.load("random", image, seed=flow.request.seed + seed).array
        stages = _compare_on(flow, f"seed {seed}", data)
        found.append(_trial(f"seed {flow.request.seed + seed}", data.shape, stages))
        for stage in stages:
            ratios.setdefault(stage.name, []).extend(
                result.x_floor for result in stage.subjects.values()
            )
    if stress:
        for name, data in inputs.stress(image).items():
            found.append(_trial(name, data.shape, _compare_on(flow, name, data)))
    return tuple(found), {name: (min(held), max(held)) for name, held in ratios.items()}


def _compare_on(flow: Flow, label: str, data: NDArray[np.float32]) -> list[StageResult]:
    flow.progress("parity", f"input {label}")
    path = flow.folder / "trial.npy"
    np.save(path, data)
    captures = flow.captures.on(path)
    rows = flow.rows()
    reference = captures.reference(rows, "trial")
    made = captures.subjects(list(flow.subjects), rows, "trial")
    cuts = flow.table.result().cuts(flow.request.depth)
    return investigate.compare(flow, reference.capture, reference.floors, made, cuts)


def _trial(name: str, shape: tuple[int, ...], stages: Sequence[StageResult]) -> Trial:
    status, x_floor, x_max, subject, stage = max(
        (
            (result.status, result.x_floor, result.x_floor_max, who, stage.name)
            for stage in stages
            for who, result in stage.subjects.items()
        ),
        key=lambda found: (found[0].severity, max(found[1], found[2])),
    )
    return Trial(name, shape, status, subject, stage, x_floor, x_max)
