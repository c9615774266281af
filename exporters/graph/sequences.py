"""Sequences of tensors replaced by plain operators: SplitToSequence, SequenceAt, and their like."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from exporters.graph.edits import input_names, read_attribute, set_repeated_field
from exporters.graph.simplification import shapes_of


def lower_sequences(model: ModelProto) -> bool:
    """Write a split whose parts are taken by number as Split, in place; return whether one was.

    A joined list of tensors becomes a Concat. Parts of unknown number or size stay sequences.
    """
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    outputs = {value.name for value in graph.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in input_names(node):
            readers.setdefault(name, []).append(node)
    replaced: dict[int, list[NodeProto]] = {}
    dropped: set[int] = set()
    for node in graph.node:
        users = readers.get(node.output[0], []) if node.output else []
        if node.op_type == "SplitToSequence" and node.output[0] not in outputs:
            split = _to_split(node, users, constants, graph)
            if split is not None:
                replaced[id(node)] = split
                dropped |= {id(user) for user in users}
        elif (
            node.op_type == "SequenceConstruct"
            and node.output[0] not in outputs
            and users
            and all(user.op_type == "ConcatFromSequence" for user in users)
            and not any(read_attribute(user, "new_axis", 0) for user in users)
        ):
            dropped.add(id(node))
            for user in users:
                axis = read_attribute(user, "axis")
                concat = helper.make_node("Concat", node.input, user.output, user.name, axis=axis)
                replaced[id(user)] = [concat]
    if not replaced:
        return False
    nodes: list[NodeProto] = []
    for node in graph.node:
        if id(node) in replaced:
            nodes += replaced[id(node)]
        elif id(node) not in dropped:
            nodes.append(node)
    set_repeated_field(graph.node, nodes)
    return True


def _to_split(
    node: NodeProto,
    users: list[NodeProto],
    constants: dict[str, np.ndarray],
    graph: GraphProto,
) -> list[NodeProto] | None:
    """Return the nodes in place of SplitToSequence and its SequenceAt, or None."""
    if not users or any(
        user.op_type != "SequenceAt" or user.input[1] not in constants for user in users
    ):
        return None
    axis = read_attribute(node, "axis", 0)
    keep = read_attribute(node, "keepdims", 1)
    sizes = _part_sizes(node, axis, constants, graph)
    if sizes is None:
        return None
    squeezed = not keep and len(node.input) < 2
    result = node.output[0]
    parts = [f"{result}/{index}" for index in range(len(sizes))]
    split = np.asarray(sizes, np.int64)
    graph.initializer.append(numpy_helper.from_array(split, f"{result}/sizes"))
    nodes = [
        helper.make_node("Split", [node.input[0], f"{result}/sizes"], parts, node.name, axis=axis)
    ]
    if squeezed:
        axes = numpy_helper.from_array(np.asarray([axis], np.int64), f"{result}/axis")
        graph.initializer.append(axes)
    for user in users:
        part = parts[int(constants[user.input[1]].reshape(-1)[0])]
        inputs = [part, f"{result}/axis"] if squeezed else [part]
        kind = "Squeeze" if squeezed else "Identity"
        nodes.append(helper.make_node(kind, inputs, user.output, user.name))
    return nodes


def _part_sizes(
    node: NodeProto, axis: int, constants: dict[str, np.ndarray], graph: GraphProto
) -> list[int] | None:
    given = constants.get(node.input[1]) if len(node.input) > 1 else np.asarray(1)
    if given is None:
        return None
    if given.ndim:
        return [int(size) for size in given]
    shape = shapes_of(graph).get(node.input[0])
    total = shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    if not isinstance(total, int):
        return None
    step = int(given)
    return [min(step, total - start) for start in range(0, total, step)]
