"""Constant folding: the nodes that depend on weights alone, and their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from exporters.errors import ExportError
from exporters.graph.edits import input_names, live_nodes, read_attribute, subgraphs

Array = NDArray[np.generic]

# A random value is not a constant, even if all its inputs are.
RANDOM_OPS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
_SEQUENCES = frozenset(
    {
        "ConcatFromSequence",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceInsert",
        "SequenceLength",
        "SplitToSequence",
    }
)
LAYOUT_OPS = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"})
_NEVER_FOLDED = RANDOM_OPS | _SEQUENCES


@dataclass(frozen=True)
class Value:
    """A folded tensor; `array` may be wider than `dtype` until it is rounded, once, at the end."""

    array: Array
    dtype: np.dtype[np.generic]

    def in_own_precision(self) -> Array:
        """Return the array rounded to `dtype`."""
        return self.array.astype(self.dtype, copy=False)


def split_constant_nodes(
    nodes: Sequence[NodeProto], constants: set[str]
) -> tuple[list[NodeProto], list[NodeProto]]:
    """Split nodes into (those that depend on `constants` alone, the others), both in order.

    Control flow, random numbers and functions of other domains are never constant.
    """
    known = set(constants)
    constant, other = [], []
    for node in nodes:
        foldable = (
            not node.domain and node.op_type not in _NEVER_FOLDED and not any(subgraphs(node))
        )
        if foldable and input_names(node) <= known:
            known.update(node.output)
            constant.append(node)
        else:
            other.append(node)
    return constant, other


def evaluate_nodes(
    nodes: Sequence[NodeProto], values: Mapping[str, Array], wanted: set[str], *, opset: int
) -> dict[str, Array]:
    """Compute the tensors `wanted` from `values`, by name.

    Arithmetic on floats is done in float64 and rounded to the tensor's own precision once, at the
    end, so folding batch-norm costs half a unit in the last place and not several.
    """
    live = live_nodes(nodes, wanted)
    read = wanted.union(*(node.input for node in live))
    known = {name: Value(a, a.dtype) for name, a in values.items() if name in read}
    for node in live:
        results = _evaluate_node(
            node, [known[name] if name else None for name in node.input], opset
        )
        known.update(zip(node.output, results, strict=True))
    return {name: known[name].in_own_precision() for name in wanted}


def _evaluate_node(node: NodeProto, inputs: list[Value | None], opset: int) -> list[Value]:
    present = [value for value in inputs if value is not None]
    if node.op_type in _ARITHMETIC and present and present[0].dtype.kind == "f":
        wide = [value.array.astype(np.float64, copy=False) for value in present]
        with np.errstate(all="ignore"):  # a NaN or Inf among the weights is the caller's to judge
            return [Value(np.asarray(_ARITHMETIC[node.op_type](*wide)), present[0].dtype)]
    if node.op_type in LAYOUT_OPS and (rearranged := _rearrange(node, present)) is not None:
        return [rearranged]
    if node.op_type == "GatherElements":
        return [_gather_elements(node, present)]
    if node.op_type == "Constant" and (value := read_attribute(node, "value")) is not None:
        array = numpy_helper.to_array(value)
        return [Value(array, array.dtype)]
    return _evaluate_with_onnx(node, inputs, opset)


_ARITHMETIC: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Sqrt": np.sqrt,
    "Neg": np.negative,
    "Exp": np.exp,
    "Reciprocal": np.reciprocal,
}


def _rearrange(node: NodeProto, inputs: list[Value]) -> Value | None:
    """Move axes, without arithmetic; return None for a form that onnx.reference evaluates."""
    source = inputs[0]
    if node.op_type == "Identity":
        return source
    if node.op_type == "Transpose":
        return Value(np.transpose(source.array, read_attribute(node, "perm")), source.dtype)
    if len(inputs) != 2:
        return None
    numbers = [int(n) for n in inputs[1].array.ravel()]
    if node.op_type == "Reshape" and 0 not in numbers:
        return Value(source.array.reshape(numbers), source.dtype)
    if node.op_type == "Squeeze":
        return Value(np.squeeze(source.array, tuple(numbers)), source.dtype)
    if node.op_type == "Unsqueeze":
        return Value(np.expand_dims(source.array, tuple(numbers)), source.dtype)
    return None


def _gather_elements(node: NodeProto, inputs: list[Value]) -> Value:
    """Take elements along an axis; onnx.reference fails where the indices are fewer than the data.

    Raises ExportError for an index outside of the axis.
    """
    source, indices = inputs[0].array, inputs[1].array.astype(np.int64)
    axis = read_attribute(node, "axis", 0) % source.ndim
    part = tuple(
        slice(None) if a == axis else slice(0, size) for a, size in enumerate(indices.shape)
    )
    try:
        return Value(np.take_along_axis(source[part], indices, axis), inputs[0].dtype)
    except (IndexError, ValueError) as error:
        raise ExportError(f"{node.op_type} {node.name!r} on weights: {error}") from error


def _evaluate_with_onnx(node: NodeProto, inputs: list[Value | None], opset: int) -> list[Value]:
    # Importing onnx.reference takes a third of a second, and few networks need it.
    from onnx.reference import ReferenceEvaluator

    feeds = {
        name: value.in_own_precision()
        for name, value in zip(node.input, inputs, strict=True)
        if value is not None
    }
    graph = onnx.helper.make_graph(
        [node],
        "fold",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in feeds.items()
        ],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            arrays = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # any op's own failure, of any type
        raise ExportError(f"{node.op_type} {node.name!r} on weights: {error}") from error
    results = iter(np.asarray(array) for array in arrays)
    empty = np.zeros(0, np.float32)
    computed = [next(results) if name else empty for name in node.output]
    return [Value(array, array.dtype) for array in computed]
