"""Layers in which branches end: sums, products, concatenations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import on_complex_parts
from parity.network.kind import COMPLEX, Hyperparameter, Kind

Array = NDArray[np.float64]


def _add(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    return _apply(lambda *parts: sum(parts[1:], start=parts[0]), inputs, hyper)


def _multiply(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return _apply(lambda *parts: math.prod(parts[1:], start=parts[0]), inputs, hyper)


def _apply(
    function: Callable[..., Any], inputs: Sequence[Array], hyper: Mapping[str, Any]
) -> Array:
    """Return what a function gives of all inputs, of which some may be complex."""
    if any(hyper.get(COMPLEX) or ()):
        return on_complex_parts(function, inputs, hyper[COMPLEX])
    return np.asarray(function(*inputs))


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
        adds=True,
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
        rearranges=True,
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
        rearranges=True,
        mixes_axes=True,
        ordered=True,
        hyperparameters=(Hyperparameter("axis", 0, optional=True),),
        torch_functions=("stack",),
        joins_branches=True,
    ),
)
