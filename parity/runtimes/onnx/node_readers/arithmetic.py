"""Readers of sums, products and remainders of tensors."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeReading, NodeView, register_reader


@register_reader("Add", "Mul")
def _read_arithmetic(view: NodeView) -> NodeReading:
    """With a weight a learned sum or a layer scale; with data or a single number the operation."""
    for index in (0, 1):
        value = view.static(index)
        if value is not None and value.size > 1 and value.dtype.kind in "fV":
            if view.operation == "Add":
                return NodeReading("bias_add", roles={index: "bias"})
            return NodeReading("layer_scale", roles={index: "gamma"})
    return NodeReading("add" if view.operation == "Add" else "multiply")


@register_reader("Sum")
def _read_sum(view: NodeView) -> NodeReading:
    return NodeReading("add")


@register_reader("Mod")
def _read_mod(view: NodeView) -> NodeReading:
    return NodeReading(OPAQUE if view.get("fmod", 0) else "mod")
