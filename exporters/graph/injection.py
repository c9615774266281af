"""Weights put into a structure: arithmetic on them done once, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import onnx
from onnx import ModelProto, numpy_helper

from exporters.errors import ExportError, first_few
from exporters.graph import folding
from exporters.graph.edits import input_names, live_nodes, prune, rename_reads, set_repeated_field
from exporters.graph.model import Array, WeightedModel
from exporters.graph.structure import Structure


def inject(
    structure: Structure, weights: Mapping[str, Array], *, outputs: Sequence[str] = ()
) -> WeightedModel:
    """Return the deployable graph: with weights, and the arithmetic on weights folded.

    `outputs` names taps that become outputs after the network's own.
    Raises ExportError naming weights that are missing, unexpected or of another shape or dtype.
    """
    _check_weights(structure, weights)
    unknown = sorted(set(outputs) - {*structure.taps, *structure.outputs})
    if unknown:
        raise ExportError(f"no tap is called {', '.join(unknown)}")
    model = ModelProto()
    model.CopyFrom(structure.model)
    graph = model.graph
    extra = [name for name in outputs if name not in structure.outputs]
    by_name = {value.name: value for value in graph.output}
    # The shapes of the other taps stay known, for add_outputs.
    graph.value_info.extend(by_name[name] for name in structure.taps if name not in extra)
    set_repeated_field(graph.output, [by_name[name] for name in (*structure.outputs, *extra)])
    names = [value.name for value in structure.weight_values()]
    del graph.input[len(structure.inputs) :]

    nodes = live_nodes(graph.node, [value.name for value in graph.output])
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = constants | {name: weights[name] for name in names}
    folded, body = folding.split_constant_nodes(nodes, set(values))
    folded, body = _keep_orientation(folded, body, weights)
    read = {value.name for value in graph.output}.union(*(input_names(node) for node in body))
    computed = {name for node in folded for name in node.output if name}
    wanted = (read & computed) | (read & set(names))
    arrays = folding.evaluate_nodes(folded, values, wanted, opset=structure.opset)
    renamed = _weight_names(folded, names, wanted, taken=read)
    for node in body:
        rename_reads(node, renamed)
    set_repeated_field(graph.node, body)
    prune(graph)
    order = {name: index for index, name in enumerate(names)}
    tensors = {renamed.get(name, name): arrays[name] for name in arrays}
    last = len(order)
    by_order = sorted(tensors, key=lambda name: (order.get(name, last), name))
    return WeightedModel(skeleton=model, tensors={name: tensors[name] for name in by_order})


def _keep_orientation(
    folded: list[onnx.NodeProto], body: list[onnx.NodeProto], weights: Mapping[str, Array]
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Move the Transposes of matrices that only products read back to the body of the graph.

    The initializer stays the model's own matrix under its own name, and is not stored twice where
    something else reads it too; ONNX Runtime transposes it once, when it loads the file.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in (*folded, *body):
        for name in input_names(node):
            readers.setdefault(name, []).append(node)
    inside = {id(node) for node in body}
    kept = [
        node
        for node in folded
        if node.op_type == "Transpose"
        and node.input[0] in weights
        and weights[node.input[0]].ndim == 2
        and all(
            reader.op_type == "MatMul" and id(reader) in inside
            for reader in readers.get(node.output[0], ())
        )
        and readers.get(node.output[0])
    ]
    moved = {id(node) for node in kept}
    return [node for node in folded if id(node) not in moved], [*kept, *body]


def _check_weights(structure: Structure, weights: Mapping[str, Array]) -> None:
    expected = structure.weights
    missing = sorted(expected.keys() - weights.keys())
    if missing:
        raise ExportError(f"{len(missing)} weights are missing: {first_few(missing)}")
    unexpected = sorted(weights.keys() - expected.keys() - set(structure.unused))
    if unexpected:
        raise ExportError(
            f"{len(unexpected)} weights are not in the graph: {first_few(unexpected)}"
        )
    for value in structure.weight_values():
        array, shape = weights[value.name], expected[value.name]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if array.shape != shape or array.dtype != dtype:
            found = f"{array.shape} {array.dtype}"
            raise ExportError(f"{value.name}: expected {shape} {dtype}, found {found}")


def _weight_names(
    folded: Sequence[onnx.NodeProto], weights: Sequence[str], wanted: set[str], *, taken: set[str]
) -> dict[str, str]:
    """Return new names for what is computed from weights.

    A weight that is only rearranged gets the weight's name, if it is free; another tensor the name
    of the first weight that it is computed from, and "folded".
    """
    origin = {name: name for name in weights}
    first = dict(origin)
    for node in folded:
        if node.op_type in folding.LAYOUT_OPS and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        sources = [first[name] for name in node.input if name in first]
        if sources:
            first.update(dict.fromkeys(node.output, sources[0]))
    names: dict[str, str] = {}
    used = {*taken, *weights}
    for value in sorted(wanted - set(weights)):
        weight = origin.get(value)
        if weight is not None and weight not in taken and weight not in names.values():
            names[value] = weight
        elif value in first:
            candidates = itertools.chain(
                [f"{first[value]}/folded"],
                (f"{first[value]}/folded_{index}" for index in itertools.count(1)),
            )
            names[value] = next(name for name in candidates if name not in used)
            used.add(names[value])
    return names
