"""Readers of activations."""

from __future__ import annotations

import math
from typing import Any

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.model_file import restore_decimal
from parity.runtimes.onnx.node_readers.reading import NodeView, Reading, present_roles, reads


@reads("Clip")
def _read_clip(view: NodeView) -> Reading:
    """Bounds are inputs from opset 11 on, attributes before."""
    bounds: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        value = view.static(index)
        if view.has(index) and value is None:
            return Reading(OPAQUE)
        stated = view.get(name)
        number = None if value is None else float(value.reshape(()))
        if number is None and stated is not None:
            number = float(stated)
        infinite = number is not None and (math.isinf(number) or abs(number) >= 3e38)
        bounds.append(None if number is None or infinite else restore_decimal(number))
    consumed = frozenset({1, 2})
    if bounds == [0.0, None]:
        return Reading("relu", consumed=consumed)
    if bounds == [0.0, 6.0]:
        return Reading("relu6", consumed=consumed)
    hyper = {n: b for n, b in zip(("low", "high"), bounds, strict=True) if b is not None}
    return Reading("clip", hyper, consumed=consumed)


@reads("LeakyRelu")
def _read_leaky_relu(view: NodeView) -> Reading:
    return Reading("leaky_relu", {"slope": view.number("alpha", 0.01)})


@reads("Elu", "Celu")
def _read_elu(view: NodeView) -> Reading:
    return Reading(view.operation.lower(), {"alpha": view.number("alpha", 1.0)})


@reads("HardSigmoid")
def _read_hard_sigmoid(view: NodeView) -> Reading:
    slope = restore_decimal(view.get("alpha", 0.2), 0.2, 1 / 6)
    return Reading("hard_sigmoid", {"slope": slope, "offset": view.number("beta", 0.5)})


@reads("PRelu")
def _read_prelu(view: NodeView) -> Reading:
    if view.static(1) is None:
        return Reading(OPAQUE)
    return Reading("prelu", roles={1: "alpha"})


@reads("Gelu", "BiasGelu", "FastGelu")
def _read_gelu(view: NodeView) -> Reading:
    tanh = view.operation == "FastGelu" or view.get("approximate", "none") == "tanh"
    hyper: dict[str, Any] = {"approximate": tanh}
    if view.has(1):
        # A bias is added before: a learned sum and the activation in one node.
        hyper["bias"] = True
    return Reading("gelu", hyper, present_roles(view))


@reads("QuickGelu")
def _read_quick_gelu(view: NodeView) -> Reading:
    """x · sigmoid(alpha · x), which is SiLU where alpha is 1."""
    alpha = view.number("alpha", 1.702)
    return Reading("silu") if alpha == 1.0 else Reading(OPAQUE, {"alpha": alpha})


@reads("Swish")
def _read_swish(view: NodeView) -> Reading:
    alpha = view.number("alpha", 1.0)
    return Reading("silu") if alpha == 1.0 else Reading(OPAQUE, {"alpha": alpha})


@reads("Softmax", "LogSoftmax")
def _read_softmax(view: NodeView) -> Reading:
    kind = "softmax" if view.operation == "Softmax" else "log_softmax"
    rank = len(view.shape(0))
    axis = int(view.get("axis", -1 if view.opset >= 13 else 1))
    axis = axis % rank if rank else axis
    # Before opset 13 the axes from `axis` on are one; which is the same for the last one.
    if view.opset < 13 and axis != rank - 1:
        return Reading(OPAQUE, {"axis": axis})
    return Reading(kind, {"axis": axis})
