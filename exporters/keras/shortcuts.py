"""What tf2onnx does slowly or again and again, done faster for the time of a call.

The result is the same. Of the time of a conversion it is about a third, and more where a graph
computes with constants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, execute

from exporters.graph.model import Array
from exporters.keras.calls import to_array


@contextmanager
def skip_repeated_work() -> Iterator[None]:
    """While open, tf2onnx searches, sorts and indexes less; see the functions below."""
    from tf2onnx import tfonnx
    from tf2onnx.graph import Graph
    from tf2onnx.graph_matcher import GraphMatcher

    resolve_functions = tfonnx.resolve_functions
    reset_nodes, match_op = Graph.reset_nodes, GraphMatcher.match_op

    def resolve(graph: Any) -> Any:
        """Return a graph's functions: where it has none, its nodes need not be read for them."""
        return resolve_functions(graph) if graph._functions else []

    def reset(self: Any, operations: Sequence[Any]) -> None:
        """Index a graph's nodes, unless they are as they were when that was done last.

        It is done after each of some forty rewriters, of which most change nothing.
        """
        state = _state_of(self, operations)
        if self._nodes != operations or state != getattr(self, _STATE, None):
            reset_nodes(self, operations)
            setattr(self, _STATE, state)
        self._nodes = operations

    def match(self: Any, operation: Any) -> Any:
        """Match a pattern at an operation; where its type is another, nothing is made for it."""
        pattern = self._pattern
        if pattern.op_type is not None and not self._is_op_type_same(operation, pattern):
            return None
        return match_op(self, operation)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(tfonnx, "resolve_functions", resolve))
        stack.enter_context(
            mock.patch.object(tfonnx, "compute_const_folding_using_tf", _fold_constants)
        )
        stack.enter_context(mock.patch.object(Graph, "reset_nodes", reset))
        stack.enter_context(mock.patch.object(GraphMatcher, "match_op", match))
        yield


_STATE = "_exporters_state"
"""The attribute of a tf2onnx graph with what it was indexed by."""


def _state_of(graph: Any, operations: Sequence[Any]) -> list[Any]:
    """Return what the index of a graph's nodes is made of."""
    parents, parent = [], graph.parent_graph
    while parent is not None:
        parents.append(parent)
        parent = parent.parent_graph
    state: list[Any] = [parents, list(graph.inputs), list(graph.outputs)]
    state += [(op, op.name, tuple(op.input), tuple(op.output)) for op in operations]
    return state


_NEVER_FOLDED = frozenset(
    {
        "Enter",
        "Placeholder",
        "PlaceholderWithDefault",
        "Switch",
        "Merge",
        "NextIteration",
        "Exit",
        "QuantizeAndDequantizeV2",
        "QuantizeAndDequantizeV3",
        "QuantizeAndDequantizeV4",
    }
)
"""As in tf2onnx."""

_HUGE, _SMALL = 1_000_000, 1_000
"""Sizes of a result from which on it stays an operator, if its inputs are up to so small."""


def _fold_constants(
    graph: Any, const_node_values: Mapping[str, bytes] | None, graph_outputs: Collection[str]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return what depends on constants alone and is read by what does not: values and dtypes.

    tf2onnx builds two graphs and opens a session for each operation, which takes milliseconds.
    """
    from tf2onnx import tf_utils

    assert not const_node_values  # they are of a graph that was compressed
    operations = graph.get_operations()
    shapes = {
        out.name: tf_utils.get_tf_tensor_shape(out) for op in operations for out in op.outputs
    }
    values: dict[str, Array] = {}
    dtypes: dict[str, Any] = {}
    sizes_of: dict[str, Any] = {}  # the shape that a Shape returns
    read: set[str] = set()
    for op in operations:
        inputs = [tensor.name for tensor in op.inputs]
        outputs = [tensor.name for tensor in op.outputs]
        value = None
        if op.type in ("Const", "ConstV2"):
            value = tf_utils.get_tf_tensor_data(op.get_attr("value"))
        elif op.type == "Shape" and shapes[inputs[0]] is not None:
            sizes_of[outputs[0]] = shapes[inputs[0]]
        elif op.type == "StridedSlice" and inputs[0] in sizes_of:
            value = _take_size(op, sizes_of[inputs[0]], values)
        if value is None and len(outputs) == 1 and outputs[0] not in graph_outputs:
            value = _compute(op, [values.get(name) for name in inputs])
        if value is None:
            read.update(inputs)
        else:
            values[outputs[0]] = value
            dtypes[outputs[0]] = op.outputs[0].dtype
    constants = {op.outputs[0].name for op in operations if op.type in ("Const", "ConstV2")}
    kept = (values.keys() & read) - constants
    return {name: values[name] for name in kept}, {name: dtypes[name] for name in kept}


def _take_size(op: Any, shape: Sequence[int | None], values: Mapping[str, Array]) -> Array | None:
    """Return the size that a StridedSlice takes of a shape, None where it takes another part."""
    from tf2onnx import tf_utils

    index = tf_utils.get_index_from_strided_slice_of_shape(op, values)
    if index is None or not 0 <= index < len(shape) or shape[index] is None:
        return None
    return np.array(shape[index], op.outputs[0].dtype.as_numpy_dtype)


def _compute(op: Any, inputs: Sequence[Array | None]) -> Array | None:
    """Return the output of an operation, None where an input or how to compute it is unknown."""
    if not inputs or op.type in _NEVER_FOLDED or op.type.startswith("Random"):
        return None
    known = [array for array in inputs if array is not None]
    if len(known) < len(inputs):
        return None
    attributes = op.node_def.attr
    if any(value.HasField("func") for value in attributes.values()):
        return None
    flat = [x for key in attributes if key[0] != "_" for x in (key, op.get_attr(key))]
    try:
        with tf.init_scope(), tf.device("/CPU:0"):
            tensors = [
                tf.constant(array, tensor.dtype)
                for array, tensor in zip(known, op.inputs, strict=True)
            ]
            (result,) = execute.execute(op.type, 1, tensors, tuple(flat), context.context())
            value = to_array(result)
    except Exception:  # noqa: BLE001 - what cannot be computed here, ONNX Runtime will
        return None
    if op.outputs[0].dtype == tf.string and not value.ndim:
        return None  # as in tf2onnx: one string stays an operator
    if value.size >= _HUGE and all(array.size <= _SMALL for array in known):
        return None
    return value
