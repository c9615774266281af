"""Runs the file of `parity reduce` and makes its input smaller while the difference stays.

It runs as a script in a process of its own, where parity may be absent: `FILE RESULT`.
`RESULT` is an `.npz` file of the first outputs (`exact`, `reference`, `subject`), `errors` (those
of the reference and of the subject, and the floor) and, where the input became smaller, its arrays.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Found = Mapping[str, Any]
Compare = Callable[[Arrays], Found]

SMALLEST_SIDE = 4
"""Images are cropped to no fewer pixels."""


def main(file: str, result: str) -> None:
    scope = runpy.run_path(file, run_name="piece")
    compare, limit, arrays = scope["compare"], scope["LIMIT"], scope["INPUT"]
    first = compare(arrays)
    found = {name: first[name] for name in ("exact", "reference", "subject")}
    found["errors"] = np.array(
        [first["reference error"], first["subject error"], first["floor"]], np.float64
    )
    smaller = arrays
    if shows(first, limit):
        smaller = take_sample(compare, limit, smaller, first)
        smaller = crop(compare, limit, smaller)
    if smaller is not arrays:
        found |= {f"input/{name}": value for name, value in smaller.items()}
    np.savez(result, allow_pickle=False, **found)


def shows(found: Found, limit: float) -> bool:
    """Return whether the subject alone is above the limit, and clearly so."""
    floor = found["floor"]
    return (
        not found["subject error"] <= 2 * limit * floor
        and found["reference error"] <= limit * floor
        and bool(np.isfinite(found["exact"]).all())
    )


def attempt(compare: Compare, limit: float, arrays: Arrays) -> bool:
    """Return whether the difference is there on these arrays; not where they do not run."""
    try:
        return shows(compare(arrays), limit)
    except Exception:  # noqa: BLE001 (of a smaller input a part may not run at all)
        return False


def take_sample(compare: Compare, limit: float, arrays: Arrays, first: Found) -> Arrays:
    """Return the one sample of a batch in which the error is largest, if it shows the error."""
    lengths = {value.shape[0] if value.ndim else 0 for value in arrays.values()}
    exact, subject = first["exact"], first["subject"]
    if len(lengths) != 1 or exact.shape != subject.shape or exact.ndim == 0:
        return arrays
    (length,) = lengths
    if length < 2 or exact.shape[0] != length:
        return arrays
    errors = np.abs(subject - exact).reshape(length, -1).max(axis=1)
    at = int(np.argmax(errors))
    sample = {name: value[at : at + 1] for name, value in arrays.items()}
    return sample if attempt(compare, limit, sample) else arrays


def crop(compare: Compare, limit: float, arrays: Arrays) -> Arrays:
    """Return the middle of images (N, C, H, W), halved while the difference is there."""
    while True:
        shapes = {value.shape[2:] for value in arrays.values()}
        if len(shapes) != 1 or any(value.ndim != 4 for value in arrays.values()):
            return arrays
        (sides,) = shapes
        if min(sides) < 2 * SMALLEST_SIDE:
            return arrays
        part = tuple(slice(n // 4, n // 4 + n // 2) for n in sides)
        smaller = {
            name: np.ascontiguousarray(value[(slice(None), slice(None), *part)])
            for name, value in arrays.items()
        }
        if not attempt(compare, limit, smaller):
            return arrays
        arrays = smaller


if __name__ == "__main__":
    main(*sys.argv[1:])
