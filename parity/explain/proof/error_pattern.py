"""The pattern of a layer's error: where and how its output differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from parity.explain.proof.layer import Array


@dataclass(frozen=True)
class ErrorPattern:
    """Properties of an error, which order the candidates and describe an unexplained layer."""

    shape_differs: bool = False
    non_finite: int = 0
    """The number of values that are NaN or Inf only in the subject."""
    border_only: bool = False
    channels: tuple[int, ...] = ()
    """The channels that differ."""
    channel_count: int = 0
    group: tuple[int, int] | None = None
    """The one group of channels that differs, and the number of groups."""
    constant_offset: bool = False
    """Whether each channel differs by a constant."""
    constant_factor: bool = False
    """Whether each channel differs by a factor."""
    permuted: bool = False
    """Whether the output has the right values in other positions."""
    negatives_only: bool = False
    """Whether only values differ that should be negative or 0."""
    relative_error: float = 0.0
    text: str = ""
    """The properties in words."""


@np.errstate(all="ignore")
def classify_error(
    actual: Array, expected: Array, *, floor: float, groups: int = 1
) -> ErrorPattern:
    """Return the pattern of `actual` - `expected`; `floor` is the largest rounding difference.

    The channels, axis 1, are those of `groups` consecutive groups.
    """
    if actual.shape != expected.shape:
        return ErrorPattern(
            shape_differs=True,
            text=f"the shape is {actual.shape[1:]}, expected {expected.shape[1:]}",
        )
    bad = int((~np.isfinite(actual) & np.isfinite(expected)).sum())
    if bad:
        return ErrorPattern(non_finite=bad, text=f"{bad} of {actual.size} values are NaN or Inf")
    error = np.abs(actual - expected)
    axes = tuple(axis for axis in range(error.ndim) if axis != 1)
    wrong = np.flatnonzero(error.max(axis=axes) > 4.0 * floor) if error.ndim > 1 else ()
    total = error.shape[1] if error.ndim > 1 else 1
    norm = float(np.linalg.norm(expected)) or 1.0
    pattern = ErrorPattern(
        border_only=_is_at_border(error, 4.0 * floor),
        channels=tuple(int(channel) for channel in wrong),
        channel_count=total,
        group=_find_group(wrong, total, groups),
        constant_offset=_is_constant_offset(actual - expected, 8.0 * floor),
        constant_factor=_is_constant_factor(actual, expected, 8.0 * floor),
        permuted=_is_permuted(actual, expected, 8.0 * floor),
        negatives_only=bool(
            (error > 4.0 * floor).any() and not (error[expected > 0] > 4 * floor).any()
        ),
        relative_error=float(np.linalg.norm(error)) / norm,
    )
    return replace(pattern, text=_describe(pattern))


def _describe(pattern: ErrorPattern) -> str:
    parts = []
    if pattern.border_only:
        parts.append("only the border differs")
    if pattern.constant_offset:
        parts.append("a constant offset in each channel")
    if pattern.constant_factor:
        parts.append("a constant factor in each channel")
    if pattern.permuted:
        parts.append("the right values in other positions")
    if pattern.negatives_only:
        parts.append("only values that should be negative or 0 differ")
    if pattern.group is not None:
        parts.append("only group {} of {} differs, counted from 0".format(*pattern.group))
    elif 0 < len(pattern.channels) < pattern.channel_count:
        parts.append(f"{len(pattern.channels)} of {pattern.channel_count} channels differ")
    parts.append(f"relative size {pattern.relative_error:.1e}")
    return ", ".join(parts)


def _find_group(wrong: Iterable[int], total: int, groups: int) -> tuple[int, int] | None:
    if groups < 2 or total % groups:
        return None
    differing = {int(channel) // (total // groups) for channel in wrong}
    return (differing.pop(), groups) if len(differing) == 1 else None


def _is_at_border(error: Array, floor: float) -> bool:
    """Return whether only the outermost one or two rows and columns of the image differ."""
    if error.ndim != 4 or min(error.shape[2:]) < 3:
        return False
    edge = 2 if min(error.shape[2:]) >= 6 else 1
    inside = error[:, :, edge:-edge, edge:-edge]
    return bool(error.max() > floor >= inside.max())


def _is_constant_offset(difference: Array, floor: float) -> bool:
    if difference.ndim != 4 or difference.shape[2] * difference.shape[3] < 2:
        return False
    # The channel with the largest difference tells of most errors.
    worst = np.unravel_index(int(np.abs(difference).argmax()), difference.shape)[1]
    if np.ptp(difference[:, worst]) > 2.0 * floor:
        return False
    means = difference.mean(axis=(0, 2, 3), keepdims=True)
    return bool(np.abs(difference - means).max() <= floor)


def _is_constant_factor(actual: Array, expected: Array, floor: float) -> bool:
    if actual.ndim != 4 or actual.shape[2] * actual.shape[3] < 2:
        return False
    axes = (0, 2, 3)
    power = (expected * expected).sum(axis=axes, keepdims=True)
    factor = (actual * expected).sum(axis=axes, keepdims=True) / np.where(power, power, 1.0)
    return bool(np.abs(actual - factor * expected).max() <= floor)


def _is_permuted(actual: Array, expected: Array, floor: float) -> bool:
    # These bounds hold for every permutation, and save two sorts.
    if abs(actual.sum() - expected.sum()) > floor * actual.size:
        return False
    if abs(actual.max() - expected.max()) > floor or abs(actual.min() - expected.min()) > floor:
        return False
    left, right = np.sort(actual, axis=None), np.sort(expected, axis=None)
    return bool(np.abs(left - right).max() <= floor < np.abs(actual - expected).max())
