"""Small edits of ONNX graphs: tensor names, renames, dead nodes, topological order.

They work on the protobuf message that both converters and ONNX's own inference hand over.
"""

# Why not onnx_ir's passes (1.1.0), measured on ResNeXt-50's raw graphs from PyTorch (175 nodes) and
# tf2onnx (711 nodes), milliseconds on one core, ours against theirs:
#   sort            0.7 / 0.7    2.2 / 2.3
#   dead nodes      1.0 / 1.0    3.0 / 2.5
#   identities      1.6 / 0.2    5.0 / 0.6
#   constants       0.6 / 0.2    1.9 / 0.5    (ours computes them too)
#   shapes          1.3 / 15.8  13.3 / 41.4   (theirs converts the graph there and back)
#   message to onnx_ir and back, once: 12, and 14.
# What the passes gain is less than the conversion costs, and importing onnx_ir, which Keras's side
# does not need otherwise, takes 0.2 s of an export of 1.4 s. IdentityEliminationPass also loses
# names: of two outputs that are Identities of one tensor, both get the second's name, so a tap
# would disappear; and it leaves Dropout. CommonSubexpressionEliminationPass has no counterpart
# here: it finds nothing in either finished graph.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the bodies of a Loop, If or Scan."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield every node, those of subgraphs too."""
    for node in graph.node:
        yield node
        for body in subgraphs(node):
            yield from all_nodes(body)


def input_names(node: NodeProto) -> set[str]:
    """Return the names of the tensors that a node reads, those its subgraphs capture included."""
    names = {name for name in node.input if name}
    for body in subgraphs(node):
        inner = {value.name for value in body.input} | {t.name for t in body.initializer}
        read: set[str] = {value.name for value in body.output}
        for child in body.node:
            read |= input_names(child)
            inner.update(child.output)
        names |= read - inner
    return names


def rename_reads(node: NodeProto, names: Mapping[str, str]) -> None:
    """Rename the tensors that a node reads, in place, also inside its subgraphs."""
    for index, name in enumerate(node.input):
        if name in names:
            node.input[index] = names[name]
    for body in subgraphs(node):
        own = {value.name for value in body.input} | {t.name for t in body.initializer}
        own.update(name for child in body.node for name in child.output)
        outer = {old: new for old, new in names.items() if old not in own}
        for child in body.node:
            rename_reads(child, outer)
        for value in body.output:
            value.name = outer.get(value.name, value.name)


def rename_tensors(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors everywhere in a graph, in place."""
    for node in graph.node:
        rename_reads(node, names)
        for index, name in enumerate(node.output):
            if name in names:
                node.output[index] = names[name]
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for value in values:
            value.name = names.get(value.name, value.name)


def live_nodes(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Return the nodes that `outputs` depend on, in their order, which is topological."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted |= input_names(node)
            kept.append(node)
    return kept[::-1]


def prune(graph: GraphProto) -> None:
    """Drop the nodes, initializers and shapes that no output depends on, in place; keep inputs."""
    nodes = live_nodes(graph.node, [value.name for value in graph.output])
    read = {value.name for value in graph.output}.union(*(input_names(node) for node in nodes))
    produced = {name for node in nodes for name in node.output}
    set_repeated_field(graph.node, nodes)
    set_repeated_field(graph.initializer, [t for t in graph.initializer if t.name in read])
    set_repeated_field(graph.value_info, [v for v in graph.value_info if v.name in produced])


def set_repeated_field(field: object, values: Sequence[object]) -> None:
    """Set a repeated protobuf field; `values` may be elements of the field itself."""
    values = list(values)
    del field[:]  # type: ignore[attr-defined]
    field.extend(values)  # type: ignore[attr-defined]


def sort_nodes(graph: GraphProto) -> None:
    """Put the nodes in topological order, in place; keep their order otherwise."""
    known = {value.name for value in graph.input} | {t.name for t in graph.initializer} | {""}
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output}
    ordered: list[int] = []
    done: set[int] = set()
    for start in range(len(graph.node)):
        stack = [start]
        while stack:
            index = stack[-1]
            if index in done:
                stack.pop()
                continue
            waiting = [
                producer[name]
                for name in sorted(input_names(graph.node[index]))
                if name not in known and name in producer and producer[name] not in done
            ]
            if waiting:
                stack.extend(waiting)
                continue
            done.add(index)
            ordered.append(index)
            stack.pop()
    set_repeated_field(graph.node, [graph.node[index] for index in ordered])


def read_attribute(node: NodeProto, name: str, default: object = None) -> Any:
    """Return the value of a node's attribute, or `default`."""
    for candidate in node.attribute:
        if candidate.name == name:
            return onnx.helper.get_attribute_value(candidate)
    return default


def rename_inputs_and_outputs(
    graph: GraphProto, *, inputs: Mapping[str, str], outputs: Sequence[str | None]
) -> None:
    """Rename inputs and outputs in place; an output without a name is dropped.

    Each output that is kept becomes that of a new Identity node, since one tensor may be several
    outputs. An inner tensor
    that has one of these names by chance is renamed.
    """
    wanted = {*inputs.values(), *(name for name in outputs if name)}
    present = {name for node in graph.node for name in node.output} | set(inputs)
    inner = {name: f"{name}/inside" for name in present & wanted}
    rename_tensors(graph, inner)
    rename_tensors(graph, {inner.get(old, old): new for old, new in inputs.items()})
    kept = []
    for value, name in zip(graph.output, outputs, strict=True):
        if name is None:
            continue
        node = onnx.helper.make_node("Identity", [value.name], [name], name=name)
        graph.node.append(node)
        named = ValueInfoProto(name=name)
        named.type.CopyFrom(value.type)
        kept.append(named)
    set_repeated_field(graph.output, kept)
