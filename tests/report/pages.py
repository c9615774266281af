"""Every page that parity writes, with sample data: the report, training, evaluation, the sweep."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from parity.evaluation.results import ChangedImage, Evaluation, Label, ReferenceSample, SplitResult
from parity.evaluation.scores import Scores
from parity.report import evaluation, grid_page, training
from parity.report.formats import html
from parity.report.grid import CellResult, SweepResult
from parity.report.model import Report
from parity.training import history
from parity.training.callbacks import EpochMetrics
from parity.training.result import FrameworkResult, TrainingResult
from parity.training.steps import PartError, StepCause, StepComparison
from parity.training.verification import VerifiedStep
from tests.report.samples import divergence, full, parity, unknown
from tests.report.test_side_by_side import paired

# The smallest picture that a browser takes.
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def side_by_side() -> Report:
    """A difference with a cause, the layers of both models beside each other, and a user's file."""
    report = full()
    given = dataclasses.replace(report.subjects["onnx-torch"], file="my models/deployed.onnx")
    subjects = {**report.subjects, "onnx-torch": given}
    return dataclasses.replace(report, layers=paired(), subjects=subjects)


def trained(folder: Path) -> TrainingResult:
    """A training run with a step that differs, its cause, and curves with a band."""
    epochs = tuple(EpochMetrics(n, 1e-3, 0.5 / n, 0.5, 0.5 / n, 0.5) for n in (1, 2))
    parts = [PartError(kind, "fc.bias", 1e-14) for kind in ("samples", "loss", "gradient")]
    good = StepComparison(1, (*parts, PartError("update", "fc.bias", 1e-14)))
    wrong = StepComparison(2, (*parts, PartError("update", "fc.bias", 3.0)))
    cause = StepCause("epsilon", "ε is 1e-8", "set ε to 1e-7", float("inf"), 1e-14)
    result = TrainingResult(
        "resnet18", folder, ("a", "b"),
        tuple(FrameworkResult(name, epochs, 2, 0.75, 0, folder, folder, 2.0, 64)
              for name in ("keras", "torch")),
        ("a note",),
        verified_steps=(VerifiedStep(1, good, None), VerifiedStep(2, wrong, wrong, (cause,))),
        band={"loss": [(0.4, 0.6), (0.3, 0.4)]}, inside_band={"keras": (1, 2)},
    )  # fmt: skip
    history.write_picture(
        folder / "history.svg", "resnet18", {"keras": epochs, "torch": epochs}, result.band
    )
    return result


def evaluated() -> Evaluation:
    """An evaluation with a label that changes, a runtime that failed and an unreadable image."""
    scores = Scores(0.5, 0.9, 1.0, ((2, 0), (0, 1)))
    labels = {"torch": Label("cat", 0.9, 1.5), "keras": Label("dog", 0.6, 0.1)}
    changed = ChangedImage(3, "images/cat3.jpg", "cat", labels, labels["torch"], ("torch",))
    sample = ReferenceSample("torch", 3, 1, 1, {"torch": 1e-6, "keras": 1e-2}, 0.01)
    split = SplitResult("test", 3, {"torch": scores, "keras": scores}, (changed,), sample,
                        {"torch": 0.5, "keras": 0.7})  # fmt: skip
    return Evaluation(
        "resnet18", "w.safetensors", "photos", ("cat", "dog"), (split,),
        ("images/x.jpg: not a picture",), {"onnx": "no session"}, {"torch": "2.13"}, ("a note",),
    )  # fmt: skip


def swept() -> SweepResult:
    """A sweep with every shade's neighbours: parity, divergence, unknown and a cell not run."""
    places = (parity(), divergence(), unknown(), full(), None)
    cells = tuple(
        CellResult(f"model{at % 2}", f"env{at // 2}", "cpu", "float32", "photo", report,
                   None if report is not None else "torch is not installed", address=f"cell{at}")
        for at, report in enumerate(places)
    )  # fmt: skip
    return SweepResult(cells, 12.5, {"env0": 3.0}, "sweep", None, ("a note",))


def render(name: str, folder: Path) -> str:
    """Return a page by its name in `NAMES`."""
    return {
        "parity": lambda: html.render(parity()),
        "divergence": lambda: html.render(divergence()),
        "unknown": lambda: html.render(unknown()),
        "isolated": lambda: html.render(full()),
        "side-by-side": lambda: html.render(side_by_side()),
        "training": lambda: training.render_html(trained(folder)),
        "evaluation": lambda: evaluation.embed_page(evaluated(), {"test": {"confusion": PIXEL}}),
        "sweep": lambda: grid_page.render(swept(), "cells"),
    }[name]()


NAMES = (
    "parity", "divergence", "unknown", "isolated", "side-by-side", "training", "evaluation",
    "sweep",
)  # fmt: skip
