"""A folder of captures as a comparison writes it, of random tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.commands import saved_captures
from parity.numerics.capture import CaptureWriter
from parity.numerics.floor import compute_floor, perturb
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import measure_error
from parity.report.model import (
    InputFacts,
    Level,
    Outcome,
    Report,
    SubjectFacts,
    Verdict,
    WeightFacts,
)

ROWS = ("stem.conv", "stem.relu", "head")
POINTS = tuple(ComparisonPoint(row, row.split(".")[0], row, ()) for row in ROWS)
LEVELS = {name: Level(Outcome.PASS) for name in ("structure", "weights")}


def tensors(seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Return random float64 tensors by row."""
    rng = np.random.default_rng(seed)
    return {row: rng.standard_normal((2, 4, 5, 6) if "." in row else (2, 7)) for row in ROWS}


def write(
    folder: Path,
    subjects: Sequence[str] = ("keras", "torch"),
    *,
    broken: Mapping[str, str] = {},
    levels: Mapping[str, Level] = LEVELS,
    instrumentation_gaps: Mapping[str, Any] = {},
    depth: str = "layer",
    seed: int = 1,
    **manifest: str,
) -> Path:
    """Write a folder of captures.

    `broken` has the row with an error, by subject; `seed` is that of the rounding.
    """
    work = folder.with_name(f"{folder.name}.work")
    work.mkdir(parents=True)
    float64 = tensors()
    common = {"model": "tiny", "weights_sha256": "a" * 64, "input_sha256": "b" * 64, **manifest}
    rng = np.random.default_rng(seed)
    floors = {}
    for row, array in float64.items():
        errors = [
            measure_error(actual=perturb(array.astype(np.float32), rng), expected=array)
            for _ in range(5)
        ]
        floors[row] = compute_floor(errors)
    paths = {}
    for name in (*subjects, saved_captures.REFERENCE):
        paths[name] = work / f"{name}.tmp"
        with CaptureWriter(paths[name], {**common, "subject": name}) as writer:
            for row, array in float64.items():
                values = array
                if name != saved_captures.REFERENCE:
                    values = perturb(array.astype(np.float32), rng)
                if broken.get(name) == row:
                    values[-1, 2] += 0.25
                writer.add(row, values)
    facts = {name: SubjectFacts(f"{name} 1.0", "cpu") for name in subjects}
    report = Report(
        verdict=Verdict.UNKNOWN,
        model=common["model"],
        reference="torch",
        input=InputFacts("random", (2, 3, 8, 8), common["input_sha256"]),
        weights=WeightFacts(common["weights_sha256"], 9),
        subjects=facts,
        levels=levels,
        stages=(),
        first_divergence=None,
        depth=depth,
    )
    saved_captures.move_captures(
        folder, paths, report, points=POINTS,
        outputs=[ROWS[-1]], floors=floors,
        instrumentation_gaps=instrumentation_gaps,
    )  # fmt: skip
    work.rmdir()
    return folder
