"""Conversion of a float32 graph to float16 or bfloat16; its inputs and outputs stay float32."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from exporters.graph.model import WeightedModel, opset_of

TYPES: dict[str, tuple[int, Any]] = {
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}

BFLOAT16_OPSET = 22
"""The first opset whose convolutions and pools take bfloat16."""

FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""The inputs, by index, that an operator reads in float32 for any type of its data."""


def convert(model: WeightedModel, precision: str) -> WeightedModel:
    """Return the graph in another precision; its inputs and outputs stay float32.

    Raises ExportError for a weight that would overflow to an infinity, and for a graph with inner
    graphs.
    """
    onnx_type, dtype = TYPES[precision]
    proto = _upgrade(model.proto(), onnx_type)
    graph = proto.graph
    if any(
        attribute.HasField("g") or attribute.graphs for n in graph.node for attribute in n.attribute
    ):
        raise ExportError(f"{precision}: a graph with inner graphs (If, Loop) is not converted")
    float32_names = {
        node.input[index]
        for node in graph.node
        for index in FLOAT32_INPUTS.get(node.op_type, ())
        if index < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in float32_names:
            tensor.CopyFrom(_narrow(tensor, dtype, precision))
    for node in graph.node:
        _convert_attributes(node, onnx_type, dtype, precision, float32_names)
    for value in graph.value_info:
        if (
            value.type.tensor_type.elem_type == TensorProto.FLOAT
            and value.name not in float32_names
        ):
            value.type.tensor_type.elem_type = onnx_type
    _cast_ends(proto, onnx_type)
    return WeightedModel(proto, {})


def _upgrade(proto: ModelProto, onnx_type: int) -> ModelProto:
    """Return the model in an opset whose operators take the type."""
    if onnx_type != TensorProto.BFLOAT16 or opset_of(proto) >= BFLOAT16_OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, BFLOAT16_OPSET)
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"bfloat16 needs opset {BFLOAT16_OPSET}, and the graph cannot be brought to it: {error}"
        ) from error


def _narrow(tensor: TensorProto, dtype: Any, precision: str) -> TensorProto:
    """Return a tensor in a narrower type; raises ExportError where a value would be infinite."""
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    overflowed = np.isfinite(values) & ~np.isfinite(narrow.astype(np.float32))
    if overflowed.any():
        worst = float(np.abs(values[overflowed]).max())
        raise ExportError(f"{tensor.name}: {worst:.3g} is too large for {precision}")
    return numpy_helper.from_array(narrow, tensor.name)


def _convert_attributes(
    node: NodeProto, onnx_type: int, dtype: Any, precision: str, float32_names: Container[str]
) -> None:
    """Convert the constants in a node's attributes, and the result type of a cast."""
    if any(name in float32_names for name in node.output):
        return
    for attribute in node.attribute:
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_narrow(attribute.t, dtype, precision))
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = onnx_type


def _cast_ends(proto: ModelProto, onnx_type: int) -> None:
    """Cast the float32 inputs once, and the tensors that are outputs back."""
    graph = proto.graph
    inner: dict[str, str] = {}
    first, last = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            inner[value.name] = f"{value.name}/narrow"
            first.append(
                helper.make_node(
                    "Cast", [value.name], [inner[value.name]], f"{value.name}/cast", to=onnx_type
                )
            )
    for value in graph.output:
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.UNDEFINED):
            inner[value.name] = f"{value.name}/narrow"
            last.append(
                helper.make_node(
                    "Cast", [inner[value.name]], [value.name], f"{value.name}/cast",
                    to=TensorProto.FLOAT,
                )
            )  # fmt: skip
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = inner.get(name, name)
        for index, name in enumerate(node.output):
            if name in outputs:
                node.output[index] = inner.get(name, name)
    for value in graph.value_info:
        value.name = inner.get(value.name, value.name)
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
