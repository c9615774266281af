"""Equal weights as anchors: which weighted parts of two graphs hold the same values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parity.network import kinds
from parity.network.alignment.canonical import Part, Weight
from parity.network.alignment.skeleton import Skeleton

Moments = NDArray[np.float64]

TOLERANCE = 1e-9
"""Relative difference of the moments of equal weights: sums in float64 in another order."""

ROUNDING = 2.0**-22
"""Relative difference of the moments of weights whose products were rounded to float32 twice."""

SHARE = 0.5
"""From this share of equal weights on, both models hold the same weights."""


def find_equal(reference: Skeleton, other: Skeleton) -> NDArray[np.bool_]:
    """Return the matrix (units, units) of those that hold the same values.

    A weight whose values are all equal, such as a new bias, shows nothing and is left out. A step
    of a recurrent layer and one of its products hold some equal weights, and are not the same.
    """
    left = [_informative(reference, unit) for unit in range(len(reference))]
    right = [_informative(other, unit) for unit in range(len(other))]
    equal = np.zeros((len(left), len(right)), bool)
    rows = [number for number, weights in enumerate(left) if weights]
    columns = [number for number, weights in enumerate(right) if weights]
    if not rows or not columns:
        return equal
    first = np.array([_moments(left[number][0]) for number in rows])
    second = np.array([_moments(right[number][0]) for number in columns])
    near = _agree(first[:, None], second[None])
    for row, column in zip(*np.nonzero(near), strict=True):
        one, two = left[rows[row]], right[columns[column]]
        parts = reference.head(rows[row]), other.head(columns[column])
        if len(one) == len(two) or _is_recurrent(parts[0]) == _is_recurrent(parts[1]):
            equal[rows[row], columns[column]] = _all_agree(one, two)
    return equal


def _is_recurrent(part: Part) -> bool:
    return kinds.properties(part.kind).recurrent


def find_informative(skeleton: Skeleton) -> NDArray[np.bool_]:
    """Return for each unit whether its weights' values are known and not all equal."""
    return np.array([bool(_informative(skeleton, unit)) for unit in range(len(skeleton))], bool)


def share_weights(
    equal: NDArray[np.bool_], left: NDArray[np.bool_], right: NDArray[np.bool_]
) -> bool:
    """Return whether the two models hold the same weights, apart from a few."""
    known = min(int(left.sum()), int(right.sum()))
    return known > 0 and min(equal.any(1).sum(), equal.any(0).sum()) >= SHARE * known


def hold_equal(one: Part, other: Part) -> bool:
    """Return whether two parts of one kind hold the same values, of which some differ."""
    first, second = _compared(one), _compared(other)
    return bool(first and second) and one.kind == other.kind and _all_agree(first, second)


def holds_scaled(one: Part, other: Part, norm: Part) -> bool:
    """Return whether the weights of `other` are those of `one` with a norm that only scales.

    Such a norm, as a new one, has no shift and one factor for all channels: an exporter that folds
    it leaves no bias. The factor is rounded to float32, and so is each product.
    """
    roles = {each.role: each.parameter.moments for each in norm.weights}
    mean, beta = roles.get("mean"), roles.get("beta", _ZEROS)
    gamma, variance = roles.get("gamma", _ONES), roles.get("variance")
    main, folded = one.main, other.main
    if mean is None or beta is None or gamma is None or variance is None:
        return False
    if main is None or folded is None or main.parameter.size != folded.parameter.size:
        return False
    if main.parameter.moments is None or folded.parameter.moments is None:
        return False
    if any(each[2:] != (0.0, 0.0) for each in (mean, beta)):
        return False
    if any(each[2] != each[3] for each in (gamma, variance)):
        return False
    power = variance[2] + float(norm.hyper.get("epsilon") or 0.0)
    if power <= 0.0:
        return False
    factor = gamma[2] / math.sqrt(power)
    total, squares, low, high = main.parameter.moments
    ends = sorted((factor * low, factor * high))
    wanted = np.array([factor * total, factor**2 * squares, *ends, float(main.parameter.size)])
    return bool(_agree(wanted, np.array(_moments(folded)), ROUNDING))


_ZEROS, _ONES = (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0)
"""The moments of a norm's parameter that is left out, as far as they are read."""


def _informative(skeleton: Skeleton, unit: int) -> list[Weight]:
    """Return the weights of a unit's head with values to compare, the largest first."""
    return _compared(skeleton.head(unit))


def _compared(part: Part) -> list[Weight]:
    weights = [
        each
        for each in part.weights
        if not each.take
        and each.parameter.moments is not None
        and each.parameter.moments[2] < each.parameter.moments[3]
    ]
    return sorted(weights, key=lambda each: (-each.parameter.size, each.shape))


def _moments(weight: Weight) -> tuple[float, ...]:
    assert weight.parameter.moments is not None
    return (*weight.parameter.moments, float(weight.parameter.size))


def _agree(first: Moments, second: Moments, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Compare moments (…, 5): sum, sum of squares, smallest, largest, count."""
    largest = np.maximum(np.abs(first[..., 2]), np.abs(first[..., 3]))
    # A sum's rounding is relative to the sum of the magnitudes, at most √(n·Σx²).
    scales = np.stack(
        [
            np.sqrt(first[..., 4] * np.abs(first[..., 1])),
            np.abs(first[..., 1]),
            largest,
            largest,
            np.zeros_like(largest),
        ],
        axis=-1,
    )
    return np.asarray((np.abs(first - second) <= tolerance * scales).all(-1))


def _all_agree(first: Sequence[Weight], second: Sequence[Weight]) -> bool:
    """Return whether each weight of the shorter list has an equal one in the other list."""
    fewer, more = (first, second) if len(first) <= len(second) else (second, first)
    rest = [np.array(_moments(each)) for each in more]
    for each in fewer:
        found = next((i for i, m in enumerate(rest) if _agree(np.array(_moments(each)), m)), None)
        if found is None:
            return False
        rest.pop(found)
    return True
