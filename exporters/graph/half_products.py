"""Float16 products that ONNX Runtime's optimiser crashes on, written so that it does not.

ONNX Runtime 1.32 fuses a Transpose into the MatMul that reads it. Where the Transpose moves axis 0
of a float16 tensor of rank 3 or more next to the columns, and the other operand has fewer axes,
`MatmulTransposeFusion` ends the process (SIGSEGV) while the session is built. Found by disabling
one optimiser after the other, and by trying every permutation of two, three and four axes.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import GraphProto, NodeProto, TensorProto, helper

from exporters.graph.edits import (
    prune,
    read_attribute,
    rename_reads,
    set_repeated_field,
    subgraphs,
)
from exporters.graph.model import WeightedModel


def repair_half_products(model: WeightedModel) -> None:
    """Rewrite such products in place; the numbers stay the same.

    A product with a matrix on the right, which leaves the rows' axes as they are, is computed
    before the transposition; any other is computed in float32 between casts.
    """
    graph = model.skeleton.graph
    values = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    half = {
        *(name for name, array in model.tensors.items() if array.dtype == "float16"),
        *(t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT16),
        *(n for n, v in values.items() if v.type.tensor_type.elem_type == TensorProto.FLOAT16),
    }
    if not half:
        return
    ranks = {name: len(value.type.tensor_type.shape.dim) for name, value in values.items()}
    ranks |= {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    ranks |= {name: array.ndim for name, array in model.tensors.items()}
    _repair(graph, half, ranks)
    prune(graph)


def _repair(graph: GraphProto, half: set[str], ranks: Mapping[str, int]) -> None:
    transposes: dict[str, NodeProto] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        for body in subgraphs(node):
            _repair(body, half, ranks)
        sides = [
            side
            for side in (0, 1)
            if node.op_type == "MatMul"
            and node.input[side] in transposes
            and node.input[side] in half
            and ranks.get(node.input[1 - side], 0) < len(_permutation(transposes[node.input[side]]))
        ]
        if not sides:
            added = [node]
        elif sides == [0] and ranks.get(node.input[1]) == 2 and _keeps_columns(node, transposes):
            added = _transpose_last(node, transposes[node.input[0]])
        else:
            added = _in_float32(node, transposes)
        nodes += added
        last = added[-1]
        if last.op_type == "Transpose" and _rotates(_permutation(last)):
            transposes[last.output[0]] = last
    set_repeated_field(graph.node, nodes)


def _permutation(transpose: NodeProto) -> list[int]:
    return list(read_attribute(transpose, "perm", []))


def _rotates(permutation: list[int]) -> bool:
    """Return whether axis 0 moves behind all others, or behind all but the last."""
    rank = len(permutation)
    behind_all = [*range(1, rank), 0]
    behind_rows = [*range(1, rank - 1), 0, rank - 1]
    return rank >= 3 and permutation in (behind_all, behind_rows)


def _keeps_columns(product: NodeProto, transposes: Mapping[str, NodeProto]) -> bool:
    permutation = _permutation(transposes[product.input[0]])
    return permutation[-1] == len(permutation) - 1


def _transpose_last(product: NodeProto, transpose: NodeProto) -> list[NodeProto]:
    """Return the product with the tensor as it was, and the transposition of its result."""
    result = f"{product.output[0]}/before"
    first = helper.make_node(
        "MatMul", [transpose.input[0], product.input[1]], [result], name=product.name
    )
    last = helper.make_node(
        "Transpose",
        [result],
        list(product.output),
        name=f"{product.name}/transpose",
        perm=_permutation(transpose),
    )
    return [first, last]


def _in_float32(product: NodeProto, transposes: Mapping[str, NodeProto]) -> list[NodeProto]:
    """Return the product in float32; what is transposed is cast before it is transposed."""
    nodes: list[NodeProto] = []
    wide: dict[str, str] = {}
    for name in dict.fromkeys(product.input):
        transpose = transposes.get(name)
        source = name if transpose is None else transpose.input[0]
        cast = f"{product.output[0]}/{source}/wide"
        nodes.append(helper.make_node("Cast", [source], [cast], name=cast, to=TensorProto.FLOAT))
        wide[name] = cast
        if transpose is not None:
            wide[name] = f"{product.output[0]}/{name}/wide"
            nodes.append(
                helper.make_node(
                    "Transpose", [cast], [wide[name]], name=wide[name], perm=_permutation(transpose)
                )
            )
    result = f"{product.output[0]}/wide"
    inner = NodeProto()
    inner.CopyFrom(product)
    rename_reads(inner, wide)
    inner.output[0] = result
    back = helper.make_node(
        "Cast", [result], list(product.output), name=f"{result}/cast", to=TensorProto.FLOAT16
    )
    return [*nodes, inner, back]
