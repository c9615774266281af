"""Keras 3 models (TensorFlow backend) to ONNX, through tf2onnx.

The model is traced with its weights as inputs of the graph, so no weight is read, copied or folded
while TensorFlow and tf2onnx work; they are put in afterwards (`onnx_graph.inject`).
"""

from __future__ import annotations

import os

# Both are read when TensorFlow and Keras are imported, and only then.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from exporters.quiet import quiet, without_stderr

with without_stderr():
    # TensorFlow's C++ part writes there before it has read any log level.
    import keras
    import tensorflow as tf

from exporters import layout, simplify
from exporters.errors import ExportError, first_line
from exporters.graph_edit import replace
from exporters.keras_onnx_taps import recorded_calls
from exporters.onnx_graph import Array, Structure, opset_of
from exporters.result import Exported, finish
from exporters.taps import check_recorded
from exporters.verify import Reference, nudged

# tf2onnx writes the operators of this version at most; ONNX's own converter goes on from there.
_TF2ONNX_NEWEST = 18


@dataclass(frozen=True)
class _Traced:
    """A TensorFlow graph, and what its tensors are called in it."""

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
    _require_tensorflow()
    simplify.check_opset(opset)
    signature = _signature(model)
    inputs = tuple(inputs) or _unique([spec.name for spec in signature])
    if len(inputs) != len(signature):
        raise ExportError(f"{model.name} has {len(signature)} inputs, {len(inputs)} names given")
    with quiet(), _eager_functions():
        traced = _build(model, signature, taps or {}, channels_first)
        converted = _convert(traced, min(opset, _TF2ONNX_NEWEST))
    count = len(traced.outputs)
    outputs = tuple(outputs) or _output_names(model, count)
    if len(outputs) != count:
        raise ExportError(f"{model.name} has {count} outputs, {len(outputs)} names given")
    simplify.check_names(weights=traced.weights, inputs=inputs, outputs=outputs, taps=traced.taps)
    return _finish(converted, traced, inputs=inputs, outputs=outputs, opset=opset)


def weights(model: keras.Model) -> dict[str, Array]:
    """Every variable by its path ("conv1_conv/kernel"), in Keras's own layouts."""
    names = _unique([variable.path for variable in model.variables])
    return {
        name: np.asarray(variable.value.numpy())
        for name, variable in zip(names, model.variables, strict=True)
    }


def export(
    model: keras.Model,
    path: Path | str,
    *,
    opset: int = 17,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    tap_outputs: Sequence[str] = (),
    channels_first: bool = False,
    metadata: Mapping[str, str] | None = None,
    structure: Structure | None = None,
    sample: Sequence[Array] | None = None,
) -> Exported:
    """Export and verify; on any failure ExportError, and no file.

    `tap_outputs` names taps that become outputs of the file. `structure` is what `trace` gave for
    this architecture, with the same options, whatever the weights were. `sample`: inputs to verify
    on, in the graph's layout, batch of 3 or more (default: seeded random).
    """

    def traced() -> Structure:
        return trace(
            model,
            opset=opset,
            inputs=inputs,
            outputs=outputs,
            taps=taps,
            channels_first=channels_first,
        )

    return finish(
        path=Path(path),
        structure=structure or traced,
        weights=functools.partial(weights, model),
        reference=_reference(model, channels_first),
        tap_outputs=tap_outputs,
        metadata={**(metadata or {}), "framework": f"keras {keras.__version__}"},
        sample=sample,
    )


def _require_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow to export"
        )


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Tell equal names apart with _1, _2, …, in order."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        distinct.append(f"{name}_{count}" if count else name)
    return tuple(distinct)


