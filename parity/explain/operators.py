"""What each kind of layer computes, in float64 with NumPy alone: one function a kind.

A layer that is asked for alone takes milliseconds here, and no framework's rounding, padding or
layout has a say in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from parity.explain.layer import Array, Layer

Operator = Callable[[Layer], Array]
OPERATORS: dict[str, Operator] = {}


def evaluate(layer: Layer) -> Array:
    """The layer's output; raises `ValueError` where its parts do not fit together."""
    if layer.kind not in OPERATORS:
        raise ValueError(f"no operator for the kind {layer.kind}")
    # Weights come in float32, in which NumPy would then compute.
    held = {role: np.asarray(value, np.float64) for role, value in layer.weights.items()}
    output = OPERATORS[layer.kind](replace(layer, weights=held))
    for step in layer.after:
        output = step(output)
    return output


def _operator(*kinds: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(kinds, function))
        return function

    return register


# Windows -------------------------------------------------------------------------------------


@_operator("conv", "depthwise_conv")
def _conv(layer: Layer) -> Array:
    hyper, kernel = layer.hyper, layer.weights["kernel"]
    data = _padded(layer.data, hyper, 0.0)
    groups = int(hyper.get("groups", 1))
    outputs, inputs, height, width = kernel.shape
    if data.shape[1] != inputs * groups or outputs % groups:
        raise ValueError(f"{data.shape[1]} channels do not fit a kernel of {kernel.shape}")
    columns = _columns(data, hyper, height, width)
    batch, _, _, _, rows, cols = columns.shape
    columns = columns.reshape(batch, groups, inputs * height * width, rows * cols)
    output = kernel.reshape(groups, outputs // groups, -1) @ columns
    output = output.reshape(batch, outputs, rows, cols)
    return _finished(layer, output)


def _columns(data: Array, hyper: Mapping[str, Any], height: int, width: int) -> Array:
    """(N, C, kh, kw, rows, columns): what each element of the kernel is multiplied with."""
    pieces = [piece for _, _, piece in _shifts(data, hyper, (height, width))]
    stacked = np.stack(pieces, axis=2) if len(pieces) > 1 else pieces[0][:, :, None]
    batch, channels, _, rows, cols = stacked.shape
    return stacked.reshape(batch, channels, height, width, rows, cols)


def _shifts(
    data: Array, hyper: Mapping[str, Any], kernel: tuple[int, int]
) -> Iterator[tuple[int, int, Array]]:
    """Each place of the window, and the values of `data` under it at every position."""
    (sy, sx), (dy, dx) = hyper.get("stride", (1, 1)), hyper.get("dilation", (1, 1))
    rows = (data.shape[2] - dy * (kernel[0] - 1) - 1) // sy + 1
    cols = (data.shape[3] - dx * (kernel[1] - 1) - 1) // sx + 1
    if rows < 1 or cols < 1:
        raise ValueError("the window does not fit")
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            y, x = i * dy, j * dx
            yield (
                i,
                j,
                data[:, :, y : y + (rows - 1) * sy + 1 : sy, x : x + (cols - 1) * sx + 1 : sx],
            )


def _padded(data: Array, hyper: Mapping[str, Any], value: float) -> Array:
    if data.ndim != 4:
        raise ValueError(f"expected (N, C, H, W), found {data.shape}")
    (top, bottom), (left, right) = hyper.get("padding", ((0, 0), (0, 0)))
    if min(top, bottom, left, right) < 0:
        raise ValueError("padding below 0")
    if not any((top, bottom, left, right)):
        return data
    widths = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(data, widths, constant_values=value)


def _ceiling(data: Array, hyper: Mapping[str, Any], value: float) -> Array:
    """`data` padded at its end so that the last, incomplete window counts (PyTorch's ceil_mode).

    A window that would begin in the padding on the right is left out, as PyTorch does.
    """
    if not hyper.get("ceil"):
        return data
    extra = []
    for size, k, s, (_, after) in zip(
        data.shape[2:], hyper["kernel"], hyper["stride"], hyper.get("padding", ((0, 0),) * 2),
        strict=True,
    ):  # fmt: skip
        count = -(-(size - k) // s) + 1
        if (count - 1) * s >= size - after:
            count -= 1
        extra.append((0, max((count - 1) * s + k - size, 0)))
    return np.pad(data, ((0, 0), (0, 0), *extra), constant_values=value)


@_operator("max_pool")
def _max_pool(layer: Layer) -> Array:
    hyper = layer.hyper
    value = 0.0 if hyper.get("pad_value") == "0" else -math.inf
    data = _ceiling(_padded(layer.data, hyper, value), hyper, -math.inf)
    output: Array | None = None
    for _, _, piece in _shifts(data, hyper, _window(hyper)):
        output = piece.copy() if output is None else np.maximum(output, piece, out=output)
    assert output is not None
    return output


@_operator("avg_pool")
def _avg_pool(layer: Layer) -> Array:
    hyper = layer.hyper
    counted = np.ones((1, 1, *layer.data.shape[2:]))
    if hyper.get("count_padding", True):
        counted = _ceiling(_padded(counted, hyper, 1.0), hyper, 0.0)
    else:
        counted = _ceiling(_padded(counted, hyper, 0.0), hyper, 0.0)
    data = _ceiling(_padded(layer.data, hyper, 0.0), hyper, 0.0)
    total = sum(piece for _, _, piece in _shifts(data, hyper, _window(hyper)))
    count = sum(piece for _, _, piece in _shifts(counted, hyper, _window(hyper)))
    return np.asarray(total / count)


def _window(hyper: Mapping[str, Any]) -> tuple[int, int]:
    height, width = hyper["kernel"]
    return int(height), int(width)


@_operator("global_avg_pool")
def _global_avg_pool(layer: Layer) -> Array:
    return np.asarray(layer.data.mean(axis=(2, 3)))


@_operator("global_max_pool")
def _global_max_pool(layer: Layer) -> Array:
    return np.asarray(layer.data.max(axis=(2, 3)))


# Products and norms --------------------------------------------------------------------------


@_operator("dense")
def _dense(layer: Layer) -> Array:
    data, kernel = layer.data, layer.weights["kernel"]
    if data.ndim == 4:
        data = data.reshape(data.shape[0], -1)
    if data.shape[-1] != kernel.shape[1]:
        raise ValueError(f"{data.shape[-1]} inputs do not fit a kernel of {kernel.shape}")
    return _finished(layer, data @ kernel.T)


def _finished(layer: Layer, output: Array) -> Array:
    """Add the bias, and apply the activation that some frameworks fuse into the layer."""
    bias = layer.weights.get("bias")
    if bias is not None:
        output = output + _along(bias, output)
    activation = layer.hyper.get("activation", "linear")
    return output if activation == "linear" else ACTIVATIONS[activation](output)


def _along(vector: Array, tensor: Array) -> Array:
    """`vector` shaped so that it meets the channels of `tensor`."""
    if vector.shape != (tensor.shape[1] if tensor.ndim == 4 else tensor.shape[-1],):
        raise ValueError(f"{vector.shape} values for the channels of {tensor.shape}")
    return vector.reshape(1, -1, 1, 1) if tensor.ndim == 4 else vector


@_operator("batch_norm")
def _batch_norm(layer: Layer) -> Array:
    data, held = layer.data, layer.weights
    scale = 1.0 / np.sqrt(held["variance"] + layer.hyper["epsilon"])
    if "gamma" in held:
        scale = scale * held["gamma"]
    output = (data - _along(held["mean"], data)) * _along(scale, data)
    return output + _along(held["beta"], data) if "beta" in held else output


@_operator("layer_norm")
def _layer_norm(layer: Layer) -> Array:
    data, held = layer.data, layer.weights
    if data.ndim == 4:
        raise ValueError("which axes of an image are normalised is not known")
    centred = data - data.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + layer.hyper["epsilon"])
    return np.asarray(centred / spread * held.get("gamma", 1.0) + held.get("beta", 0.0))


# Element by element --------------------------------------------------------------------------


def softmax(data: Array) -> Array:
    """Over the classes: axis 1 of images, the last one elsewhere."""
    axis = 1 if data.ndim == 4 else -1
    raised = np.exp(data - data.max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


def _sigmoid(data: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * data))


def _gelu(data: Array) -> Array:
    # NumPy has no erf; math.erf element by element is exact and, once a layer, fast enough.
    erf = np.asarray(np.frompyfunc(math.erf, 1, 1)(data / math.sqrt(2.0)), np.float64)
    return np.asarray(0.5 * data * (1.0 + erf))


def _gelu_tanh(data: Array) -> Array:
    inner = math.sqrt(2.0 / math.pi) * (data + 0.044715 * data**3)
    return 0.5 * data * (1.0 + np.tanh(inner))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda data: np.maximum(data, 0.0),
    "relu6": lambda data: np.clip(data, 0.0, 6.0),
    "elu": lambda data: np.where(data > 0, data, np.expm1(np.minimum(data, 0.0))),
    "silu": lambda data: data * _sigmoid(data),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softplus": lambda data: np.logaddexp(data, 0.0),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hard_sigmoid": lambda data: np.clip(data / 6.0 + 0.5, 0.0, 1.0),
    "hard_swish": lambda data: data * np.clip(data / 6.0 + 0.5, 0.0, 1.0),
    "softmax": softmax,
}
"""Functions without settings, by the table's kinds or, where it has none, their usual names."""


def _pointwise(function: Callable[[Array], Array]) -> Operator:
    return lambda layer: function(layer.data)


OPERATORS.update({name: _pointwise(function) for name, function in ACTIVATIONS.items()})


@_operator("gelu")
def _gelu_layer(layer: Layer) -> Array:
    return (_gelu_tanh if layer.hyper.get("approximate") else _gelu)(layer.data)


@_operator("leaky_relu")
def _leaky_relu(layer: Layer) -> Array:
    return np.where(layer.data > 0, layer.data, layer.hyper["slope"] * layer.data)


@_operator("identity", "dropout")
def _identity(layer: Layer) -> Array:
    return layer.data


@_operator("flatten")
def _flatten(layer: Layer) -> Array:
    return layer.data.reshape(layer.data.shape[0], -1)


@_operator("add")
def _add(layer: Layer) -> Array:
    return np.asarray(sum((tensor for tensor in layer.inputs[1:]), start=layer.data))


@_operator("multiply")
def _multiply(layer: Layer) -> Array:
    return np.asarray(layer.data * math.prod(layer.inputs[1:], start=np.float64(1.0)))


@_operator("concat")
def _concat(layer: Layer) -> Array:
    return np.concatenate([layer.data, *layer.inputs[1:]], axis=1)
