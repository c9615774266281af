"""Plausible reports: the figures of a ResNeXt-50 (FACTS: 1e-6 at the stem, 1e-3 at stage 4)."""

from __future__ import annotations

import dataclasses

from parity.verdict import PairResult, StageResult, Status, SubjectResult, first_divergence
from parity.floor import Floor
from parity.report.model import (
    InputFacts,
    Level,
    Outcome,
    Report,
    SubjectFacts,
    WeightFacts,
    conclude,
    numerics,
)

SUBJECTS = {"keras": 1.02, "torch": 1.0, "onnx-keras": 0.77, "onnx-torch": 0.76}
SHAPES = {
    "stem": (1, 64, 56, 56),
    "stage1": (1, 256, 56, 56),
    "stage2": (1, 512, 28, 28),
    "stage3": (1, 1024, 14, 14),
    "stage4": (1, 2048, 7, 7),
    "pool": (1, 2048),
    "logits": (1, 1000),
}
FLOORS = [3.6e-6, 2.1e-5, 7.0e-5, 3.9e-4, 9.7e-4, 6.1e-5, 3.7e-5]
RUNTIMES = {
    "keras": SubjectFacts("keras 3.15.1", "cpu", backend="tensorflow 2.21.0"),
    "torch": SubjectFacts("torch 2.13.0", "cpu"),
    "onnx-keras": SubjectFacts("onnxruntime 1.31.1", "cpu"),
    "onnx-torch": SubjectFacts("onnxruntime 1.31.1", "cpu", flags={"threads": 2}),
}


def stage(name: str, floor: float, *, wrong: dict[str, SubjectResult] | None = None) -> StageResult:
    """One stage at which every subject but the wrong ones is about at the floor."""
    subjects = {
        subject: SubjectResult(Status.AT_FLOOR, ratio * floor, ratio * 1e-6, ratio, ratio * 0.9)
        for subject, ratio in SUBJECTS.items()
    }
    subjects |= wrong or {}
    top = max(r.max_abs for r in subjects.values() if r.status is not Status.MISSING)
    pairs = {"keras|torch": PairResult(1.3 * top, 1e-6), "torch|onnx-torch": PairResult(top, 1e-6)}
    return StageResult(
        name, name, f"{name}.out", SHAPES[name], Floor(1e-6, floor, 5, 1.0), subjects, pairs
    )


def _report(stages: list[StageResult], **changes: object) -> Report:
    levels = {
        "structure": Level(Outcome.PASS),
        "weights": Level(Outcome.PASS),
        "semantics": Level(Outcome.SKIPPED),
        "numerics": numerics(stages),
    }
    report = Report(
        verdict=conclude(subjects=RUNTIMES, levels=levels, stages=stages),
        model="resnext50_32x4d",
        reference="torch",
        input=InputFacts("photo", (1, 3, 224, 224), "ab" * 32, "grace_hopper.jpg"),
        weights=WeightFacts("cd" * 32, 25_028_904, "random (seed 0)"),
        subjects=RUNTIMES,
        levels=levels,
        stages=tuple(stages),
        first_divergence=first_divergence(stages),
        environment={"python": "Python 3.11.7", "system": "Linux x86_64", "cpus": "2 cores"},
        seconds=9.64,
    )
    return dataclasses.replace(report, **changes)  # type: ignore[arg-type]


def parity() -> Report:
    """Four subjects at seven stages, all at the floor."""
    return _report([stage(name, floor) for name, floor in zip(SHAPES, FLOORS, strict=True)])


def divergence() -> Report:
    """Keras and its graph are wrong from stage 1 on, and the graph is NaN from stage 4 on."""
    stages = []
    for at, (name, floor) in enumerate(zip(SHAPES, FLOORS, strict=True)):
        wrong = {}
        if at >= 1:
            off = SubjectResult(
                Status.DIVERGED,
                0.31 / at,
                0.1,
                2.4e5 / at**3,
                1.5e4 / at**3,
                (0, 12, 3, 55),
                1.625,
                1.3125,
            )
            wrong = {"keras": off, "onnx-keras": off}
        if at >= 4:
            wrong["onnx-keras"] = SubjectResult(
                Status.NON_FINITE,
                worst=(0,) * len(SHAPES[name]),
                actual=float("nan"),
                expected=0.25,
                wrong=3,
                message="3 of 100352 values are NaN or Inf and not so in the reference",
            )
        stages.append(stage(name, floor, wrong=wrong))
    return _report(stages)


def unknown() -> Report:
    """Keras could not be run, so its rows are missing."""
    missing = {"keras": SubjectResult(Status.MISSING)}
    stages = [stage(name, floor, wrong=missing) for name, floor in zip(SHAPES, FLOORS, strict=True)]
    failed = dataclasses.replace(RUNTIMES["keras"], failure="the process was killed by signal 9")
    subjects = {**RUNTIMES, "keras": failed}
    report = _report(stages, subjects=subjects)
    verdict = conclude(subjects=subjects, levels=report.levels, stages=stages)
    return dataclasses.replace(report, verdict=verdict)


SAMPLES = {"parity": parity, "divergence": divergence, "unknown": unknown}