def _signature(model: keras.Model) -> list[tf.TensorSpec]:
    """Name, shape (batch None) and dtype of each input, in the model's order."""
    tensors = getattr(model, "inputs", None)
    if tensors:
        # Keras numbers nameless inputs as they are made, so the same model has other names twice.
        nameless = "input" if len(tensors) == 1 else "input_{}"
        return [
            tf.TensorSpec(
                (None, *tensor.shape[1:]),
                tensor.dtype,
                nameless.format(i) if tensor.name.startswith("keras_tensor") else tensor.name,
            )
            for i, tensor in enumerate(tensors)
        ]
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes:
        raise ExportError(f"{model.name} has no input shape yet: call it once on a batch")
    flat = [shape for shape in shapes.values() if isinstance(shape, tuple)]
    if len(flat) != len(shapes):
        raise ExportError(f"{model.name}: inputs of a subclassed model must be plain tensors")
    names = ["input"] if len(flat) == 1 else [name.removesuffix("_shape") for name in shapes]
    return [
        tf.TensorSpec((None, *shape[1:]), model.input_dtype or model.compute_dtype, name)
        for shape, name in zip(flat, names, strict=True)
    ]


def _output_names(model: keras.Model, count: int) -> tuple[str, ...]:
    names = list(getattr(model, "output_names", None) or [])
    if len(names) != count:
        names = ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
    return _unique(names)


