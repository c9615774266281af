"""The inputs of a layer of the reference, found by evaluating it on earlier tensors.

The layer table is a list, not a graph: a shortcut's convolution follows the branch beside it. A
layer's inputs are those on which it returns, in float64, the reference's output.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.explain.proof.layer import Array, Layer, evaluate
from parity.network import kinds

TOLERANCE = 1e-9
"""Relative to the largest value; two float64 runs of one layer differ by some 1e-15."""

ReadTensor = Callable[[str], Array]


def reconstruct_layer(
    kind: str,
    expected: Array,
    earlier: Sequence[str],
    read: ReadTensor,
    *,
    hyper: Mapping[str, Any],
    weights: Mapping[str, Array],
) -> Layer | None:
    """Return the layer with its inputs, or None if no earlier tensors give the output `expected`.

    `earlier` are the names of the tensors before it, in execution order; `read` loads one.
    """
    for names in _input_names(kind, earlier):
        layer = Layer(kind, tuple(read(name) for name in names), hyper, weights)
        if _reproduces(layer, expected):
            return layer
    return None


def _input_names(kind: str, earlier: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the possible inputs, the nearest tensors first."""
    latest = list(reversed(earlier))
    if not kinds.joins_branches(kind):
        yield from ((name,) for name in latest)
        return
    for last, first in itertools.combinations(latest, 2):
        yield first, last
        if not kinds.get(kind).elementwise:
            yield last, first


def _reproduces(layer: Layer, expected: Array) -> bool:
    """Return whether the layer's output is `expected`, to `TOLERANCE` of its largest value."""
    shapes = {tensor.shape for tensor in layer.inputs}
    if kinds.get(layer.kind).elementwise and shapes != {expected.shape}:
        return False
    try:
        with np.errstate(all="ignore"):
            output = evaluate(layer)
    except (ValueError, IndexError, KeyError):
        return False
    if output.shape != expected.shape:
        return False
    scale = float(np.abs(expected).max())
    return bool(np.abs(output - expected).max() <= TOLERANCE * scale)
