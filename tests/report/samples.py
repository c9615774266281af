"""Plausible reports: the figures of a ResNeXt-50 (errors of 1e-6 at the stem, 1e-3 at stage 4)."""

from __future__ import annotations

import dataclasses
import math

from parity.comparison.levels import judge_points
from parity.network import architectures
from parity.numerics.floor import Floor
from parity.numerics.verdict import (
    FirstDivergence,
    PairResult,
    PointResult,
    Status,
    SubjectResult,
    find_first_divergence,
)
from parity.report.model import (
    Cause,
    ErrorMap,
    InputFacts,
    InputTrial,
    LabelAgreement,
    Level,
    Outcome,
    PairedLayer,
    Prediction,
    Repeatability,
    Report,
    SubjectFacts,
    WeightFacts,
    decide_verdict,
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


def stage(name: str, floor: float, *, wrong: dict[str, SubjectResult] | None = None) -> PointResult:
    """One stage at which every subject but the wrong ones is about at the floor."""
    subjects = {
        subject: SubjectResult(Status.AT_FLOOR, ratio * floor, ratio * 1e-6, ratio, ratio * 0.9)
        for subject, ratio in SUBJECTS.items()
    }
    subjects |= wrong or {}
    top = max(r.max_abs for r in subjects.values() if r.status is not Status.MISSING)
    pairs = {"keras|torch": PairResult(1.3 * top, 1e-6), "torch|onnx-torch": PairResult(top, 1e-6)}
    return PointResult(
        name, name, f"{name}.out", SHAPES[name], Floor(1e-6, floor, 5, 1.0), subjects, pairs
    )


def _report(stages: list[PointResult], **changes: object) -> Report:
    levels = {
        "structure": Level(Outcome.PASS),
        "weights": Level(Outcome.PASS),
        "semantics": Level(Outcome.SKIPPED),
        "numerics": judge_points(stages),
    }
    report = Report(
        verdict=decide_verdict(subjects=RUNTIMES, levels=levels, stages=stages),
        model="resnext50_32x4d",
        reference="torch",
        input=InputFacts("photo", (1, 3, 224, 224), "ab" * 32, "grace_hopper.jpg"),
        weights=WeightFacts("cd" * 32, 25_028_904, "random (seed 0)"),
        subjects=RUNTIMES,
        levels=levels,
        stages=tuple(stages),
        first_divergence=find_first_divergence(stages),
        environment={
            "parity": "0.1.0",
            "python": "3.11.7",
            "system": "Linux 6.18.44",
            "machine": "x86_64",
            "processor": "Intel(R) Xeon(R) CPU @ 2.50GHz",
            "cores": 2,
            "versions": {"torch": {"torch": "2.13.0+cpu", "python": "3.11.7"}},
        },
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
                message="3 of 100352 values are NaN or Inf, unlike the reference's",
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
    verdict = decide_verdict(subjects=subjects, levels=report.levels, stages=stages)
    return dataclasses.replace(report, verdict=verdict)


def full() -> Report:
    """Keras wrong by itself at stage 1, its graph at stage 3: every field of the report is used."""
    stages = []
    for at, (name, floor) in enumerate(zip(SHAPES, FLOORS, strict=True)):
        wrong, alone = {}, {}
        clean = SubjectResult(Status.AT_FLOOR, 0.9 * floor, 0.9e-6, 0.9, 0.8)
        off = SubjectResult(Status.DIVERGED, 2.1e-2, 3e-4, 310.0, 96.0, (0, 7, 0, 3), 1.02, 1.0)
        if at >= 1:
            wrong["keras"] = off
        if at >= 3:
            wrong["onnx-keras"] = dataclasses.replace(off, x_floor=math.inf)
        for subject in SUBJECTS:
            faulty = (subject, at) in {("keras", 1), ("onnx-keras", 3)}
            alone[subject] = off if faulty else clean
        found = stage(name, floor, wrong=wrong)
        floors = Floor(4e-7, 0.4 * floor, 5, 1.0)
        stages.append(dataclasses.replace(found, isolated=alone, isolated_floor=floors))
    return _report(
        stages,
        divergences=(
            FirstDivergence("keras", "stage1", "stage1.block0.conv2", "stage1", ("keras",)),
            FirstDivergence("onnx-keras", "stage3", "stage3.block1.bn2", "stage3", ("onnx-keras",)),
        ),
        attribution=("keras: the framework's own run differs; its graph in ONNX Runtime does not",),
        profile=border_profile(),
        decision=LabelAgreement(
            dict.fromkeys(SUBJECTS, 1.0),
            {name: 0.5 if name == "keras" else 1.0 for name in SUBJECTS},
            0.0125,
            {"keras": 3.4, "torch": 0.01, "onnx-keras": math.inf, "onnx-torch": 0.01},
        ),
        predictions={
            "reference": Prediction(652, 0.873, "military uniform"),
            "keras": Prediction(457, 0.004, "bow tie"),
            "torch": Prediction(652, 0.873, "military uniform"),
            "onnx-torch": Prediction(652, 0.873, "military uniform"),
        },
        class_names="ImageNet's, from torchvision",
        repeat=Repeatability(3, {"keras": 0, "torch": 0, "onnx-keras": 2, "onnx-torch": 0}),
        trials=(
            InputTrial("seed 1", (1, 3, 224, 224), Status.AT_FLOOR, "torch", "stage4", 1.1, 0.9),
            InputTrial("zeros", (1, 3, 224, 224), Status.DIVERGED, "keras", "stage1", 41.0, 7.5),
            InputTrial(
                "large", (1, 3, 224, 224), Status.NON_FINITE, None, None, math.inf, math.inf
            ),
        ),
        spread=dict.fromkeys(SHAPES, (0.71, 1.21)),
        command=("parity", "compare", "resnext50_32x4d", "--isolate", "--html", "my report.html"),
        causes=(
            Cause(
                "stage1.block0.conv2",
                "keras",
                "same-padding",
                {"x_floor_before": 310.0},
                "SAME. Remedy: pad by 1",
                "pad by 1",
            ),
        ),
    )


def long(count: int = 347, *, wrong: bool = False) -> Report:
    """A report at depth layer: as long as that of a ResNeXt-101, isolated errors included."""
    template = full() if wrong else parity()
    stages = []
    for at in range(count):
        of = template.stages[at * len(template.stages) // count]
        name = f"{of.name}.block{at % 23}.layer{at}"
        stages.append(dataclasses.replace(of, name=name, row=name))
    return dataclasses.replace(template, stages=tuple(stages), depth="layer")


def resnext101() -> Report:
    """A report at depth layer with each layer of the registered ResNeXt-101, in its shape.

    Errors, isolated errors and causes are those of `full`; the layers of both models stand beside
    each other.
    """
    template = full()
    rows = [each for each in architectures.get("resnext101_32x8d").table().rows if each.torch]
    of_stage = dict(zip(dict.fromkeys(row.stage for row in rows), template.stages, strict=True))
    stages, layers = [], []
    for at, row in enumerate(rows):
        name, shape = row.name, (1, *row.shape)
        stages.append(dataclasses.replace(of_stage[row.stage], name=name, row=name, shape=shape))
        # Most layers have one input, a join two.
        inputs = {side: (max(at - 1, 0), max(at - 3, 0)) for side in ("torch", "keras")}
        layers.append(
            PairedLayer(row.kind, shape, {"torch": row.torch, "keras": row.keras}, inputs)
        )
    return dataclasses.replace(
        template,
        model="resnext101_32x8d",
        stages=tuple(stages),
        layers=tuple(layers),
        depth="layer",
    )


def border_profile() -> ErrorMap:
    """A padding fault: the error sits on the top and left border, and in three channels."""
    return ErrorMap(
        stage="stage1",
        row="stage1.block1.relu3",
        subject="keras",
        shape=SHAPES["stage1"],
        spatial=tuple(
            tuple(2.1e-2 if 0 in (h, w) else 1.5e-5 * (1 + (h * w) % 3) for w in range(56))
            for h in range(56)
        ),
        floor_max=2.1e-5,
        channels=tuple(2.1e-2 if c in (7, 80, 81) else 2e-5 + 1e-7 * (c % 9) for c in range(256)),
    )


SAMPLES = {"parity": parity, "divergence": divergence, "unknown": unknown}
