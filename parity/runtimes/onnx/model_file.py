"""ONNX files of any origin: read safely, their functions inlined, their weights as arrays."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from parity.errors import GraphError

Array = NDArray[Any]


@dataclass(frozen=True)
class OnnxModel:
    """A model whose weights are arrays.

    `skeleton` lacks exactly the initializers in `tensors`. Tensors of `Constant` nodes are
    initializers too, under the names of the nodes' outputs.
    """

    source: str
    """The file's path, for messages."""
    skeleton: ModelProto
    tensors: dict[str, Array]

    @property
    def graph(self) -> GraphProto:
        """The nodes, without the initializers in `tensors`."""
        return self.skeleton.graph

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The inputs, without those that are initializers (files of IR version 3 list them)."""
        return [value for value in self.graph.input if value.name not in self.tensors]

    @property
    def opsets(self) -> dict[str, int]:
        """The version of each domain's operators; ONNX's own is `ai.onnx`."""
        return {item.domain or "ai.onnx": item.version for item in self.skeleton.opset_import}


def load_model(path: str | Path) -> OnnxModel:
    """Read an ONNX file and its external data.

    Raises `GraphError` for a file that is none, and for external data outside the file's folder or
    of another size than the tensor.
    """
    path = Path(path)
    try:
        proto = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf's and the file system's errors have no base in common
        raise GraphError(f"{path}: cannot be read as an ONNX file: {_first_line(error)}") from error
    if not proto.graph.node and not proto.graph.output:
        raise GraphError(f"{path}: is not an ONNX model: it has no node and no output")
    return _split_weights(proto, str(path), path.parent)


def parse_model(proto: ModelProto, source: str) -> OnnxModel:
    """Return a model of a message, which is not changed; its weights are in the message."""
    skeleton = ModelProto()
    skeleton.CopyFrom(proto)
    return _split_weights(skeleton, source, None)


def _split_weights(skeleton: ModelProto, source: str, folder: Path | None) -> OnnxModel:
    """Take the weights out of a message; external data are read from `folder`."""
    initializers = list(skeleton.graph.initializer)
    for tensor in _inner_tensors(skeleton):
        _embed_external_data(tensor, folder, source)
    tensors = {tensor.name: _read_tensor(tensor, folder, source) for tensor in initializers}
    del skeleton.graph.initializer[:]
    if skeleton.functions:
        try:
            skeleton = inliner.inline_local_functions(skeleton)
        except Exception as error:  # the inliner's errors are RuntimeError and its own
            raise GraphError(f"{source}: a function cannot be inlined: {error}") from error
    _move_constants(skeleton.graph, tensors)
    _sort_nodes(skeleton.graph, source)
    return OnnxModel(source, skeleton, tensors)


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name; texts are `str`."""
    values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def restore_decimal(value: float, *constants: float) -> float:
    """Return a float attribute with the value that it had before it was rounded to float32.

    That is one of `constants`, or a decimal of six digits (as many as float32 resolves), if it
    rounds to the file's value: 1e-5 and not 9.99999974737875e-06. Any other value is returned as it
    is in the file.
    """
    stored = np.float32(value)
    for candidate in (*constants, float(f"{stored:.6g}")):
        if stored == np.float32(candidate):
            return candidate
    return float(stored)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that a node holds: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def outer_names(graph: GraphProto) -> list[str]:
    """Return the tensors that an inner graph reads from the graphs around it, in order."""
    inside = {value.name for value in graph.input} | {each.name for each in graph.initializer}
    found: dict[str, None] = {}
    for node in graph.node:
        read = [*node.input, *(name for inner in subgraphs(node) for name in outer_names(inner))]
        found.update(dict.fromkeys(name for name in read if name and name not in inside))
        inside.update(node.output)
    found.update(dict.fromkeys(v.name for v in graph.output if v.name not in inside))
    return list(found)


def read_names(node: NodeProto) -> list[str]:
    """Return all tensors that a node reads, those of its inner graphs included."""
    inner = [name for graph in subgraphs(node) for name in outer_names(graph)]
    return list(dict.fromkeys(name for name in (*node.input, *inner) if name))


