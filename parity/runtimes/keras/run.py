"""Forward passes of Keras models, layer by layer or compiled, in which tensors are captured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.network import layouts
from parity.network.table import Row
from parity.runtimes.floors import TensorHook
from parity.runtimes.framework import ForwardResult
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import float64
from parity.runtimes.keras import layers as keras_layers

Array = NDArray[Any]

# TensorFlow keeps the constants of some activations in float32. Keras binds the functions when a
# model is built, so the float64 forms are put in their place at import.
float64.install()


def index_rows_by_call(rows: Sequence[Row]) -> dict[str, Row]:
    """Return rows by the call that computes their tensor, `NAME` or `NAME#NUMBER`."""
    return {row.keras.removesuffix("#0"): row for row in rows}


def forward(
    model: keras.Model, x: Array, rows: Sequence[Row], hook: TensorHook, *, device: str, xla: bool
) -> ForwardResult:
    """Run once on `x` (N, C, H, W), and call `hook` with the tensors of `rows`."""
    row_of_call = index_rows_by_call(rows)
    for call in row_of_call:
        keras_layers.find_tensor(model, call)
    with keras_device.device_scope(device):
        data = to_tensor(x)
        if xla:
            return _forward_compiled(model, data, row_of_call, hook)

        def record(call: str, tensor: Any) -> Any:
            row = row_of_call.get(call)
            replacement = None if row is None else hook(row, to_canonical(tensor))
            return tensor if replacement is None else to_tensor(replacement)

        started = time.perf_counter()
        output = keras_layers.run_layers(model, data, record)
        seconds = time.perf_counter() - started
        return ForwardResult(seconds, keras_device.device_of(output))


def _forward_compiled(
    model: keras.Model, data: Any, row_of_call: Mapping[str, Row], hook: TensorHook
) -> ForwardResult:
    """Run the whole model as one XLA program that also returns the rows' tensors.

    The hook is called after the run, so the arrays that it returns replace nothing: `--isolate` is
    refused with `--xla`.
    """

    def run(data: Any) -> tuple[dict[str, Any], Any]:
        tensors: dict[str, Any] = {}

        def record(call: str, tensor: Any) -> Any:
            if call in row_of_call:
                tensors[call] = tensor
            return tensor

        return tensors, keras_layers.run_layers(model, data, record)

    program = keras_device.compile_xla(run)
    program(data)
    started = time.perf_counter()
    tensors, output = program(data)
    keras.ops.convert_to_numpy(output)
    seconds = time.perf_counter() - started
    for call, row in row_of_call.items():
        hook(row, to_canonical(tensors[call]))
    return ForwardResult(seconds, keras_device.device_of(output))


def measure_batch_norm_inputs(
    model: keras.Model, rows: Sequence[Row], x: Array
) -> list[tuple[Row, Array, Array]]:
    """Return the mean and biased variance of the input of each batch-norm among `rows`.

    `model` is changed: its moving statistics become those of `x`.
    """
    rows = [row for row in rows if row.kind == "batch_norm"]
    layers = [model.get_layer(row.keras) for row in rows]
    for layer in layers:
        # Without memory of earlier batches the moving statistics become the batch's own.
        layer.momentum = 0.0
    with keras_device.device_scope("cpu"):
        model(keras.ops.convert_to_tensor(layouts.to_nhwc(x)), training=True)
    return [
        (row, np.asarray(layer.moving_mean), np.asarray(layer.moving_variance))
        for row, layer in zip(rows, layers, strict=True)
    ]


def to_tensor(array: Array) -> Any:
    """Return a canonical array as a tensor of the backend, images as (N, H, W, C)."""
    return keras.ops.convert_to_tensor(np.ascontiguousarray(layouts.to_nhwc(array)))


def to_canonical(tensor: Any) -> Array:
    """Return a layer's tensor as a NumPy array, images as (N, C, H, W)."""
    array = np.asarray(keras.ops.convert_to_numpy(tensor))
    if array.dtype.name == "bfloat16":
        # NumPy has no such type of its own, and every bfloat16 is a float32.
        array = array.astype(np.float32)
    return np.ascontiguousarray(layouts.to_nchw(array))
