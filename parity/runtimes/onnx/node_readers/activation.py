"""Readers of activations."""

from __future__ import annotations

import math
from typing import Any

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.model_file import restore_decimal
from parity.runtimes.onnx.node_readers.reading import (
    NodeReading,
    NodeView,
    list_present_roles,
    register_reader,
)


@register_reader("Clip")
def _read_clip(view: NodeView) -> NodeReading:
    """Bounds are inputs from opset 11 on, attributes before."""
    bounds: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        value = view.static(index)
        if view.has(index) and value is None:
            return NodeReading(OPAQUE)
        stated = view.get(name)
        number = None if value is None else float(value.reshape(()))
        if number is None and stated is not None:
            number = float(stated)
        infinite = number is not None and (math.isinf(number) or abs(number) >= 3e38)
        bounds.append(None if number is None or infinite else restore_decimal(number))
    setting_inputs = frozenset({1, 2})
    if bounds == [0.0, None]:
        return NodeReading("relu", setting_inputs=setting_inputs)
    if bounds == [0.0, 6.0]:
        return NodeReading("relu6", setting_inputs=setting_inputs)
    hyperparameters = {n: b for n, b in zip(("low", "high"), bounds, strict=True) if b is not None}
    return NodeReading("clip", hyperparameters, setting_inputs=setting_inputs)


@register_reader("LeakyRelu")
def _read_leaky_relu(view: NodeView) -> NodeReading:
    return NodeReading("leaky_relu", {"slope": view.number("alpha", 0.01)})


@register_reader("Elu", "Celu")
def _read_elu(view: NodeView) -> NodeReading:
    return NodeReading(view.operation.lower(), {"alpha": view.number("alpha", 1.0)})


@register_reader("HardSigmoid")
def _read_hard_sigmoid(view: NodeView) -> NodeReading:
    slope = restore_decimal(view.get("alpha", 0.2), 0.2, 1 / 6)
    return NodeReading("hard_sigmoid", {"slope": slope, "offset": view.number("beta", 0.5)})


@register_reader("PRelu")
def _read_prelu(view: NodeView) -> NodeReading:
    if view.static(1) is None:
        return NodeReading(OPAQUE)
    return NodeReading("prelu", roles={1: "alpha"})


@register_reader("Gelu", "BiasGelu", "FastGelu")
def _read_gelu(view: NodeView) -> NodeReading:
    tanh = view.operation == "FastGelu" or view.get("approximate", "none") == "tanh"
    hyperparameters: dict[str, Any] = {"approximate": tanh}
    if view.has(1):
        # BiasGelu and FastGelu add a bias before the activation.
        hyperparameters["bias"] = True
    return NodeReading("gelu", hyperparameters, list_present_roles(view))


@register_reader("QuickGelu", "Swish")
def _read_swish(view: NodeView) -> NodeReading:
    """x · sigmoid(alpha · x), which is SiLU where alpha is 1."""
    alpha = view.number("alpha", 1.702 if view.operation == "QuickGelu" else 1.0)
    return NodeReading("silu") if alpha == 1.0 else NodeReading(OPAQUE, {"alpha": alpha})


@register_reader("Softmax", "LogSoftmax")
def _read_softmax(view: NodeView) -> NodeReading:
    kind = "softmax" if view.operation == "Softmax" else "log_softmax"
    rank = len(view.shape(0))
    axis = int(view.get("axis", -1 if view.opset >= 13 else 1))
    axis = axis % rank if rank else axis
    # Before opset 13, softmax runs over all axes from `axis` on, flattened; only the last axis
    # gives the same result.
    if view.opset < 13 and axis != rank - 1:
        return NodeReading(OPAQUE, {"axis": axis})
    return NodeReading(kind, {"axis": axis})
