"""TensorFlow's graph to an ONNX graph, through tf2onnx, with operators that it writes wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from tensorflow.core.framework import types_pb2

from exporters.errors import ExportError, first_few
from exporters.graph import checks
from exporters.graph.edits import all_nodes, read_attribute, set_repeated_field
from exporters.graph.model import opset_of
from exporters.keras import operators
from exporters.keras.reasons import describe_error, where
from exporters.keras.recurrent import MARKER, Recurrences, convert_marker
from exporters.keras.shortcuts import skip_repeated_work
from exporters.keras.tracing_graph import Tracing

# tf2onnx writes the operators of this version at most; ONNX's own converter goes on from there.
_TF2ONNX_NEWEST = 18

# These look for the loop of a recurrent layer and read its weights, which are inputs here. The
# layers themselves are exported as operators (`recurrent`), so that what is left stays a Loop.
_RECURRENT_REWRITERS = (
    "rewriter_lstm_tf2",
    "rewrite_gru_tf2",
    "rewrite_single_direction_lstm",
    "rewrite_bi_direction_lstm",
    "rewrite_single_direction_gru",
    "rewrite_bi_direction_gru",
)

# tf2onnx removes a dropout that it recognises by these, whether it is active or not.
_RANDOM = frozenset(
    {
        "RandomUniform",
        "RandomUniformInt",
        "RandomStandardNormal",
        "TruncatedNormal",
        "Multinomial",
        "RandomShuffle",
        "RandomGamma",
        "RandomPoissonV2",
        "StatelessRandomUniform",
        "StatelessRandomUniformV2",
        "StatelessRandomNormal",
        "StatelessRandomNormalV2",
        "StatelessTruncatedNormal",
        "StatelessTruncatedNormalV2",
        "StatelessRandomUniformInt",
        "StatelessRandomUniformIntV2",
        "StatelessMultinomial",
        "StatelessRandomBinomial",
        "StatelessRandomPoisson",
        "StatelessShuffle",
    }
)


@dataclass(frozen=True)
class TensorFlowGraph:
    """A TensorFlow graph, and the names of its tensors."""

    graph: tf.Graph
    feeds: tuple[str, ...]  # the inputs, then the weights
    weights: tuple[str, ...]  # their Keras paths
    outputs: tuple[str, ...]
    taps: dict[str, str]
    tracing: Tracing
    recurrences: Recurrences

    def reorder(self, *, inputs: Sequence[int], outputs: Sequence[int]) -> TensorFlowGraph:
        """Return it with its inputs and outputs in another order."""
        feeds = (*(self.feeds[index] for index in inputs), *self.feeds[len(inputs) :])
        return replace(self, feeds=feeds, outputs=tuple(self.outputs[index] for index in outputs))


def convert(graph: TensorFlowGraph, opset: int, name: str) -> ModelProto:
    """Convert a graph of the model `name`. Raises ExportError with the operator and its layer."""
    # Imported here: with a cached structure it is not needed.
    from tf2onnx import tfonnx

    _check_random(graph, name)
    failed: list[str] = []
    handlers = {
        **operators.create_handlers(graph.graph, graph.tracing.resources),
        MARKER: lambda context, node: convert_marker(graph.recurrences, context, node),
    }
    with (
        _rewriters_off(tfonnx),
        _handlers(tfonnx, handlers, failed),
        _bfloat16_as_float32(),
        skip_repeated_work(),
    ):
        try:
            converted = tfonnx.process_tf_graph(
                graph.graph,
                opset=min(opset, _TF2ONNX_NEWEST),
                input_names=list(graph.feeds),
                output_names=[*graph.outputs, *graph.taps.values()],
            )
            model = converted.make_model("keras")
        except ExportError:
            raise
        except Exception as error:  # tf2onnx raises ValueError, KeyError, AssertionError and more
            place = _place(graph, failed[0]) if failed else ""
            raise ExportError(
                f"tf2onnx could not convert {name}: {f'{place}: ' if place else ''}"
                f"{describe_error(error)}"
            ) from error
    _repair_transposed_convolutions(model.graph)
    foreign = checks.foreign_nodes(model.graph)
    if foreign:
        places = [_place(graph, node.name, node.op_type) for node in foreign]
        raise ExportError(
            f"TensorFlow operators that could not be converted: {first_few(places)}; ONNX has no"
            " such operator: compute this outside of the model, or with other operators"
        )
    newer = checks.newer_nodes(model.graph, opset_of(model))
    if newer:
        places = [_place(graph, node.name, node.op_type) for node, _ in newer]
        raise ExportError(
            f"opset {opset} has no such operator: {first_few(places)}: export with"
            f" opset={max(first for _, first in newer)} or newer"
        )
    return model


def _place(graph: TensorFlowGraph, name: str, operator: str = "") -> str:
    """Return an operator's type and name, with its layer and source line where they are known."""
    try:
        operation = graph.graph.get_operation_by_name(name)
    except (KeyError, ValueError):  # a node that tf2onnx added, or one of an inner graph
        return f"{operator} ({name})" if operator else name
    details = ", ".join(filter(None, [name, where(graph.tracing, operation)]))
    return f"{operator or operation.type} ({details})"


def dependencies(tensors: Sequence[Any]) -> dict[str, Any]:
    """Return the operations that tensors depend on, by name."""
    waiting = [tensor.op for tensor in tensors]
    found = {operation.name: operation for operation in waiting}
    while waiting:
        for tensor in waiting.pop().inputs:
            if tensor.op.name not in found:
                found[tensor.op.name] = tensor.op
                waiting.append(tensor.op)
    return found


