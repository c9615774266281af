"""Simplification of a converter's graph: constant folding, shape inference, no identities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TensorShapeProto,
    ValueInfoProto,
    numpy_helper,
)

from exporters.errors import ExportError, first_line
from exporters.graph import folding
from exporters.graph.edits import (
    input_names,
    prune,
    read_attribute,
    rename_reads,
    rename_tensors,
    set_repeated_field,
    sort_nodes,
)
from exporters.graph.model import opset_of

# A folded constant larger than this stays an operator: a file should not grow by a ConstantOfShape.
_LARGEST_CONSTANT = 1 << 16


def simplify(graph: GraphProto, *, opset: int) -> None:
    """Compute what depends on constants alone and drop Identity and dead nodes, in place."""
    sort_nodes(graph)
    _fold_constants(graph, opset)
    _drop_identities(graph)
    prune(graph)


def simplify_with_shapes(model: ModelProto) -> ModelProto:
    """Simplify before and after shape inference; return the model with every shape.

    Raises ExportError where a shape cannot be inferred.
    """
    opset = opset_of(model)
    simplify(model.graph, opset=opset)
    model = infer_shapes(model)
    fold_shapes(model)
    simplify(model.graph, opset=opset)
    return model


def fold_shapes(model: ModelProto) -> None:
    """Replace nodes by constants where shape inference has found the shape or dtype, in place.

    A Shape (or a part of one) without the batch size becomes an initializer, as does the target of
    a Reshape with one size that varies; CastLike becomes Cast. The nodes that read them can then
    be folded.
    """
    graph = model.graph
    shapes = shapes_of(graph)
    dtypes = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    } | {tensor.name: tensor.data_type for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            start, end = read_attribute(node, "start", 0), read_attribute(node, "end", None)
            sizes = shapes[node.input[0]][slice(start, end)]
            if all(isinstance(size, int) for size in sizes):
                array = np.asarray(sizes, np.int64)
                graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
                continue
        elif node.op_type == "Reshape" and shapes.get(node.output[0]):
            # One size that varies can be -1, and need not be computed from the input's shape.
            target = shapes[node.output[0]]
            fixed = [size if isinstance(size, int) else -1 for size in target]
            if fixed.count(-1) <= 1 and 0 not in fixed:
                target_name = f"{node.output[0]}/shape"
                node.input[1] = target_name
                array = np.asarray(fixed, np.int64)
                if target_name not in shapes:  # the pass may have been here before
                    graph.initializer.append(numpy_helper.from_array(array, target_name))
        elif node.op_type == "CastLike" and dtypes.get(node.input[1]):
            node.op_type = "Cast"
            target_type = onnx.helper.make_attribute("to", dtypes[node.input[1]])
            del node.input[1], node.attribute[:]
            node.attribute.append(target_type)
        kept.append(node)
    set_repeated_field(graph.node, kept)


def lower_erfc(graph: GraphProto) -> None:
    """Write erfc(x) as 1 - erf(x), in place: ONNX has no Erfc."""
    nodes = []
    for node in graph.node:
        if node.op_type == "Erfc":
            x, result = node.input[0], node.output[0]
            one, cast, erf = (f"{result}/{part}" for part in ("one", "cast", "erf"))
            value = onnx.helper.make_node("Constant", [], [one], value_float=1.0)
            nodes += [value, onnx.helper.make_node("CastLike", [one, x], [cast])]
            nodes += [onnx.helper.make_node("Erf", [x], [erf])]
            nodes += [onnx.helper.make_node("Sub", [cast, erf], [result], name=node.name)]
        else:
            nodes.append(node)
    set_repeated_field(graph.node, nodes)


def shapes_of(graph: GraphProto) -> dict[str, tuple[int | str, ...]]:
    """Return known shapes by tensor name; a size that varies is a string."""
    shapes: dict[str, tuple[int | str, ...]] = {
        tensor.name: tuple(tensor.dims) for tensor in graph.initializer
    }
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
                for dim in value.type.tensor_type.shape.dim
            )
    return shapes


def infer_shapes(model: ModelProto) -> ModelProto:
    """Infer every shape again; an output whose shape is not inferred keeps the one that it has.

    ONNX does not infer the shape of what a Loop or If returns, or of a Squeeze of an unknown axis;
    the framework knows it. Raises ExportError with the node that does not fit.
    """
    declared = {}
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.tensor_type.HasField("shape"):
            declared[value.name] = TensorShapeProto()
            declared[value.name].CopyFrom(value.type.tensor_type.shape)
        value.type.tensor_type.ClearField("shape")
    try:
        model = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except Exception as error:  # onnx raises its own InferenceError and plain RuntimeError
        raise ExportError(f"shape inference failed: {first_line(error)}") from error
    for value in model.graph.output:
        if value.name in declared:
            _complete_shape(value, declared[value.name])
    return model


def _complete_shape(value: ValueInfoProto, declared: TensorShapeProto) -> None:
    """Give an output its declared shape, or the sizes of it that were not inferred, in place."""
    tensor_type = value.type.tensor_type
    if not tensor_type.HasField("shape"):
        tensor_type.shape.CopyFrom(declared)
    elif len(tensor_type.shape.dim) == len(declared.dim):
        for found, known in zip(tensor_type.shape.dim, declared.dim, strict=True):
            if not found.HasField("dim_value") and known.HasField("dim_value"):
                found.dim_value = known.dim_value
    else:
        return
    for axis, dim in enumerate(tensor_type.shape.dim):
        if not dim.HasField("dim_value"):
            dim.dim_param = dim.dim_param or f"{value.name}_{axis}"


def _fold_constants(graph: GraphProto, opset: int) -> None:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    folded, body = folding.split_constant_nodes(graph.node, set(values))
    kept = []
    for node in folded:
        outputs = {name for name in node.output if name}
        if input_names(node) <= values.keys():
            try:
                arrays = folding.evaluate_nodes([node], values, outputs, opset=opset)
            except ExportError:
                kept.append(node)  # what onnx.reference cannot evaluate, ONNX Runtime will
                continue
            if sum(array.size for array in arrays.values()) <= _LARGEST_CONSTANT:
                values |= arrays
                continue
        kept.append(node)
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in values.items() if name not in known
    )
    set_repeated_field(graph.node, [*kept, *body])


def _drop_identities(graph: GraphProto) -> None:
    outputs = [value.name for value in graph.output]
    aliases: dict[str, str] = {}
    false = {t.name for t in graph.initializer if _is_false(t)} | {""}
    _drop_unread_outputs(graph)
    kept = []
    for node in graph.node:
        rename_reads(node, aliases)
        if _is_identity(node, false) and node.output[0] not in outputs:
            aliases[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    # A tensor with several output names takes the first; the others stay copies of it.
    produced = {name for node in kept for name in node.output}
    output_names: dict[str, str] = {}
    for node in sorted(kept, key=lambda node: _output_index(node, outputs)):
        source = node.input[0] if _is_identity(node, false) else ""
        if source in produced and source not in outputs and source not in output_names:
            output_names[source] = node.output[0]
    set_repeated_field(
        graph.node, [n for n in kept if output_names.get((*n.input, "")[0]) != n.output[0]]
    )
    rename_tensors(graph, output_names)


def _is_identity(node: NodeProto, false: set[str]) -> bool:
    if node.op_type == "Dropout" and len(node.output) == 1:
        training = node.input[2] if len(node.input) > 2 else ""
        return training in false
    return not node.domain and node.op_type == "Identity"


def _is_false(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.BOOL and not numpy_helper.to_array(tensor).any()


_OPTIONAL_OUTPUTS = frozenset(
    {"BatchNormalization", "Dropout", "GRU", "LSTM", "LayerNormalization", "MaxPool", "RNN"}
)


def _drop_unread_outputs(graph: GraphProto) -> None:
    """Remove the last outputs of operators that may leave them out, where nothing reads them."""
    read = {name for node in graph.node for name in input_names(node)}
    read |= {value.name for value in graph.output}
    for node in graph.node:
        while (
            node.op_type in _OPTIONAL_OUTPUTS
            and len(node.output) > 1
            and node.output[-1] not in read
        ):
            del node.output[-1]


def _output_index(node: NodeProto, outputs: Sequence[str]) -> int:
    return outputs.index(node.output[0]) if node.output[0] in outputs else len(outputs)
