"""Further runs of one comparison: on the same input, and on other inputs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.comparison.judging import judge_captures
from parity.comparison.results import InputTrial, Repeatability
from parity.comparison.runner import Runner
from parity.comparison.state import Comparison
from parity.network import inputs
from parity.numerics.capture import CaptureReader
from parity.numerics.verdict import PointResult
from parity.text import describe_remaining


def measure_repeatability(comparison: Comparison, runner: Runner, runs: int) -> Repeatability:
    """Run every subject again, and count the runs that differ from the first, bit for bit."""
    differed = dict.fromkeys(comparison.captures, 0)
    for _ in range(runs - 1):
        captures = runner.run_subjects(list(comparison.captures), comparison.rows, "repeat")
        for name, path in captures.items():
            differed[name] += read_checksums(path) != read_checksums(comparison.captures[name])
    return Repeatability(runs, differed)


def read_checksums(path: Path) -> Mapping[str, str]:
    """Return the checksums of a capture's tensors, by name."""
    with CaptureReader(path) as reader:
        checksums: Mapping[str, str] = reader.manifest["checksums"]
        return checksums


def compare_other_inputs(
    comparison: Comparison,
    runner: Runner,
    shape: tuple[int, int, int],
    *,
    seeds: int,
    stress: bool,
) -> tuple[tuple[InputTrial, ...], dict[str, tuple[float, float]]]:
    """Compare on `seeds` random inputs of `shape` (C, H, W), and on stress inputs if requested.

    Also returns, by comparison point, the smallest and the largest `x_floor` over the seeded inputs
    and all subjects.
    """
    trials: list[InputTrial] = []
    ratios: dict[str, list[float]] = {}
    patterns = inputs.make_stress_inputs(shape) if stress else {}
    total, start = seeds + len(patterns), time.perf_counter()

    def run_next(label: str, data: NDArray[np.float32]) -> list[PointResult]:
        left = describe_remaining(len(trials), total, time.perf_counter() - start)
        return _compare_on_input(
            comparison, runner, f"{label}, {len(trials) + 1} of {total}{left}", data
        )

    for number in range(1, seeds + 1):
        seed = runner.request.seed + number
        data = inputs.load("random", shape, seed=seed).array
        stages = run_next(f"seed {number}", data)
        trials.append(find_worst_result(f"seed {seed}", data.shape, stages))
        for stage in stages:
            ratios.setdefault(stage.name, []).extend(
                result.x_floor for result in stage.subjects.values()
            )
    for name, data in patterns.items():
        trials.append(find_worst_result(name, data.shape, run_next(name, data)))
    return tuple(trials), {name: (min(values), max(values)) for name, values in ratios.items()}


def _compare_on_input(
    comparison: Comparison, runner: Runner, label: str, data: NDArray[np.float32]
) -> list[PointResult]:
    runner.progress("parity", f"input {label}")
    path = runner.folder / "trial.npy"
    np.save(path, data)
    other = runner.with_input(path)
    reference = other.run_reference(comparison.rows, "trial")
    captures = other.run_subjects(list(comparison.captures), comparison.rows, "trial")
    return judge_captures(
        reference.capture, reference.floors, captures, comparison.points, comparison.criteria
    )


def find_worst_result(
    name: str, shape: tuple[int, ...], stages: Sequence[PointResult]
) -> InputTrial:
    """Return the worst result of a comparison on another input."""
    status, x_floor, x_max, subject, stage = max(
        (
            (result.status, result.x_floor, result.x_floor_max, who, stage.name)
            for stage in stages
            for who, result in stage.subjects.items()
        ),
        key=lambda result: (result[0].severity, max(result[1], result[2])),
    )
    return InputTrial(name, shape, status, subject, stage, x_floor, x_max)
