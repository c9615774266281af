"""What the error of a layer looks like: the signs that lead to its cause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from parity.explain.proof.layer import Array


@dataclass(frozen=True)
class Fingerprint:
    """Signs of an error, for leading the search and for the report where nothing is proved."""

    shape: bool = False
    non_finite: int = 0
    border: bool = False
    channels: tuple[int, ...] = ()
    total: int = 0
    group: tuple[int, int] | None = None
    """The one group of channels that differs, and how many groups there are."""
    offset: bool = False
    scale: bool = False
    permuted: bool = False
    negatives: bool = False
    relative: float = 0.0
    text: str = ""


def read(actual: Array, expected: Array, *, floor: float, groups: int = 1) -> Fingerprint:
    """The signs of `actual` - `expected`; `floor` is the largest difference that is rounding.

    The output has the channels of so many `groups`, one after the other.
    """
    if actual.shape != expected.shape:
        return Fingerprint(
            shape=True, text=f"the shape is {actual.shape[1:]}, expected {expected.shape[1:]}"
        )
    bad = int((~np.isfinite(actual) & np.isfinite(expected)).sum())
    if bad:
        return Fingerprint(non_finite=bad, text=f"{bad} of {actual.size} values are NaN or Inf")
    error = np.abs(actual - expected)
    axes = tuple(axis for axis in range(error.ndim) if axis != 1)
    wrong = np.flatnonzero(error.max(axis=axes) > 4.0 * floor) if error.ndim > 1 else ()
    total = error.shape[1] if error.ndim > 1 else 1
    norm = float(np.linalg.norm(expected)) or 1.0
    found = Fingerprint(
        border=_border(error, 4.0 * floor),
        channels=tuple(int(channel) for channel in wrong),
        total=total,
        group=_group(wrong, total, groups),
        offset=_steady(actual - expected, 8.0 * floor),
        scale=_scaled(actual, expected, 8.0 * floor),
        permuted=_permuted(actual, expected, 8.0 * floor),
        negatives=bool((error > 4.0 * floor).any() and not (error[expected > 0] > 4 * floor).any()),
        relative=float(np.linalg.norm(error)) / norm,
    )
    return Fingerprint(**{**vars(found), "text": _told(found)})


def _told(found: Fingerprint) -> str:
    signs = []
    if found.border:
        signs.append("only the border differs")
    if found.offset:
        signs.append("a constant offset in each channel")
    if found.scale:
        signs.append("a constant factor in each channel")
    if found.permuted:
        signs.append("the right values in other places")
    if found.negatives:
        signs.append("only values that should be negative or 0 differ")
    if found.group is not None:
        signs.append("only group {} of {} differs, counted from 0".format(*found.group))
    elif 0 < len(found.channels) < found.total:
        signs.append(f"{len(found.channels)} of {found.total} channels differ")
    signs.append(f"relative size {found.relative:.1e}")
    return ", ".join(signs)


def _group(wrong: Iterable[int], total: int, groups: int) -> tuple[int, int] | None:
    if groups < 2 or total % groups:
        return None
    held = {int(channel) // (total // groups) for channel in wrong}
    return (held.pop(), groups) if len(held) == 1 else None


def _border(error: Array, floor: float) -> bool:
    """Whether the inside of the image is right, and what lies at its edges is not."""
    if error.ndim != 4 or min(error.shape[2:]) < 3:
        return False
    edge = 2 if min(error.shape[2:]) >= 6 else 1
    inside = error[:, :, edge:-edge, edge:-edge]
    return bool(error.max() > floor >= inside.max())


def _steady(difference: Array, floor: float) -> bool:
    if difference.ndim != 4 or difference.shape[2] * difference.shape[3] < 2:
        return False
    means = difference.mean(axis=(0, 2, 3), keepdims=True)
    return bool(np.abs(difference - means).max() <= floor)


def _scaled(actual: Array, expected: Array, floor: float) -> bool:
    if actual.ndim != 4 or actual.shape[2] * actual.shape[3] < 2:
        return False
    axes = (0, 2, 3)
    power = (expected * expected).sum(axis=axes, keepdims=True)
    factor = (actual * expected).sum(axis=axes, keepdims=True) / np.where(power, power, 1.0)
    return bool(np.abs(actual - factor * expected).max() <= floor)


def _permuted(actual: Array, expected: Array, floor: float) -> bool:
    left, right = np.sort(actual, axis=None), np.sort(expected, axis=None)
    return bool(np.abs(left - right).max() <= floor < np.abs(actual - expected).max())
