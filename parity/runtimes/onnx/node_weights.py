"""Which weights the node that makes a tensor holds: what an ONNX file has, in canonical layouts."""

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
class Held:
    """One weight of a graph: its tensor's name there, and its value."""

    name: str
    value: Array


def weights(model: onnx_graph.WeightedModel, tensor: str, kind: str) -> dict[str, Held]:
    """The weights of the layer of `kind` whose output is `tensor`, by role, as float32.

    Behind the operator itself a bias may be added, and axes be moved about.
    """
    found_kind = kinds.find(kind)
    if found_kind is None or not found_kind.roles:
        return {}
    constants = _constants(model)
    makers = {name: node for node in model.skeleton.graph.node for name in node.output}
    found: dict[str, Held] = {}
    node = makers.get(tensor)
    while node is not None and node.op_type not in found_kind.onnx:
        variable = [name for name in node.input if name and name not in constants]
        fixed = [name for name in node.input if name in constants]
        if node.op_type == "Add" and len(variable) == 1 and len(fixed) == 1:
            found["bias"] = Held(fixed[0], constants[fixed[0]].reshape(-1))
        elif node.op_type not in ("Identity", "Transpose", "Reshape", "Squeeze", "Flatten"):
            return {}
        node = makers.get(variable[0]) if variable else None
    if node is None:
        return {}
    for role, name in zip(found_kind.roles, node.input[1:], strict=False):
        if name in constants:
            value = constants[name]
            found[role.name] = Held(name, value if _transposed(node) else role.from_onnx(value))
    return {
        role: Held(held.name, np.ascontiguousarray(held.value, np.float32))
        for role, held in found.items()
    }


def _transposed(node: NodeProto) -> bool:
    """Whether a Gemm transposes its kernel, which then is (outputs, inputs) as PyTorch's."""
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _constants(model: onnx_graph.WeightedModel) -> Mapping[str, Array]:
    """Initializers and Constant nodes; large ones of the file stay where they are until read."""
    graph = model.skeleton.graph
    found: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return {**found, **model.tensors}
