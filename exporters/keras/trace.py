"""A Keras model traced to the structure of its ONNX graph.

The weights are inputs of the traced graph, so that TensorFlow and tf2onnx read, copy or fold none
of them. `graph.injection.inject` adds them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf
from onnx import ModelProto

from exporters.errors import ExportError, first_line
from exporters.graph import checks, edits, layout, simplification
from exporters.graph.model import convert_opset, opset_of
from exporters.graph.structure import Structure, build_structure
from exporters.keras.calls import (
    call_arguments,
    eager_functions,
    inference_keywords,
    input_specs,
    move_channels,
    output_names,
    require_tensorflow,
    unique_names,
)
from exporters.keras.taps import record_tapped_tensors
from exporters.silence import silence_logging
from exporters.taps import check_tapped_calls

# tf2onnx writes the operators of this version at most; ONNX's own converter goes on from there.
_TF2ONNX_NEWEST = 18


@dataclass(frozen=True)
class _TensorFlowGraph:
    """A TensorFlow graph, and the names of its tensors."""

    graph: tf.Graph
    feeds: list[str]  # the inputs, then the weights
    weights: tuple[str, ...]  # their Keras paths
    outputs: list[str]
    taps: dict[str, str]


def trace(
    model: keras.Model,
    *,
    opset: int = 17,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    channels_first: bool = False,
) -> Structure:
    """Trace `model` in inference mode without reading its weights.

    `inputs`, `outputs`: names for the graph's inputs and outputs in the model's order (default: the
    model's own names). `taps`: {tensor name: "layer#k@input"}: a layer's name ("outer/inner" inside
    a nested model), `#k` its k-th call (default 0), `@input` what went into the call.
    `channels_first`: every input, output and tap with 4 or 5 axes is (N, C, …) in the graph, and
    (N, …, C) otherwise. Neither costs a Transpose in the body. Raises ExportError.
    """
    require_tensorflow()
    checks.check_opset(opset)
    signature = input_specs(model)
    inputs = tuple(inputs) or unique_names([spec.name for spec in signature])
    if len(inputs) != len(signature):
        raise ExportError(f"{model.name} has {len(signature)} inputs, {len(inputs)} names given")
    with silence_logging(), eager_functions():
        graph = _build_graph(model, signature, taps or {}, channels_first)
        converted = _convert(graph, min(opset, _TF2ONNX_NEWEST))
    count = len(graph.outputs)
    outputs = tuple(outputs) or output_names(model, count)
    if len(outputs) != count:
        raise ExportError(f"{model.name} has {count} outputs, {len(outputs)} names given")
    checks.check_names(weights=graph.weights, inputs=inputs, outputs=outputs, taps=graph.taps)
    return _finish(converted, graph, inputs=inputs, outputs=outputs, opset=opset)


def _build_graph(
    model: keras.Model,
    signature: Sequence[tf.TensorSpec],
    taps: Mapping[str, str],
    channels_first: bool,
) -> _TensorFlowGraph:
    """Call the model in a new TensorFlow graph, with placeholders for inputs and weights."""
    graph = tf.Graph()
    with graph.as_default():
        tensors, feeds = [], []
        for index, spec in enumerate(signature):
            shape = list(spec.shape)
            if channels_first and len(shape) in (4, 5):
                shape = [shape[0], shape[-1], *shape[1:-1]]
            tensor = tf.compat.v1.placeholder(spec.dtype, shape, name=f"input_{index}")
            feeds.append(tensor.name)
            tensors.append(move_channels(tensor, first=False) if channels_first else tensor)
        placeholders = {
            id(variable): tf.compat.v1.placeholder(variable.dtype, variable.shape, name=f"w_{i}")
            for i, variable in enumerate(model.variables)
        }
        feeds += [placeholder.name for placeholder in placeholders.values()]
        with record_tapped_tensors(model, taps) as recorded:
            try:
                results, _ = model.stateless_call(
                    [placeholders[id(v)] for v in model.trainable_variables],
                    [placeholders[id(v)] for v in model.non_trainable_variables],
                    *call_arguments(model, tensors),
                    **inference_keywords(model),
                )
            except Exception as error:  # whatever a layer's own call raises
                raise ExportError(f"{model.name} cannot be traced: {first_line(error)}") from error
        check_tapped_calls(taps, recorded)
        flat = keras.tree.flatten(results)
        moved = [move_channels(t, first=True) if channels_first else t for t in flat]
        named = [tf.identity(t, name=f"output_{i}").name for i, t in enumerate(moved)]
        tapped = {}
        for index, tap in enumerate(taps):
            value = move_channels(recorded[tap], first=True) if channels_first else recorded[tap]
            tapped[tap] = tf.identity(value, name=f"tap_{index}").name
    paths = unique_names([variable.path for variable in model.variables])
    return _TensorFlowGraph(graph, feeds, paths, named, tapped)


def _convert(graph: _TensorFlowGraph, opset: int) -> ModelProto:
    """Convert with tf2onnx; raises ExportError."""
    # Imported here: with a cached structure it is not needed.
    from tf2onnx import tfonnx

    # This pass reads the weights to make an LSTM operator; without it, the loop stays a Loop.
    rewriter = tfonnx.rewriter_lstm_tf2
    tfonnx.rewriter_lstm_tf2 = lambda graph, operations: operations
    try:
        converted = tfonnx.process_tf_graph(
            graph.graph,
            opset=opset,
            input_names=graph.feeds,
            output_names=[*graph.outputs, *graph.taps.values()],
        )
        return converted.make_model("keras")
    except Exception as error:  # tf2onnx raises ValueError, KeyError, AssertionError and more
        raise ExportError(f"tf2onnx could not convert the model: {first_line(error)}") from error
    finally:
        tfonnx.rewriter_lstm_tf2 = rewriter


def _finish(
    model: ModelProto,
    graph: _TensorFlowGraph,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int,
) -> Structure:
    """Name the graph's tensors, move it to channels-first, simplify it, convert it to the opset."""
    simplification.lower_erfc(model.graph)
    checks.check_operators(model.graph, framework="TensorFlow")
    taps = {tap: tensor for tap, tensor in graph.taps.items() if tap not in outputs}
    by_name = {value.name: value for value in model.graph.output}
    try:
        ordered = [by_name[name] for name in (*graph.outputs, *taps.values())]
    except KeyError as error:
        raise ExportError(f"tf2onnx lost an output of the model ({error})") from error
    edits.set_repeated_field(model.graph.output, ordered)
    input_names = dict(zip(graph.feeds, (*inputs, *graph.weights), strict=True))
    edits.rename_inputs_and_outputs(model.graph, inputs=input_names, outputs=(*outputs, *taps))
    model = simplification.simplify_with_shapes(model)
    layout.to_channels_first(model.graph, simplification.shapes_of(model.graph))
    simplification.simplify(model.graph, opset=opset_of(model))
    model = convert_opset(model, opset)
    return build_structure(
        model,
        inputs=inputs,
        outputs=outputs,
        taps=tuple(taps),
        weights=graph.weights,
        producer=f"exporters.keras_onnx {keras.__version__}",
    )
