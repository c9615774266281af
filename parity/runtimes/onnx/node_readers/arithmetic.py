"""Readers of sums, products and remainders of tensors."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeView, Reading, reads


@reads("Add", "Mul")
def _read_arithmetic(view: NodeView) -> Reading:
    """With a weight a learned sum or a layer scale; with data or a single number the operation."""
    for index in (0, 1):
        value = view.static(index)
        if value is not None and value.size > 1 and value.dtype.kind in "fV":
            if view.operation == "Add":
                return Reading("bias_add", roles={index: "bias"})
            return Reading("layer_scale", roles={index: "gamma"})
    return Reading("add" if view.operation == "Add" else "multiply")


@reads("Sum")
def _read_sum(view: NodeView) -> Reading:
    return Reading("add")


@reads("Mod")
def _read_mod(view: NodeView) -> Reading:
    return Reading(OPAQUE if view.get("fmod", 0) else "mod")
