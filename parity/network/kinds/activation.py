"""Activation functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import along_axis
from parity.network.kind import Hyperparameter, Kind, Operator, Role

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


def _bounded_relu(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """x above `threshold`, but at most `max_value`; below it `negative_slope`·(x − threshold)."""
    data, threshold = inputs[0], hyper["threshold"]
    largest = hyper.get("max_value")
    above = data if largest is None else np.minimum(data, largest)
    return np.where(data > threshold, above, hyper["negative_slope"] * (data - threshold))


def _leaky_relu(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.where(inputs[0] > 0, inputs[0], hyper["slope"] * inputs[0])


def _sigmoid(data: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * data))


def _hard_sigmoid(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.asarray(np.clip(hyper["slope"] * inputs[0] + hyper["offset"], 0.0, 1.0))


def _hard_swish(data: Array) -> Array:
    return data * np.clip(data / 6.0 + 0.5, 0.0, 1.0)


def _softplus(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """log(1 + exp(beta·x)) / beta."""
    return np.asarray(np.logaddexp(hyper["beta"] * inputs[0], 0.0) / hyper["beta"])


def _selu(data: Array) -> Array:
    """Klambauer et al. (2017)."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * np.where(data > 0, data, alpha * np.expm1(np.minimum(data, 0.0)))


def _celu(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Barron (2017)."""
    data, alpha = inputs[0], hyper["alpha"]
    return np.where(data > 0, data, alpha * np.expm1(np.minimum(data, 0.0) / alpha))


def _prelu(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """He et al. (2015): a slope for each channel, axis 1, or one for all."""
    data, alpha = inputs[0], weights["alpha"]
    slope = alpha if alpha.size == 1 else along_axis(alpha, data, 1)
    return np.where(data > 0, data, slope * data)


def _glu(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Dauphin et al. (2017): the first half of an axis times the sigmoid of the second."""
    data, gate = np.split(inputs[0], 2, axis=hyper["axis"])
    return np.asarray(data * _sigmoid(gate))


def _gelu(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Hendrycks and Gimpel (2016): x·Φ(x), or its approximation by tanh."""
    data = inputs[0]
    if hyper["approximate"]:
        inner = math.sqrt(2.0 / math.pi) * (data + 0.044715 * data**3)
        return 0.5 * data * (1.0 + np.tanh(inner))
    # NumPy has no erf; math.erf for each element is accurate and, once a layer, fast enough.
    erf = np.asarray(np.frompyfunc(math.erf, 1, 1)(data / math.sqrt(2.0)), np.float64)
    return np.asarray(0.5 * data * (1.0 + erf))


def _softmax(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Softmax over `axis`; by default axis 1 of images, the last axis otherwise."""
    axis = hyper["axis"] if hyper["axis"] != "classes" else 1 if inputs[0].ndim == 4 else -1
    raised = np.exp(inputs[0] - inputs[0].max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


def _log_softmax(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    shifted = inputs[0] - inputs[0].max(axis=hyper["axis"], keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=hyper["axis"], keepdims=True)))


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
        torch_method=True,
        has_kink=True,
    ),
    Kind(
        "bounded_relu",
        _bounded_relu,
        phrase="bounded ReLU",
        # Keras's class and function; with these values it is the plain one.
        hyperparameters=(
            Hyperparameter("max_value", optional=True, convert=float),
            Hyperparameter("negative_slope", 0.0, optional=True, convert=float),
            Hyperparameter("threshold", 0.0, onnx="alpha", optional=True, convert=float),
        ),
        onnx=("ThresholdedRelu",),
        has_kink=True,
    ),
    Kind(
        "relu6",
        _pointwise(lambda data: np.clip(data, 0.0, 6.0)),
        keras_functions=("relu6",),
        torch_functions=("relu6",),
        activation=True,
        has_kink=True,
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
        gate=("sigmoid",),
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
        torch_method=True,
    ),
    Kind(
        "tanh",
        _pointwise(np.tanh),
        keras_functions=("tanh",),
        torch=("Tanh",),
        torch_functions=("tanh",),
        onnx=("Tanh",),
        activation=True,
        torch_method=True,
    ),
    Kind(
        "softplus",
        _softplus,
        hyperparameters=(Hyperparameter("beta", 1.0, convert=float, optional=True),),
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
        _hard_sigmoid,
        written_as=(
            frozenset({"add", "sub"}),
            frozenset({"relu6", "clip"}),
            frozenset({"multiply", "div"}),
        ),
        hyperparameters=(
            # Both frameworks' slope; ONNX's default is 0.2.
            Hyperparameter("slope", 1.0 / 6.0, onnx="alpha", convert=float, optional=True),
            Hyperparameter("offset", 0.5, onnx="beta", convert=float, optional=True),
        ),
        keras_functions=("hard_sigmoid",),
        torch=("Hardsigmoid",),
        torch_functions=("hardsigmoid",),
        onnx=("HardSigmoid",),
        activation=True,
        has_kink=True,
    ),
    Kind(
        "hard_swish",
        _pointwise(_hard_swish),
        gate=("hard_sigmoid",),
        keras_functions=("hard_silu", "hard_swish"),
        torch=("Hardswish",),
        torch_functions=("hardswish",),
        onnx=("HardSwish",),
        activation=True,
        has_kink=True,
    ),
    Kind(
        "softmax",
        _softmax,
        hyperparameters=(Hyperparameter("axis", "classes", optional=True),),
        keras=("Softmax",),
        keras_functions=("softmax",),
        torch=("Softmax",),
        torch_functions=("softmax",),
        onnx=("Softmax",),
        activation=True,
        torch_method=True,
    ),
    Kind(
        "leaky_relu",
        _leaky_relu,
        family="activation",
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
        has_kink=True,
    ),
    Kind(
        "log_softmax",
        _log_softmax,
        family="activation",
        hyperparameters=(Hyperparameter("axis", -1, optional=True),),
        torch_functions=("log_softmax",),
        onnx=("LogSoftmax",),
    ),
    Kind(
        "prelu",
        _prelu,
        channels_second=True,
        family="activation",
        roles=(Role("alpha", "alpha", "weight"),),
        torch_functions=("prelu",),
        onnx=("PRelu",),
        torch_method=True,
        has_kink=True,
    ),
    Kind(
        "mish",
        _pointwise(lambda data: data * np.tanh(np.logaddexp(data, 0.0))),
        gate=("softplus", "tanh"),
        torch_functions=("mish",),
        onnx=("Mish",),
        activation=True,
    ),
    Kind("selu", _pointwise(_selu), torch_functions=("selu",), onnx=("Selu",), activation=True),
    Kind(
        "celu",
        _celu,
        family="activation",
        hyperparameters=(Hyperparameter("alpha", 1.0, onnx="alpha", convert=float),),
        torch_functions=("celu",),
        onnx=("Celu",),
    ),
    Kind(
        "softsign",
        _pointwise(lambda data: data / (1.0 + np.abs(data))),
        torch_functions=("softsign",),
        onnx=("Softsign",),
        activation=True,
    ),
    Kind(
        "log_sigmoid",
        _pointwise(lambda data: -np.logaddexp(-data, 0.0)),
        family="activation",
        torch_functions=("logsigmoid",),
    ),
    Kind(
        "glu",
        _glu,
        hyperparameters=(Hyperparameter("axis", -1, optional=True),),
        torch_functions=("glu",),
    ),
)
