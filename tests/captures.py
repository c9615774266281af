"""A folder of captures as a comparison leaves it, of invented tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.commands import saved_captures
from parity.numerics.capture import CaptureWriter
from parity.numerics.floor import floor_of, perturb
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import measure
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
    rng = np.random.default_rng(seed)
    return {row: rng.standard_normal((2, 4, 5, 6) if "." in row else (2, 7)) for row in ROWS}


def write(
    folder: Path,
    subjects: Sequence[str] = ("keras", "torch"),
    *,
    broken: Mapping[str, str] = {},
    levels: Mapping[str, Level] = LEVELS,
    gaps: Mapping[str, Any] = {},
    depth: str = "layer",
    seed: int = 1,
    **manifest: str,
) -> Path:
    """Write a folder; `broken` is, by subject, the row that is off; `seed` is of the rounding."""
    work = folder.with_name(f"{folder.name}.work")
    work.mkdir(parents=True)
    exact = tensors()
    held = {"model": "tiny", "weights_sha256": "a" * 64, "input_sha256": "b" * 64, **manifest}
    rng = np.random.default_rng(seed)
    floors = {}
    for row, array in exact.items():
        errors = [
            measure(actual=perturb(array.astype(np.float32), rng), expected=array) for _ in range(5)
        ]
        floors[row] = floor_of(errors)
    kept = {}
    for name in (*subjects, saved_captures.REFERENCE):
        kept[name] = work / f"{name}.tmp"
        with CaptureWriter(kept[name], {**held, "subject": name}) as writer:
            for row, array in exact.items():
                values = array
                if name != saved_captures.REFERENCE:
                    values = perturb(array.astype(np.float32), rng)
                if broken.get(name) == row:
                    values[-1, 2] += 0.25
                writer.add(row, values)
    facts = {name: SubjectFacts(f"{name} 1.0", "cpu") for name in subjects}
    report = Report(
        verdict=Verdict.UNKNOWN,
        model=held["model"],
        reference="torch",
        input=InputFacts("random", (2, 3, 8, 8), held["input_sha256"]),
        weights=WeightFacts(held["weights_sha256"], 9),
        subjects=facts,
        levels=levels,
        stages=(),
        first_divergence=None,
        depth=depth,
    )
    saved_captures.save_captures(folder, kept, report, points=POINTS, floors=floors, gaps=gaps)
    work.rmdir()
    return folder
