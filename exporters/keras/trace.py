"""A Keras model traced to the structure of its ONNX graph.

The weights are inputs of the traced graph, so that TensorFlow and tf2onnx read, copy or fold none
of them. `graph.injection.inject` adds them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf
from onnx import ModelProto

from exporters.errors import ExportError
from exporters.graph import checks, edits, layout, simplification
from exporters.graph.memory import pause_collection
from exporters.graph.model import convert_opset, opset_of
from exporters.graph.structure import Structure, build_structure
from exporters.keras import conversion, structures
from exporters.keras.arguments import (
    Arguments,
    arrange,
    build_layers,
    read_arguments,
    result_names,
    unique_names,
)
from exporters.keras.calls import check_mapping, check_model, eager_functions, move_channels
from exporters.keras.reasons import describe_error, source_line
from exporters.keras.recurrent import Recurrences, mark_recurrent_layers
from exporters.keras.taps import record_tapped_tensors
from exporters.keras.tracing_graph import (
    RecordingScope,
    Tracing,
    TracingGraph,
    allow_any_names,
    read_variables,
    record_layers,
)
from exporters.keras.unknown_sizes import allow_unknown_sizes
from exporters.silence import silence_logging
from exporters.taps import check_tapped_calls


@dataclass(frozen=True)
class _Traced:
    """A model that was called in a TensorFlow graph."""

    graph: conversion.TensorFlowGraph
    arguments: Arguments
    results: Any  # the structure that the call returned


def trace(
    model: keras.Model,
    *,
    opset: int = 17,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    channels_first: bool = False,
    signature: Any = None,
    sample: Any = None,
) -> Structure:
    """Trace `model` in inference mode without reading its weights.

    `inputs`, `outputs`: names for the graph's inputs and outputs. Where they are the model's own
    (the keys of a dictionary, the names of its inputs or layers), each keeps its tensor and they
    come in the order given; other names are given in the model's order, which for a dictionary is
    the order in which it was written. `signature`, `sample`: see `exporters.keras.arguments`; of a
    sample only the types are used here.
    `taps`: {tensor name: "layer#k@input"}: a layer's name ("outer/inner" inside
    a nested model), `#k` its k-th call (default 0), `@input` what went into the call.
    `channels_first`: every input, output and tap with 4 or 5 axes is (N, C, …) in the graph, and
    (N, …, C) otherwise. Neither costs a Transpose in the body. Raises ExportError.
    """
    check_model(model)
    checks.check_opset(opset)
    check_mapping(taps, "taps")
    arguments = read_arguments(model, signature, sample)
    inputs, input_order = arrange(arguments.names, inputs, "inputs", model)
    with silence_logging(), eager_functions(), pause_collection():
        build_layers(model, arguments)
        traced = _trace_guessing(model, arguments, taps or {}, channels_first)
        converted = conversion.convert(traced.graph, opset, model.name)
    names = result_names(model, traced.results)
    outputs, output_order = arrange(names, outputs, "outputs", model)
    graph = traced.graph.reorder(inputs=input_order, outputs=output_order)
    checks.check_names(weights=graph.weights, inputs=inputs, outputs=outputs, taps=graph.taps)
    return _finish(converted, graph, inputs=inputs, outputs=outputs, opset=opset)


def _trace_guessing(
    model: keras.Model, arguments: Arguments, taps: Mapping[str, str], channels_first: bool
) -> _Traced:
    """Call the model in a new graph; find out which inputs of unknown type are integers."""
    if not any(leaf.guessed for leaf in arguments.leaves):
        return _trace_once(model, arguments, taps, channels_first)
    try:
        traced = _trace_once(model, arguments, taps, channels_first)
    except ExportError:
        integers = {leaf.name for leaf in arguments.leaves if leaf.guessed}
        try:
            return _trace_once(model, _as_integers(arguments, integers), taps, channels_first)
        except ExportError:
            pass
        raise
    integers = {
        leaf.name
        for leaf, feed in zip(arguments.leaves, traced.graph.feeds, strict=False)
        if leaf.guessed and _is_cast_to_integer(traced.graph.graph.get_tensor_by_name(feed))
    }
    if not integers:
        return traced
    return _trace_once(model, _as_integers(arguments, integers), taps, channels_first)


def _as_integers(arguments: Arguments, names: set[str]) -> Arguments:
    leaves = tuple(
        replace(leaf, dtype="int32") if leaf.name in names else leaf for leaf in arguments.leaves
    )
    return replace(arguments, leaves=leaves)


def _is_cast_to_integer(tensor: Any) -> bool:
    """Return whether a tensor's values are cast to integers, and at most compared beside that.

    A mask is made of tokens by a comparison.
    """
    consumers = [op for op in tensor.consumers() if op.type not in ("Shape", "Identity")]
    casts = [op for op in consumers if op.type == "Cast" and op.outputs[0].dtype.is_integer]
    return bool(casts) and all(op in casts or op.type in _COMPARISONS for op in consumers)


_COMPARISONS = frozenset({"Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual"})


def _trace_once(
    model: keras.Model, arguments: Arguments, taps: Mapping[str, str], channels_first: bool
) -> _Traced:
    """Call the model in a new TensorFlow graph, with placeholders for inputs and weights."""
    tracing, recurrences = Tracing(), Recurrences()
    graph = TracingGraph("model", tracing)
    with graph.as_default():
        tensors, feeds = _add_inputs(arguments, channels_first)
        placeholders = [
            tf.compat.v1.placeholder(variable.dtype, variable.shape, name=f"w_{i}")
            for i, variable in enumerate(model.variables)
        ]
        feeds += [placeholder.name for placeholder in placeholders]
        with ExitStack() as stack:
            recorded = stack.enter_context(record_tapped_tensors(model, taps))
            stack.enter_context(record_layers(tracing))
            stack.enter_context(allow_any_names())
            stack.enter_context(read_variables(graph))
            stack.enter_context(mark_recurrent_layers(recurrences))
            stack.enter_context(allow_unknown_sizes())
            mapping = list(zip(model.variables, placeholders, strict=True))
            try:
                with RecordingScope(mapping) as scope:
                    results = arguments.call(model, tensors)
            except ExportError:
                raise
            except Exception as error:  # whatever a layer's own call raises
                raise _refusal(model, tracing, error) from error
        check_tapped_calls(taps, recorded)
        flat = [_to_tensor(model, leaf) for leaf in structures.flatten(results)]
        if not flat:
            raise ExportError(f"{model.name} returns no tensor")
        moved = [move_channels(t, first=True) if channels_first else t for t in flat]
        named = [tf.identity(t, name=f"output_{i}") for i, t in enumerate(moved)]
        _check_state(model, scope, tracing, placeholders, named)
        tapped = {}
        for index, tap in enumerate(taps):
            value = move_channels(recorded[tap], first=True) if channels_first else recorded[tap]
            tapped[tap] = tf.identity(value, name=f"tap_{index}").name
    traced = conversion.TensorFlowGraph(
        graph=graph,
        feeds=tuple(feeds),
        weights=unique_names([variable.path for variable in model.variables]),
        outputs=tuple(tensor.name for tensor in named),
        taps=tapped,
        tracing=tracing,
        recurrences=recurrences,
    )
    return _Traced(traced, arguments, results)


def _add_inputs(arguments: Arguments, channels_first: bool) -> tuple[list[Any], list[str]]:
    """Add a placeholder for each input; return the tensors for the model, and their names."""
    tensors, feeds = [], []
    for index, leaf in enumerate(arguments.leaves):
        shape = list(leaf.shape)
        if channels_first and len(shape) in (4, 5):
            shape = [shape[0], shape[-1], *shape[1:-1]]
        tensor = tf.compat.v1.placeholder(leaf.dtype, shape, name=f"input_{index}")
        feeds.append(tensor.name)
        tensors.append(move_channels(tensor, first=False) if channels_first else tensor)
    return tensors, feeds


def _to_tensor(model: keras.Model, leaf: Any) -> Any:
    if isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)):
        raise ExportError(
            f"{model.name} returns a {type(leaf).__name__}, which ONNX has no type for: return"
            " dense tensors"
        )
    try:
        return tf.convert_to_tensor(leaf)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{model.name} returns {type(leaf).__name__}, no tensor") from error


def _check_state(
    model: keras.Model,
    scope: RecordingScope,
    tracing: Tracing,
    placeholders: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Raise ExportError where the result depends on a variable that the call writes to."""
    if not scope.written:
        return
    read = conversion.dependencies(outputs)
    names = {
        id(variable): placeholder.op.name
        for variable, placeholder in zip(model.variables, placeholders, strict=True)
    }
    for variable in scope.written:
        # A layer's states are no variables of the model.
        name = names.get(id(variable)) or tracing.variables.get(id(variable.value))
        if name not in read:
            continue
        if "seed_generator" in variable.path:
            raise ExportError(
                f"{model.name} draws random numbers in inference mode ({variable.path}): no file"
                " can be compared with it; remove training=True from that layer's call"
            )
        raise ExportError(
            f"{model.name} writes to its variable {variable.path} when it is called, and a file has"
            " no state: build it with stateful=False, and make the state an input and an output"
        )


def _refusal(model: keras.Model, tracing: Tracing, error: Exception) -> ExportError:
    places = [f"layer {tracing.failed_in}" if tracing.failed_in else "", source_line(error)]
    place = ", ".join(filter(None, places))
    reason = describe_error(error)
    advice = next((text for key, text in _ADVICE.items() if key in reason), "")
    return ExportError(
        f"{model.name} cannot be traced: {f'{place}: ' if place else ''}"
        f"{reason if not advice else reason.split('. ')[0]}{advice}"
    )


_ADVICE = {
    "as a Python `bool`": "; the call decides in Python on a value, or on a size that varies: use"
    " keras.ops.cond or where, or give the input a fixed size",
    "to a numpy array": "; the call uses NumPy: use keras.ops",
}


def _finish(
    model: ModelProto,
    graph: conversion.TensorFlowGraph,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int,
) -> Structure:
    """Name the graph's tensors, move it to channels-first, simplify it, convert it to the opset."""
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
