"""The checks of a file's outputs against the framework's, and the record of a verification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.graph.framework_runs import FrameworkRuns, measure_output_error, roundoff_of

Array = NDArray[Any]


LIMIT = 8.0  # each of the two runs within 4 floors of the exact result


LARGEST_FLOOR = 2.0**-8
"""The largest floor (relative L2) in float32 that still proves anything."""


@dataclass(frozen=True)
class Check:
    """One output on one set of inputs: its error, and the most that rounding explains.

    `batch` is N; `inputs` says what was fed ("normal", "extreme", "ties", "sample", or sizes).
    """

    output: str
    batch: int
    max_abs: float
    bound_max_abs: float
    rel_l2: float
    bound_rel_l2: float
    inputs: str = "normal"
    floor_too_large: bool = False

    @property
    def explained(self) -> bool:
        """Return whether rounding explains the error."""
        return self.max_abs <= self.bound_max_abs and self.rel_l2 <= self.bound_rel_l2

    @property
    def passed(self) -> bool:
        return self.explained and not self.floor_too_large

    def __str__(self) -> str:
        kind = "" if self.inputs in ("normal", "sample") else f" ({self.inputs} inputs)"
        text = (
            f"{self.output} at N={self.batch}{kind}: max abs {self.max_abs:.3g}"
            f" (rounding explains {self.bound_max_abs:.3g}), relative L2 {self.rel_l2:.3g}"
            f" (rounding explains {self.bound_rel_l2:.3g})"
        )
        if self.floor_too_large:
            text += "; so much rounding proves nothing"
        return text


@dataclass(frozen=True)
class Verification:
    """The checks of a file that passed, and what they leave open.

    `other_checks` are those of other sizes, more rows, extreme inputs and ties.
    """

    checks: tuple[Check, ...]
    other_checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    """Outputs that depend on an input in the graph but never changed: nothing was proved of them
    with these weights."""
    feeds: tuple[Mapping[str, Array], ...] = field(default=(), repr=False)
    """The inputs of each kind that the file was run on, by name."""


def check_outputs(
    framework: FrameworkRuns, actual: Sequence[tuple[str, Array]], batch: int
) -> list[Check]:
    checks = []
    outputs = framework.run_at(batch)
    smallest = min(framework.runs)
    for (name, found), output, replicates in zip(
        actual, outputs, framework.replicates, strict=True
    ):
        array, label = found, framework.case.label
        if array.shape != output.shape:
            raise ExportError(
                f"{name} at N={batch}: expected shape {output.shape}, found {array.shape}"
            )
        if roundoff_of(output.dtype) and label not in ("normal", "sample"):
            # Where the framework itself has no number, there is none to compare.
            array = np.where(np.isnan(output), output, array)
        if not replicates.roundoff and batch == smallest and replicates.unstable is not None:
            # Elements of an integer output that rounding changes in the framework itself.
            array = np.where(replicates.unstable & (array != output), output, array)
        error = measure_output_error(actual=array, expected=output)
        max_abs, rel_l2 = replicates.floor(error.scale)
        largest = min(2.0**-4, max(LARGEST_FLOOR, replicates.roundoff * 2.0**5))
        needed = error.rel_l2 > LIMIT * largest or (
            error.max_abs > LIMIT * largest * max(error.scale, 0.0)
        )
        checks.append(
            Check(
                name,
                batch,
                error.max_abs,
                LIMIT * max_abs,
                error.rel_l2,
                LIMIT * rel_l2,
                label,
                floor_too_large=bool(rel_l2 > largest and needed),
            )
        )
    return checks