def _move_constants(graph: GraphProto, tensors: dict[str, Array]) -> None:
    """Make initializers of the tensors of `Constant` nodes."""
    remaining = []
    for node in graph.node:
        value = _constant_value(node) if node.op_type == "Constant" and not node.domain else None
        if value is None:
            remaining.append(node)
        else:
            tensors[node.output[0]] = value
    if len(remaining) < len(graph.node):
        del graph.node[:]
        graph.node.extend(remaining)


def _sort_nodes(graph: GraphProto, source: str) -> None:
    """Bring the nodes into an order in which each follows those that it reads from.

    The specification demands one, and some converters append casts at the end all the same. An
    order that fits is kept. Raises `GraphError` for nodes that read from one another in a circle.
    """
    nodes = list(graph.node)
    made = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    pending = [
        {made[name] for name in read_names(node) if name in made} - {index}
        for index, node in enumerate(nodes)
    ]
    if all(not needs or max(needs) < index for index, needs in enumerate(pending)):
        return
    readers: dict[int, list[int]] = {}
    for index, needs in enumerate(pending):
        for need in needs:
            readers.setdefault(need, []).append(index)
    ready = [index for index, needs in enumerate(pending) if not needs]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, []):
            pending[reader].discard(index)
            if not pending[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        left = nodes[next(index for index, needs in enumerate(pending) if needs)]
        raise GraphError(f"{source}: {left.op_type} {left.name!r} is part of a circle of nodes")
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)


def _constant_value(node: NodeProto) -> Array | None:
    """Return a constant's tensor, or None for one that is a text or sparse."""
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return np.asarray(numpy_helper.to_array(value))
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    return None


def _inner_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor but the initializers of the outermost graph."""

    def of_nodes(nodes: Any) -> Iterator[TensorProto]:
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
            for graph in subgraphs(node):
                yield from graph.initializer
                yield from of_nodes(graph.node)

    yield from of_nodes(model.graph.node)
    for function in model.functions:
        yield from of_nodes(function.node)


def _read_tensor(tensor: TensorProto, folder: Path | None, source: str) -> Array:
    """Return a tensor's values; raises `GraphError` where they do not fit its shape."""
    _embed_external_data(tensor, folder, source)
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(
            f"{source}: the initializer {tensor.name!r}, {list(tensor.dims)}: {_first_line(error)}"
        ) from error


def _embed_external_data(tensor: TensorProto, folder: Path | None, source: str) -> None:
    """Read the values of a tensor whose data are in another file; the tensor then holds them."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return
    where = f"{source}: the tensor {tensor.name!r}"
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    if folder is None or not location:
        raise GraphError(f"{where} has external data without a file")
    root = folder.resolve()
    file = (root / location).resolve()
    # Links are followed: what counts is which file is read.
    if Path(location).is_absolute() or not file.is_relative_to(root):
        raise GraphError(f"{where} has data in {location!r}, outside the model's folder")
    expected = _byte_count(tensor, where)
    try:
        offset, length = int(fields.get("offset", 0)), int(fields.get("length", expected))
        size = file.stat().st_size
    except (OSError, ValueError) as error:
        raise GraphError(f"{where} has data in {location!r}: {_first_line(error)}") from error
    if length != expected or offset < 0 or offset + length > size:
        raise GraphError(
            f"{where} needs {expected} bytes; expected them at {offset} of {location!r}, "
            f"found {length} bytes stated, in a file of {size}"
        )
    with file.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT


def _byte_count(tensor: TensorProto, where: str) -> int:
    """Return how many bytes a tensor of this shape and type has."""
    if any(length < 0 for length in tensor.dims):
        raise GraphError(f"{where} has the shape {list(tensor.dims)}")
    count = math.prod(tensor.dims)
    name = TensorProto.DataType.Name(tensor.data_type)
    if name in ("INT4", "UINT4", "FLOAT4E2M1"):
        return (count + 1) // 2
    try:
        return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError) as error:
        raise GraphError(f"{where} has the type {name}, which has no external data") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
