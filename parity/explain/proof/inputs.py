"""Which tensors a layer of the reference reads, found by running it on them.

The layer table is a list, not a graph: a shortcut's convolution stands behind the branch beside it.
A layer's inputs are those on which it gives, in float64, what the reference gave.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.explain.proof.layer import Array, Layer, evaluate
from parity.network import kinds

TOLERANCE = 1e-9
"""Relative; two float64 runs of one layer differ by some 1e-15."""

Read = Callable[[str], Array]


def find(
    kind: str,
    expected: Array,
    earlier: Sequence[str],
    read: Read,
    *,
    hyper: Mapping[str, Any],
    weights: Mapping[str, Array],
) -> Layer | None:
    """The layer on its own inputs, or None if no tensor before it makes it what it is.

    `earlier` are the names of the tensors before it, in execution order; `read` loads one.
    """
    for names in _choices(kind, earlier):
        layer = Layer(kind, tuple(read(name) for name in names), hyper, weights)
        if _fits(layer, expected):
            return layer
    return None


def _choices(kind: str, earlier: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The nearest tensors first."""
    latest = list(reversed(earlier))
    if not kinds.joins_branches(kind):
        yield from ((name,) for name in latest)
        return
    for last, first in itertools.combinations(latest, 2):
        yield first, last
        if not kinds.get(kind).elementwise:
            yield last, first


def _fits(layer: Layer, expected: Array) -> bool:
    shapes = {tensor.shape for tensor in layer.inputs}
    if kinds.get(layer.kind).elementwise and shapes != {expected.shape}:
        return False
    try:
        with np.errstate(all="ignore"):
            made = evaluate(layer)
    except (ValueError, IndexError, KeyError):
        return False
    if made.shape != expected.shape:
        return False
    scale = float(np.abs(expected).max())
    return bool(np.abs(made - expected).max() <= TOLERANCE * scale)
