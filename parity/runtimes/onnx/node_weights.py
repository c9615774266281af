"""The weights of a layer in an ONNX graph, in canonical layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from exporters import graph as onnx_graph
from parity.network import kinds

Array = NDArray[Any]


@dataclass(frozen=True)
class NodeWeight:
    """One weight of a graph: its tensor's name there, and its value."""

    name: str
    value: Array


def read_node_weights(
    model: onnx_graph.WeightedModel, tensor: str, kind: str
) -> dict[str, NodeWeight]:
    """Return the weights of the layer of `kind` whose output is `tensor`, by role, as float32.

    Between the operator and the tensor, a bias may be added and axes may be moved.
    """
    layer_kind = kinds.find(kind)
    if layer_kind is None or not layer_kind.roles:
        return {}
    constants = _constants(model)
    producers = {name: node for node in model.skeleton.graph.node for name in node.output}
    found: dict[str, NodeWeight] = {}
    node = producers.get(tensor)
    while node is not None and node.op_type not in layer_kind.onnx:
        variable = [name for name in node.input if name and name not in constants]
        constant = [name for name in node.input if name in constants]
        if node.op_type == "Add" and len(variable) == 1 and len(constant) == 1:
            found["bias"] = NodeWeight(constant[0], constants[constant[0]].reshape(-1))
        elif node.op_type not in ("Identity", "Transpose", "Reshape", "Squeeze", "Flatten"):
            return {}
        node = producers.get(variable[0]) if variable else None
    if node is None:
        return {}
    for role, read in zip(layer_kind.roles, node.input[1:], strict=False):
        name, value = _constant_behind(read, constants, producers)
        if value is not None:
            canonical = value if _is_transposed(node) else role.from_onnx(value)
            found[role.name] = NodeWeight(name, canonical)
    return {
        role: NodeWeight(weight.name, np.ascontiguousarray(weight.value, np.float32))
        for role, weight in found.items()
    }


def _constant_behind(
    name: str, constants: Mapping[str, Array], producers: Mapping[str, NodeProto]
) -> tuple[str, Array | None]:
    """Return a constant's name and value, also where a product reads its transpose."""
    if name in constants:
        return name, constants[name]
    node = producers.get(name)
    if node is not None and node.op_type == "Transpose" and node.input[0] in constants:
        value = constants[node.input[0]]
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        return node.input[0], np.transpose(value, perm)
    return name, None


def _is_transposed(node: NodeProto) -> bool:
    """Whether a Gemm transposes its kernel, which then is (outputs, inputs) as PyTorch's."""
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _constants(model: onnx_graph.WeightedModel) -> Mapping[str, Array]:
    """Return the values of initializers and Constant nodes by tensor name."""
    graph = model.skeleton.graph
    found: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return {**found, **model.tensors}
