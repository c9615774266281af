"""A model of the study: how it is built, exported, run and fed; a framework's table lists them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Model(Protocol):
    """A model that was built, as the study needs it."""

    batches: Sequence[int]
    """The N that a file must be right at."""

    tolerance: float | Sequence[float]
    """The relative L2 error, and the largest error over the scale, that no fault explains.

    One for all outputs, or one for each.
    """

    fallback: Sequence[str]
    """Why the export went the framework's own way: the operators that have no translation here."""

    def draw(self, batch: int, seed: int) -> list[Array]:
        """Return inputs in the order of a file's."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the framework's own outputs."""

    def export(self, path: Path) -> Any:
        """Export with this project's exporter; return its result."""

    def check_names(self, path: Path) -> str:
        """Return what is wrong with the names in a file of this project's, or nothing."""

    def rivals(self) -> Mapping[str, Callable[[Path], None]]:
        """Return other exporters by name; each writes a file, or raises."""


@dataclass(frozen=True)
class Case:
    """A model by name, and the kind that the issue lists it under.

    `random` says that the model draws numbers, so that no file can be right: it must be refused.
    """

    name: str
    kind: str
    build: Callable[[], Model] = field(repr=False)
    random: bool = False


def judge(
    model: Model, outputs_of: Callable[[list[Array]], list[Array]], *, seeds: Sequence[int]
) -> tuple[str, str]:
    """Compare a file with the framework; return "right" or "wrong", and the worst difference."""
    worst = 0.0
    for batch in model.batches:
        for seed in seeds:
            inputs = model.draw(batch, seed)
            expected = model.run([array.copy() for array in inputs])
            try:
                actual = outputs_of(inputs)
            except Exception as error:  # noqa: BLE001 - any failure of the file is the result
                reason = str(error).strip().splitlines()[0][:150]
                return "wrong", f"does not run at N={batch}: {reason}"
            if len(actual) < len(expected):
                return "wrong", f"{len(actual)} outputs, expected {len(expected)}"
            for index, (a, e) in enumerate(zip(actual, expected, strict=False)):
                error = difference(np.asarray(a), np.asarray(e))
                given = model.tolerance
                if not error <= (given[index] if isinstance(given, Sequence) else given):
                    shapes = f" (shape {a.shape}, expected {e.shape})" if a.shape != e.shape else ""
                    return "wrong", f"output {index} at N={batch}: {error:.2g}{shapes}"
                worst = max(worst, error)
    return "right", f"{worst:.1e}"


def difference(actual: Array, expected: Array) -> float:
    """Return the larger of the relative L2 error and the largest error over the scale.

    Infinite for other shapes, other integers, and values that only one of the two has finite.
    """
    if actual.shape != expected.shape:
        return math.inf
    if expected.dtype.kind in "biu":
        return 0.0 if np.array_equal(actual, expected) else math.inf
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(e)
    if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(
        a[~finite], e[~finite], equal_nan=True
    ):
        return math.inf
    gap = np.abs(a[finite] - e[finite])
    if not gap.size:
        return 0.0
    scale = float(np.abs(e[finite]).max())
    if not scale:
        return float(gap.max())
    norm = float(np.linalg.norm(e[finite])) or 1.0
    return max(float(np.linalg.norm(gap)) / norm, float(gap.max()) / scale)
