"""Which weights the node that makes a tensor holds: what an ONNX file has, in canonical layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from exporters import graph as onnx_graph

Array = NDArray[Any]

ROLES = {
    "Conv": ("kernel", "bias"),
    "Gemm": ("kernel", "bias"),
    "MatMul": ("kernel",),
    "BatchNormalization": ("gamma", "beta", "mean", "variance"),
}
"""By operator, what its inputs after the first are."""

OPERATORS = {
    "conv": ("Conv",),
    "depthwise_conv": ("Conv",),
    "dense": ("Gemm", "MatMul"),
    "batch_norm": ("BatchNormalization",),
}
"""By the table's kind, the operators that compute it."""


@dataclass(frozen=True)
class Held:
    """One weight of a graph: its tensor's name there, and its value."""

    name: str
    value: Array


def weights(model: onnx_graph.WeightedModel, tensor: str, kind: str) -> dict[str, Held]:
    """The weights of the layer of `kind` whose output is `tensor`, by role, as float32.

    Behind the operator itself a bias may be added, and axes be moved about.
    """
    constants = _constants(model)
    makers = {name: node for node in model.skeleton.graph.node for name in node.output}
    found: dict[str, Held] = {}
    node = makers.get(tensor)
    while node is not None and node.op_type not in OPERATORS.get(kind, ()):
        variable = [name for name in node.input if name and name not in constants]
        fixed = [name for name in node.input if name in constants]
        if node.op_type == "Add" and len(variable) == 1 and len(fixed) == 1:
            found["bias"] = Held(fixed[0], constants[fixed[0]].reshape(-1))
        elif node.op_type not in ("Identity", "Transpose", "Reshape", "Squeeze", "Flatten"):
            return {}
        node = makers.get(variable[0]) if variable else None
    if node is None:
        return {}
    names = dict(zip(ROLES[node.op_type], node.input[1:], strict=False))
    for role, name in names.items():
        if name in constants:
            value = constants[name]
            found[role] = Held(name, value.T if _transposed(node, role) else value)
    return {
        role: Held(held.name, np.ascontiguousarray(held.value, np.float32))
        for role, held in found.items()
    }


def _transposed(node: NodeProto, role: str) -> bool:
    """Whether a dense layer's kernel is (inputs, outputs) here: canonically it is the reverse."""
    if role != "kernel" or node.op_type == "Conv":
        return False
    across = {a.name: a.i for a in node.attribute}.get("transB", 0)
    return node.op_type == "MatMul" or not across


def _constants(model: onnx_graph.WeightedModel) -> Mapping[str, Array]:
    """Initializers and Constant nodes; large ones of the file stay where they are until read."""
    graph = model.skeleton.graph
    found: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return {**found, **model.tensors}
