"""The weights of aligned models: copied from the reference, compared, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.alignment import Alignment, WeightPair

Array = NDArray[Any]


@dataclass(frozen=True)
class WeightDifference:
    """A pair of weights whose values differ; `largest` is the largest difference."""

    pair: WeightPair
    largest: float
    message: str


def transfer_weights(
    alignment: Alignment, reference: Mapping[str, Array], other: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the weights of the other model as the reference has them.

    `other` are its present weights by name, which give the shapes; a weight that is folded, or has
    no partner, is left out.
    """
    found: dict[str, Array] = {}
    for pair in list_weight_pairs(alignment):
        if pair.reference not in reference or pair.other not in other:
            continue
        own = other[pair.other]
        value = pair.transform.apply(reference[pair.reference], own.shape)
        found[pair.other] = np.ascontiguousarray(value).astype(own.dtype, copy=False)
    return found


def list_weight_pairs(alignment: Alignment) -> list[WeightPair]:
    """Return the pairs of weights in execution order, each once."""
    pairs = [pair for node in alignment.pairs for pair in node.weights]
    return list({(pair.reference, pair.other): pair for pair in pairs}.values())


def compare_weights(
    alignment: Alignment, reference: Mapping[str, Array], other: Mapping[str, Array]
) -> list[WeightDifference]:
    """Return the pairs of weights that are not equal, bit for bit, in execution order."""
    found = []
    for pair in list_weight_pairs(alignment):
        if pair.reference not in reference or pair.other not in other:
            continue
        own = other[pair.other]
        try:
            expected = pair.transform.apply(reference[pair.reference], own.shape)
        except ValueError:
            found.append(
                WeightDifference(
                    pair,
                    float("inf"),
                    f"{pair.other}: its shape {own.shape} is not that of {pair.reference}, "
                    f"{reference[pair.reference].shape}",
                )
            )
            continue
        expected = expected.astype(own.dtype, copy=False)
        if not np.array_equal(expected, own, equal_nan=True):
            difference = np.abs(expected.astype(np.float64) - own.astype(np.float64))
            largest = float(np.nanmax(difference)) if difference.size else 0.0
            found.append(
                WeightDifference(
                    pair,
                    largest,
                    f"{pair.other} differs from {pair.reference} by up to {largest:.1e}",
                )
            )
    return found
