"""Layers in which branches end: sums, products, concatenations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.kind import Hyperparameter, Kind

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
    """Concatenation along `axis`; by default axis 1, the channels of images and of vectors."""
    return np.concatenate(inputs, axis=hyper["axis"])


def _stack(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.stack(inputs, axis=hyper["axis"])


KINDS = (
    Kind(
        "add",
        _add,
        applies_to_attention_scores=True,
        keras=("Add",),
        torch_functions=("add",),
        onnx=("Add",),
        joins_branches=True,
        elementwise="added",
        number_verb="increased by",
        python_operator="+",
    ),
    Kind(
        "multiply",
        _multiply,
        applies_to_attention_scores=True,
        keras=("Multiply",),
        torch_functions=("mul", "multiply"),
        onnx=("Mul",),
        joins_branches=True,
        elementwise="multiplied",
        number_verb="multiplied by",
        python_operator="*",
        factor=True,
    ),
    Kind(
        "concat",
        _concat,
        ordered=True,
        landmark="concat",
        hyperparameters=(Hyperparameter("axis", 1, optional=True),),
        keras=("Concatenate",),
        torch_functions=("cat", "concat", "concatenate"),
        onnx=("Concat",),
        joins_branches=True,
    ),
    Kind(
        "stack",
        _stack,
        mixes_axes=True,
        ordered=True,
        hyperparameters=(Hyperparameter("axis", 0, optional=True),),
        torch_functions=("stack",),
        joins_branches=True,
    ),
)
