"""`parity data`: data sets that need no download, written out as files."""

from __future__ import annotations

from pathlib import Path

from parity.training.data import sources


def write_digits(folder: str | Path, *, seed: int = 0) -> int:
    """Write scikit-learn's 1,797 digits as an image folder; return their number.

    The split into `train/` and `val/` is that of `parity train --data digits` with this seed.
    Raises `OutputError` for a folder that is not empty, and `RequirementError` without
    scikit-learn.
    """
    return sources.write_digits(Path(folder), seed=seed)
