"""Arithmetic on each element: of one tensor, of two that broadcast, with a learned tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import on_complex_parts
from parity.network.kind import COMPLEX, Hyperparameter, Kind, Operator, Role

Array = NDArray[np.float64]


def _apply(function: Callable[..., Any]) -> Operator:
    """Return the operator of a function of all the inputs; truth values become 0 and 1."""

    def compute(
        inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
    ) -> Array:
        if any(hyper.get(COMPLEX) or ()):
            return on_complex_parts(function, inputs, hyper[COMPLEX])
        return np.asarray(function(*inputs), np.float64)

    return compute


def _erf(data: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(data), np.float64)


def _clip(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Limit to [low, high], of which either may be absent."""
    low, high = hyper.get("low"), hyper.get("high")
    data = inputs[0] if low is None else np.maximum(inputs[0], low)
    return data if high is None else np.minimum(data, high)


def _where(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Return the second input where the first is not 0, else the third."""
    return np.where(inputs[0] != 0, inputs[1], inputs[2])


def _layer_scale(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Return the product with a learned tensor that broadcasts: Touvron et al. (2021)."""
    return np.asarray(inputs[0] * weights["gamma"])


def _bias_add(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Return the sum with a learned tensor that broadcasts, such as an embedding of positions."""
    return np.asarray(inputs[0] + weights["bias"])


_LEARNED = "..."


def _unary(
    name: str,
    function: Callable[..., Any],
    torch: str,
    onnx: str = "",
    *,
    family: str = "",
    has_kink: bool = False,
) -> Kind:
    """Return an operation of one input; `torch` holds names of functions, separated by spaces."""
    return Kind(
        name,
        _apply(function),
        family=family,
        torch_functions=tuple(torch.split()),
        onnx=(onnx,) if onnx else (),
        has_kink=has_kink,
    )


def _binary(
    name: str,
    function: Callable[..., Any],
    torch: str,
    onnx: str = "",
    keras: str = "",
    *,
    ordered: bool = False,
    applies_to_attention_scores: bool = False,
    number_verb: str = "",
    factor: bool = False,
    python_operator: str = "",
    has_kink: bool = False,
) -> Kind:
    """Return an operation of two inputs that broadcast; `torch` as for `_unary`."""
    return Kind(
        name,
        _apply(function),
        number_verb=number_verb,
        factor=factor,
        python_operator=python_operator,
        ordered=ordered,
        keras=(keras,) if keras else (),
        torch_functions=tuple(torch.split()),
        onnx=(onnx,) if onnx else (),
        joins_branches=True,
        applies_to_attention_scores=applies_to_attention_scores,
        has_kink=has_kink,
    )


KINDS = (
    _unary("abs", np.abs, "abs absolute", "Abs", has_kink=True),
    _unary("neg", np.negative, "neg negative", "Neg"),
    _unary("exp", np.exp, "exp", "Exp", family="activation"),
    _unary("log", np.log, "log", "Log"),
    _unary("sqrt", np.sqrt, "sqrt", "Sqrt"),
    _unary("rsqrt", lambda data: 1.0 / np.sqrt(data), "rsqrt"),
    _unary("square", np.square, "square"),
    _unary("reciprocal", np.reciprocal, "reciprocal", "Reciprocal"),
    _unary("erf", _erf, "erf", "Erf"),
    _unary("sin", np.sin, "sin", "Sin"),
    _unary("cos", np.cos, "cos", "Cos"),
    _unary("floor", np.floor, "floor", "Floor"),
    _unary("ceil", np.ceil, "ceil", "Ceil"),
    _unary("round", np.round, "round", "Round"),
    _unary("sign", np.sign, "sign", "Sign"),
    _unary("logical_not", lambda data: data == 0, "logical_not bitwise_not", "Not"),
    _binary(
        "sub",
        np.subtract,
        "sub subtract",
        "Sub",
        "Subtract",
        ordered=True,
        applies_to_attention_scores=True,
        number_verb="decreased by",
        python_operator="-",
    ),
    _binary(
        "div",
        np.divide,
        "div divide true_divide",
        "Div",
        ordered=True,
        applies_to_attention_scores=True,
        number_verb="divided by",
        factor=True,
        python_operator="/",
    ),
    _binary("floor_div", np.floor_divide, "floor_divide", ordered=True),
    _binary("mod", np.mod, "remainder", "Mod", ordered=True),
    _binary("pow", np.power, "pow", "Pow", ordered=True),
    _binary(
        "maximum",
        np.maximum,
        "maximum",
        "Max",
        "Maximum",
        applies_to_attention_scores=True,
        has_kink=True,
    ),
    _binary("minimum", np.minimum, "minimum", "Min", "Minimum", has_kink=True),
    _binary("equal", np.equal, "eq", "Equal"),
    _binary("not_equal", np.not_equal, "ne not_equal"),
    _binary("less", np.less, "lt less", "Less"),
    _binary("less_equal", np.less_equal, "le less_equal", "LessOrEqual"),
    _binary("greater", np.greater, "gt greater", "Greater"),
    _binary("greater_equal", np.greater_equal, "ge greater_equal", "GreaterOrEqual"),
    _binary("logical_and", np.logical_and, "logical_and", "And"),
    _binary("logical_or", np.logical_or, "logical_or", "Or"),
    Kind(
        "where",
        _where,
        selects=True,
        applies_to_attention_scores=True,
        ordered=True,
        torch_functions=("where",),
        onnx=("Where",),
        joins_branches=True,
    ),
    Kind(
        "clip",
        _clip,
        family="activation",
        hyperparameters=(
            Hyperparameter("low", optional=True, convert=float),
            Hyperparameter("high", optional=True, convert=float),
        ),
        torch_functions=("hardtanh", "clamp", "clip", "clamp_min", "clamp_max"),
        onnx=("Clip",),
        has_kink=True,
    ),
    Kind(
        "layer_scale",
        _layer_scale,
        affine=True,
        phrase="layer scale",
        roles=(Role("gamma", "gamma", "gamma", _LEARNED),),
        torch_functions=("mul",),
    ),
    Kind(
        "bias_add",
        _bias_add,
        affine=True,
        phrase="learned sum",
        adds=True,
        roles=(Role("bias", "bias", "bias", _LEARNED),),
        torch_functions=("add",),
    ),
)
