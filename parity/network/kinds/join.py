"""Layers in which branches end: sums, products, concatenations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.kind import Kind

Array = NDArray[np.float64]


def _add(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    return np.asarray(sum(inputs[1:], start=inputs[0]))


def _multiply(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.asarray(math.prod(inputs[1:], start=inputs[0]))


def _concat(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Concatenation along axis 1, the channels of images and of vectors."""
    return np.concatenate(inputs, axis=1)


KINDS = (
    Kind(
        "add",
        _add,
        keras=("Add",),
        torch_functions=("add",),
        onnx=("Add",),
        joins_branches=True,
        elementwise="added",
    ),
    Kind(
        "multiply",
        _multiply,
        keras=("Multiply",),
        torch_functions=("mul",),
        onnx=("Mul",),
        joins_branches=True,
        elementwise="multiplied",
    ),
    Kind(
        "concat",
        _concat,
        keras=("Concatenate",),
        torch_functions=("cat",),
        onnx=("Concat",),
        joins_branches=True,
    ),
)
