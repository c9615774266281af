"""The same comparison again: on the same input, and on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.comparison.judging import judge
from parity.comparison.results import Repeat, Trial
from parity.comparison.runner import Runner
from parity.comparison.state import Comparison
from parity.network import inputs
from parity.numerics.capture import CaptureReader
from parity.numerics.verdict import StageResult


def repeat(comparison: Comparison, runner: Runner, runs: int) -> Repeat:
    """Run every subject again, and count the runs that are not bit for bit the first one."""
    differed = dict.fromkeys(comparison.captures, 0)
    for _ in range(runs - 1):
        again = runner.run_subjects(list(comparison.captures), comparison.rows, "repeat")
        for name, path in again.items():
            differed[name] += _checksums(path) != _checksums(comparison.captures[name])
    return Repeat(runs, differed)


def _checksums(path: Path) -> Mapping[str, str]:
    with CaptureReader(path) as reader:
        checksums: Mapping[str, str] = reader.manifest["checksums"]
        return checksums


def try_other_inputs(
    comparison: Comparison,
    runner: Runner,
    shape: tuple[int, int, int],
    *,
    seeds: int,
    stress: bool,
) -> tuple[tuple[Trial, ...], dict[str, tuple[float, float]]]:
    """Compare on `seeds` random inputs of `shape` (C, H, W), and with `stress` on odd ones.

    Also, by comparison point, the least and largest `x_floor` over the seeded inputs and all
    subjects.
    """
    found: list[Trial] = []
    ratios: dict[str, list[float]] = {}
    for number in range(1, seeds + 1):
        seed = runner.request.seed + number
        data = inputs.load("random", shape, seed=seed).array
        stages = _compare_on(comparison, runner, f"seed {number}", data)
        found.append(_trial(f"seed {seed}", data.shape, stages))
        for stage in stages:
            ratios.setdefault(stage.name, []).extend(
                result.x_floor for result in stage.subjects.values()
            )
    if stress:
        for name, data in inputs.stress_inputs(shape).items():
            found.append(_trial(name, data.shape, _compare_on(comparison, runner, name, data)))
    return tuple(found), {name: (min(held), max(held)) for name, held in ratios.items()}


def _compare_on(
    comparison: Comparison, runner: Runner, label: str, data: NDArray[np.float32]
) -> list[StageResult]:
    runner.progress("parity", f"input {label}")
    path = runner.folder / "trial.npy"
    np.save(path, data)
    other = runner.on(path)
    reference = other.run_reference(comparison.rows, "trial")
    captures = other.run_subjects(list(comparison.captures), comparison.rows, "trial")
    return judge(
        reference.capture, reference.floors, captures, comparison.points, comparison.criteria
    )


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
