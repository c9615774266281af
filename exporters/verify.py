"""Prove that an ONNX file is valid, loads, and computes what the framework computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Run = Callable[[list[Array]], list[Array]]


@dataclass(frozen=True)
class Check:
    """One output at one batch size: its error, and the most that rounding explains."""

    output: str
    batch: int
    max_abs: float
    bound_max_abs: float
    rel_l2: float
    bound_rel_l2: float


def verify(path: Path, run: Run, *, batches: Sequence[int] = (1, 2, 3)) -> list[Check]:
    """Check the file at `path` against `run`; raises ExportError with the numbers."""