def _arguments(model: keras.Model, tensors: Sequence[Any]) -> list[Any]:
    """Positional arguments of the model's call for flat `tensors`."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is not None:
        return [keras.tree.pack_sequence_as(structure, list(tensors))]
    return list(tensors)


def _inference(model: keras.Model) -> dict[str, bool]:
    """The keyword that asks for inference, of a model whose call takes it."""
    takes = "training" in inspect.signature(model.call).parameters
    return {"training": False} if takes else {}


def _moved(tensor: Any, *, first: bool) -> Any:
    """Move the channels of a spatial tensor (4 or 5 axes) first or last; leave others alone."""
    rank = len(tensor.shape)
    if rank not in (4, 5):
        return tensor
    last = layout.channels_last(rank)
    return tf.transpose(tensor, [int(axis) for axis in np.argsort(last)] if first else last)


@contextmanager
def _eager_functions() -> Iterator[None]:
    # Keras wraps each grouped convolution in tf.function(jit_compile=True); traced as it is, it is
    # a StatefulPartitionedCall that tf2onnx cannot convert (tensorflow-onnx #2099). Run eagerly,
    # its body goes into the graph around it. The switch is global, so it is put back.
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _build(
    model: keras.Model,
    signature: Sequence[tf.TensorSpec],
    taps: Mapping[str, str],
    channels_first: bool,
) -> _Traced:
    graph = tf.Graph()
    with graph.as_default():
        tensors, feeds = [], []
        for index, spec in enumerate(signature):
            shape = list(spec.shape)
            if channels_first and len(shape) in (4, 5):
                shape = [shape[0], shape[-1], *shape[1:-1]]
            fed = tf.compat.v1.placeholder(spec.dtype, shape, name=f"input_{index}")
            feeds.append(fed.name)
            tensors.append(_moved(fed, first=False) if channels_first else fed)
        placeholders = {
            id(variable): tf.compat.v1.placeholder(variable.dtype, variable.shape, name=f"w_{i}")
            for i, variable in enumerate(model.variables)
        }
        feeds += [placeholder.name for placeholder in placeholders.values()]
        with recorded_calls(model, taps) as recorded:
            try:
                results, _ = model.stateless_call(
                    [placeholders[id(v)] for v in model.trainable_variables],
                    [placeholders[id(v)] for v in model.non_trainable_variables],
                    *_arguments(model, tensors),
                    **_inference(model),
                )
            except Exception as error:  # whatever a layer's own call raises
                raise ExportError(f"{model.name} cannot be traced: {first_line(error)}") from error
        check_recorded(taps, recorded)
        flat = keras.tree.flatten(results)
        moved = [_moved(t, first=True) if channels_first else t for t in flat]
        named = [tf.identity(t, name=f"output_{i}").name for i, t in enumerate(moved)]
        tapped = {}
        for index, tap in enumerate(taps):
            value = _moved(recorded[tap], first=True) if channels_first else recorded[tap]
            tapped[tap] = tf.identity(value, name=f"tap_{index}").name
    paths = _unique([variable.path for variable in model.variables])
    return _Traced(graph, feeds, paths, named, tapped)


def _convert(traced: _Traced, opset: int) -> ModelProto:
    # Imported here: with a cached structure it is not needed.
    from tf2onnx import tfonnx

    # This pass reads the weights to make an LSTM operator; without it, the loop stays a Loop.
    rewriter = tfonnx.rewriter_lstm_tf2
    tfonnx.rewriter_lstm_tf2 = lambda graph, operations: operations
    try:
        converted = tfonnx.process_tf_graph(
            traced.graph,
            opset=opset,
            input_names=traced.feeds,
            output_names=[*traced.outputs, *traced.taps.values()],
        )
        return converted.make_model("keras")
    except Exception as error:  # tf2onnx raises ValueError, KeyError, AssertionError and more
        raise ExportError(f"tf2onnx could not convert the model: {first_line(error)}") from error
    finally:
        tfonnx.rewriter_lstm_tf2 = rewriter


def _finish(
    model: ModelProto,
    graph: _Traced,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int,
) -> Structure:
    """Put names right, move to channels-first, and check."""
    simplify.lower_erfc(model.graph)
    simplify.check_operators(model.graph, framework="TensorFlow")
    taps = {tap: tensor for tap, tensor in graph.taps.items() if tap not in outputs}
    by_name = {value.name: value for value in model.graph.output}
    try:
        ordered = [by_name[name] for name in (*graph.outputs, *taps.values())]
    except KeyError as error:
        raise ExportError(f"tf2onnx lost an output of the model ({error})") from error
    replace(model.graph.output, ordered)
    fed = dict(zip(graph.feeds, (*inputs, *graph.weights), strict=True))
    simplify.name_tensors(model.graph, inputs=fed, outputs=(*outputs, *taps))
    source = opset_of(model)
    simplify.simplify(model.graph, opset=source)
    model = simplify.infer_shapes(model)
    simplify.fold_shapes(model)
    simplify.simplify(model.graph, opset=source)
    layout.to_channels_first(model.graph, simplify.shapes_of(model.graph))
    simplify.simplify(model.graph, opset=source)
    model = simplify.convert_opset(model, opset)
    return simplify.structure(
        model,
        inputs=inputs,
        outputs=outputs,
        taps=tuple(taps),
        owned=graph.weights,
        producer=f"exporters.keras_onnx {keras.__version__}",
    )


def _reference(model: keras.Model, channels_first: bool) -> Reference:
    """The model as a function of arrays in the graph's layout, on the CPU."""
    variables = {"trainable": model.trainable_variables, "other": model.non_trainable_variables}

    def run(inputs: Sequence[Array], *, nudge: int | None = None) -> list[Array]:
        # Eagerly for speed: XLA would compile each grouped convolution anew for each batch size.
        with quiet(), _eager_functions(), tf.device("/CPU:0"):
            tensors = [tf.constant(array) for array in inputs]
            if channels_first:
                tensors = [_moved(tensor, first=False) for tensor in tensors]
            arguments = _arguments(model, tensors)
            if nudge is None:
                results = model(*arguments, **_inference(model))
            else:
                trainable, other = (
                    [
                        tf.constant(nudged(np.asarray(v.value.numpy()), seed=nudge, index=i))
                        for i, v in enumerate(group)
                    ]
                    for group in variables.values()
                )
                results, _ = model.stateless_call(trainable, other, *arguments, **_inference(model))
            flat = keras.tree.flatten(results)
            if channels_first:
                flat = [_moved(tensor, first=True) for tensor in flat]
            return [np.asarray(tensor) for tensor in flat]

    return run