def _check_random(graph: TensorFlowGraph, name: str) -> None:
    """Raise ExportError where an output depends on random numbers."""
    outputs = [graph.graph.get_tensor_by_name(output) for output in graph.outputs]
    for operation in dependencies(outputs).values():
        if operation.type in _RANDOM:
            raise ExportError(
                f"{name} draws random numbers in inference mode: {_place(graph, operation.name)};"
                " no file can be compared with it; remove training=True, or make them an input"
            )


@contextmanager
def _rewriters_off(tfonnx: Any) -> Iterator[None]:
    changes: dict[str, Any] = {
        name: lambda graph, operations: operations for name in _RECURRENT_REWRITERS
    }
    join_biases = tfonnx.rewrite_biasadd_with_conv2d

    def join_first_biases(graph: Any, operations: Any) -> Any:
        for node in operations:
            if _is_second_bias(node):
                # With the channels last it is a sum.
                node.type = "Add"
        return join_biases(graph, operations)

    changes["rewrite_biasadd_with_conv2d"] = join_first_biases
    with mock.patch.multiple(tfonnx, **changes):
        yield


def _is_second_bias(node: Any) -> bool:
    """Return whether a node adds a bias to a convolution that has one: tf2onnx gives it both."""
    if node.type != "BiasAdd" or node.data_format != "NHWC":
        return False
    before = node.inputs[0]
    return before.type == "BiasAdd" or (before.type == "Conv2D" and len(before.input) > 2)


@contextmanager
def _bfloat16_as_float32() -> Iterator[None]:
    """While open, tf2onnx writes bfloat16 as float32.

    It would write float16, which overflows from 65,520 on where bfloat16 does not. ONNX Runtime has
    few operators in bfloat16.
    """
    from tf2onnx import tf_utils
    from tf2onnx.graph import Graph

    to_tensor, make_const = tf_utils.tf_to_onnx_tensor, Graph.make_const

    def widened(tensor: Any, name: str = "") -> Any:
        if tensor.dtype == types_pb2.DT_BFLOAT16:
            return numpy_helper.from_array(tf.make_ndarray(tensor).astype(np.float32), name)
        return to_tensor(tensor, name)

    def make_wide(self: Any, name: str, np_val: Any, *args: Any, **kwargs: Any) -> Any:
        wide = np_val.astype(np.float32) if np_val.dtype.name == "bfloat16" else np_val
        return make_const(self, name, wide, *args, **kwargs)

    with ExitStack() as stack:
        wide = {types_pb2.DT_BFLOAT16: TensorProto.FLOAT}
        stack.enter_context(mock.patch.dict(tf_utils.TF_TO_ONNX_DTYPE, wide))
        stack.enter_context(mock.patch.object(tf_utils, "tf_to_onnx_tensor", widened))
        stack.enter_context(mock.patch.object(Graph, "make_const", make_wide))
        yield


@contextmanager
def _handlers(tfonnx: Any, handlers: dict[str, Any], failed: list[str]) -> Iterator[None]:
    """While open, tf2onnx uses `handlers`; the name of a node that fails goes to `failed`."""
    create = tfonnx.handler.tf_op.create_mapping

    def mapping(*args: Any, **kwargs: Any) -> _Mapping:
        return _Mapping(create(*args, **kwargs), handlers, failed)

    with mock.patch.object(tfonnx.handler.tf_op, "create_mapping", mapping):
        yield


class _Mapping(dict[str, Any]):
    """tf2onnx's handlers by operator; each that is asked for is watched, and few are."""

    def __init__(
        self, original: dict[str, Any], handlers: dict[str, Any], failed: list[str]
    ) -> None:
        super().__init__(original)
        self.handlers = handlers
        self.failed = failed

    def get(self, operator: str, default: Any = None) -> Any:
        """Return the function that converts an operator, and its options, or `default`."""
        found = super().get(operator)
        if operator in self.handlers:
            original, options = found or (None, {})
            return self._watch(_prefer(self.handlers[operator], original)), options
        if found is None:
            return default
        return self._watch(found[0]), found[1]

    def _watch(self, function: Any) -> Any:
        def run(context: Any, node: Any, **kwargs: Any) -> Any:
            name = node.name
            try:
                return function(context, node, **kwargs)
            except Exception:
                self.failed.append(name)
                raise

        return run


def _prefer(handler: Any, original: Any) -> Any:
    """Return a handler that falls back on tf2onnx's own, as `operators.Handler` says."""

    def run(context: Any, node: Any, **kwargs: Any) -> Any:
        answer = handler(context, node)
        if (answer is False or callable(answer)) and original is not None:
            original(context, node, **kwargs)
        if callable(answer):
            answer()

    return run


def _repair_transposed_convolutions(graph: GraphProto) -> None:
    """Write what tf2onnx has as negative padding as output padding, in place.

    Where the result is longer than the kernels reach, TensorFlow adds zeros at the end.
    """
    for node in all_nodes(graph):
        pads = read_attribute(node, "pads", []) if node.op_type == "ConvTranspose" else []
        half = len(pads) // 2
        totals = [pads[axis] + pads[axis + half] for axis in range(half)]
        if any(total < 0 for total in totals):
            both = [
                (pads[axis], pads[axis + half]) if totals[axis] >= 0 else (0, 0)
                for axis in range(half)
            ]
            kept = [a for a in node.attribute if a.name not in ("pads", "output_padding")]
            moved = [begin for begin, _ in both] + [end for _, end in both]
            extra = [max(-total, 0) for total in totals]
            kept += [
                helper.make_attribute("pads", moved),
                helper.make_attribute("output_padding", extra),
            ]
            set_repeated_field(node.attribute, kept)
