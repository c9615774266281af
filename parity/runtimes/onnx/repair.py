"""Repairs of ONNX files: attributes, operators, initializers and connections of single nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from parity.errors import GraphError
from parity.network import kinds
from parity.numerics.npz import load_npz
from parity.runtimes.onnx.model_file import load_model

_OWN_DOMAINS = ("", "ai.onnx")
"""The two names of the domain of ONNX's own operators."""

_EMBEDDED_LIMIT = 2**31 - 2**20
"""Bytes of a message that protobuf can hold, with room for the nodes."""


def write_repaired(
    source: str, path: str, *, edits: Sequence[Mapping[str, Any]], weights: str | None
) -> None:
    """Write the ONNX file `source` with edits, and the weights of an `.npz` file, to `path`.

    Each edit names a `tensor` and an `action`: `set`, with the `kind` of the node that makes it and
    its new `attributes`; `rename`, the node to another `kind` of the same inputs; `replace`, by a
    node of `kind` with `attributes` that reads the tensor `input`; `connect`, the node's input
    `old` to `new`; `insert`, a node of `kind` with `attributes` behind the tensor, for all that
    read it; `remove` the node that makes it, in whose place its first input is copied. All weights
    are in the file. Raises `GraphError` for a tensor that no node makes and an operator that ONNX
    lacks.
    """
    model = load_model(source)
    proto = ModelProto()
    proto.CopyFrom(model.skeleton)
    tensors = dict(model.tensors)
    if weights is not None:
        for name, value in load_npz(weights).items():
            if name in tensors:
                tensors[name] = value.astype(tensors[name].dtype)
    for edit in edits:
        _apply(proto.graph, edit, model.opsets.get("ai.onnx", 0), tensors)
    _drop_dead_nodes(proto.graph)
    used = {name for node in proto.graph.node for name in _all_reads(node)}
    used |= {value.name for value in proto.graph.output}
    kept = {name: value for name, value in tensors.items() if name in used}
    if sum(value.nbytes for value in kept.values()) > _EMBEDDED_LIMIT:
        raise GraphError(f"{source}: files above 2 GB are not repaired")
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        for name, value in kept.items()
    )
    del proto.graph.value_info[:]
    onnx.save_model(proto, Path(path))


def _apply(
    graph: GraphProto, edit: Mapping[str, Any], opset: int, tensors: dict[str, np.ndarray]
) -> None:
    tensor, action = str(edit["tensor"]), edit["action"]
    if action == "insert":
        _insert(graph, tensor, edit, opset, tensors)
        return
    index, node = _find_maker(graph, tensor)
    if action == "set":
        node = _find_operator(graph, node, kinds.get(edit["kind"]).onnx)
        _set_attributes(node, edit["attributes"])
    elif action == "rename":
        node.op_type = kinds.get(edit["kind"]).onnx[0]
        # The new operator is ONNX's own, whosever the old one was.
        node.ClearField("domain")
        del node.attribute[:]
    elif action == "replace":
        made = _make_nodes(edit, str(edit["input"]), tensor, opset, tensors)
        # The nodes of a composed activation that are no longer read are dropped later.
        del graph.node[index]
        for offset, each in enumerate(made):
            graph.node.insert(index + offset, each)
    elif action == "connect":
        node = _find_reader(graph, node, str(edit["old"]))
        node.input[list(node.input).index(str(edit["old"]))] = str(edit["new"])
    elif action == "remove":
        graph.node[index].CopyFrom(helper.make_node("Identity", [node.input[0]], [tensor]))
    else:
        raise GraphError(f"there is no edit {action!r}")


def _find_maker(graph: GraphProto, tensor: str) -> tuple[int, NodeProto]:
    for index, node in enumerate(graph.node):
        if tensor in node.output:
            return index, node
    raise GraphError(f"no node makes the tensor {tensor!r}")


def _find_operator(graph: GraphProto, node: NodeProto, operators: Sequence[str]) -> NodeProto:
    """Return the node of these operators that makes a tensor, or what it reads, two nodes back."""
    waiting = [node]
    for _ in range(3):
        for each in waiting:
            if each.op_type in operators and each.domain in _OWN_DOMAINS:
                return each
        names = {name for each in waiting for name in each.input}
        waiting = [each for each in graph.node if names & set(each.output)]
    raise GraphError(f"{node.name!r}: no {' or '.join(operators)} makes {node.output[0]!r}")


def _find_reader(graph: GraphProto, node: NodeProto, tensor: str) -> NodeProto:
    """Return the node that reads `tensor` on the way to `node`, itself or one before it."""
    waiting, seen = [node], list[int]()
    while waiting:
        each = waiting.pop(0)
        if tensor in each.input:
            return each
        if id(each) in seen or len(seen) > 16:
            continue
        seen.append(id(each))
        waiting += [other for other in graph.node if set(each.input) & set(other.output)]
    raise GraphError(f"{node.name!r} does not read {tensor!r}")


def _set_attributes(node: NodeProto, attributes: Mapping[str, Any]) -> None:
    dropped = set(attributes) | ({"auto_pad"} if "pads" in attributes else set())
    kept = [each for each in node.attribute if each.name not in dropped]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, v) for name, v in attributes.items())


def _insert(
    graph: GraphProto,
    tensor: str,
    edit: Mapping[str, Any],
    opset: int,
    tensors: dict[str, np.ndarray],
) -> None:
    """Insert a node behind a tensor; it takes the tensor's name, which its readers keep."""
    index, maker = _find_maker(graph, tensor)
    before = f"{tensor}/before"
    maker.output[list(maker.output).index(tensor)] = before
    for offset, each in enumerate(_make_nodes(edit, before, tensor, opset, tensors)):
        graph.node.insert(index + 1 + offset, each)


def _make_nodes(
    edit: Mapping[str, Any],
    source: str,
    target: str,
    opset: int,
    tensors: dict[str, np.ndarray],
) -> list[NodeProto]:
    """Return the nodes of one operation of `kind`, which reads `source` and makes `target`."""
    kind, attributes = str(edit["kind"]), dict(edit.get("attributes") or {})
    if kind == "silu":
        gate = f"{target}/gate"
        return [
            helper.make_node("Sigmoid", [source], [gate]),
            helper.make_node("Mul", [source, gate], [target]),
        ]
    if kind == "relu6":
        bounds = [f"{target}/low", f"{target}/high"]
        for name, value in zip(bounds, (0.0, 6.0), strict=True):
            tensors[name] = np.asarray(value, np.float32)
        return [helper.make_node("Clip", [source, *bounds], [target])]
    operators = kinds.get(kind).onnx
    if not operators or opset < _SINCE.get(operators[0], 1):
        raise GraphError(f"ONNX's opset {opset} has no operator for {kind}")
    return [helper.make_node(operators[0], [source], [target], **attributes)]


_SINCE = {"Gelu": 20, "HardSwish": 14, "Mish": 18, "Celu": 12}
"""The opset that introduced an operator, where it is above 11."""


def _all_reads(node: NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _all_reads(inner)


def _drop_dead_nodes(graph: GraphProto) -> None:
    """Remove nodes whose outputs nothing reads."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed.update(_all_reads(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
