"""Activation functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.kind import Hyperparameter, Kind, Operator

Array = NDArray[np.float64]


def _pointwise(function: Callable[[Array], Array]) -> Operator:
    def compute(
        inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
    ) -> Array:
        return function(inputs[0])

    return compute


def _elu(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    data = inputs[0]
    return np.where(data > 0, data, hyper["alpha"] * np.expm1(np.minimum(data, 0.0)))


def _leaky_relu(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.where(inputs[0] > 0, inputs[0], hyper["slope"] * inputs[0])


def _sigmoid(data: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * data))


def _hard_sigmoid(data: Array) -> Array:
    return np.clip(data / 6.0 + 0.5, 0.0, 1.0)


def _gelu(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Hendrycks and Gimpel (2016): x·Φ(x), or its approximation by tanh."""
    data = inputs[0]
    if hyper["approximate"]:
        inner = math.sqrt(2.0 / math.pi) * (data + 0.044715 * data**3)
        return 0.5 * data * (1.0 + np.tanh(inner))
    # NumPy has no erf; math.erf for each element is accurate and, once a layer, fast enough.
    erf = np.asarray(np.frompyfunc(math.erf, 1, 1)(data / math.sqrt(2.0)), np.float64)
    return np.asarray(0.5 * data * (1.0 + erf))


def _softmax(data: Array) -> Array:
    """Softmax over the classes: axis 1 of images, the last axis otherwise."""
    axis = 1 if data.ndim == 4 else -1
    raised = np.exp(data - data.max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


KINDS = (
    Kind(
        "relu",
        _pointwise(lambda data: np.maximum(data, 0.0)),
        keras=("ReLU",),
        keras_functions=("relu",),
        torch=("ReLU",),
        torch_functions=("relu",),
        onnx=("Relu",),
        activation=True,
    ),
    Kind(
        "relu6",
        _pointwise(lambda data: np.clip(data, 0.0, 6.0)),
        keras_functions=("relu6",),
        torch_functions=("relu6",),
        activation=True,
    ),
    Kind(
        "elu",
        _elu,
        # ONNX's and both frameworks' default.
        hyperparameters=(
            Hyperparameter(
                "alpha",
                1.0,
                keras="alpha",
                torch="alpha",
                onnx="alpha",
                convert=float,
                optional=True,
            ),
        ),
        keras=("ELU",),
        keras_functions=("elu",),
        torch=("ELU",),
        torch_functions=("elu",),
        onnx=("Elu",),
        activation=True,
    ),
    Kind(
        "silu",
        _pointwise(lambda data: data * _sigmoid(data)),
        keras_functions=("silu", "swish"),
        torch=("SiLU",),
        torch_functions=("silu",),
        activation=True,
    ),
    Kind(
        "sigmoid",
        _pointwise(_sigmoid),
        keras_functions=("sigmoid",),
        torch=("Sigmoid",),
        torch_functions=("sigmoid",),
        onnx=("Sigmoid",),
        activation=True,
    ),
    Kind(
        "tanh",
        _pointwise(np.tanh),
        keras_functions=("tanh",),
        torch=("Tanh",),
        torch_functions=("tanh",),
        onnx=("Tanh",),
        activation=True,
    ),
    Kind(
        "softplus",
        _pointwise(lambda data: np.logaddexp(data, 0.0)),
        keras_functions=("softplus",),
        torch_functions=("softplus",),
        onnx=("Softplus",),
        activation=True,
    ),
    Kind(
        "gelu",
        _gelu,
        hyperparameters=(
            Hyperparameter("approximate", False, torch="approximate", onnx="approximate"),
        ),
        keras_functions=("gelu",),
        torch=("GELU",),
        torch_functions=("gelu",),
        onnx=("Gelu",),
        activation=True,
    ),
    Kind(
        "hard_sigmoid",
        _pointwise(_hard_sigmoid),
        keras_functions=("hard_sigmoid",),
        torch=("Hardsigmoid",),
        torch_functions=("hardsigmoid",),
        onnx=("HardSigmoid",),
        activation=True,
    ),
    Kind(
        "hard_swish",
        _pointwise(lambda data: data * _hard_sigmoid(data)),
        keras_functions=("hard_silu", "hard_swish"),
        torch=("Hardswish",),
        torch_functions=("hardswish",),
        onnx=("HardSwish",),
        activation=True,
    ),
    Kind(
        "softmax",
        _pointwise(_softmax),
        keras=("Softmax",),
        keras_functions=("softmax",),
        torch=("Softmax",),
        torch_functions=("softmax",),
        onnx=("Softmax",),
        activation=True,
    ),
    Kind(
        "leaky_relu",
        _leaky_relu,
        # No default: Keras's is 0.3 and PyTorch's 0.01.
        hyperparameters=(
            Hyperparameter(
                "slope", keras="negative_slope", torch="negative_slope", onnx="alpha", convert=float
            ),
        ),
        keras=("LeakyReLU",),
        keras_functions=("leaky_relu",),
        torch=("LeakyReLU",),
        torch_functions=("leaky_relu",),
        onnx=("LeakyRelu",),
    ),
)
