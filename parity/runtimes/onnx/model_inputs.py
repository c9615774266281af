"""Inputs and weights of any ONNX model, by name: what it takes, and whether arrays fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from parity.errors import InputError, WeightError
from parity.runtimes.graph_framework import InputSpec
from parity.runtimes.onnx.model_file import OnnxModel
from parity.runtimes.onnx.reader import declared_shape, weight_names

Array = NDArray[Any]


def describe_inputs(model: OnnxModel) -> list[InputSpec]:
    """Return the inputs as the file declares them, in its order."""
    specs = []
    for value in model.inputs:
        has_shape = value.type.tensor_type.HasField("shape")
        shape = declared_shape(value) if has_shape else None
        specs.append(InputSpec(value.name, shape, _dtype_name(value), "declared"))
    return specs


def fit_inputs(model: OnnxModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the inputs as the file declares them; floating ones are cast to its floating type.

    Raises `InputError` for missing and unknown names, other shapes, and other kinds of numbers.
    """
    specs = {spec.name: spec for spec in describe_inputs(model)}
    missing, extra = sorted(specs.keys() - inputs.keys()), sorted(inputs.keys() - specs.keys())
    if missing or extra:
        raise InputError(
            f"{model.source}: expected the inputs {', '.join(specs)}; found {', '.join(inputs)}"
        )
    return {name: _fit(model.source, specs[name], inputs[name]) for name in specs}


def _fit(source: str, spec: InputSpec, array: Array) -> Array:
    where = f"{source}: input {spec.name!r}"
    shape = spec.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True))
    ):
        wanted = ", ".join("?" if length is None else str(length) for length in shape)
        raise InputError(f"{where}: expected the shape ({wanted}), found {array.shape}")
    expected = np.dtype(spec.dtype) if spec.dtype else array.dtype
    kinds = {"i": "iu", "u": "iu"}.get(expected.kind, expected.kind)
    if array.dtype.kind not in kinds:
        raise InputError(f"{where}: expected {expected}, found {array.dtype}")
    fitted = array.astype(expected)
    if expected.kind in "iu" and not np.array_equal(fitted, array):
        raise InputError(f"{where}: has numbers outside the range of {expected}")
    return np.ascontiguousarray(fitted).reshape(array.shape)


def _dtype_name(value: onnx.ValueInfoProto) -> str:
    element = value.type.tensor_type.elem_type
    # NumPy has no bfloat16 of its own; such an input is given as float32.
    if element == TensorProto.BFLOAT16:
        return "float32"
    if not element or element == TensorProto.STRING:
        return ""
    return str(helper.tensor_dtype_to_np_dtype(element))


def read_weights(model: OnnxModel) -> dict[str, Array]:
    """Return copies of the floating weights by name; bfloat16 ones as float32."""
    return {name: _readable(model.tensors[name]) for name in weight_names(model)}


def _readable(array: Array) -> Array:
    return array.astype(np.float32 if array.dtype.kind != "f" else array.dtype)


def write_weights(model: OnnxModel, values: Mapping[str, Array]) -> None:
    """Set weights of the model, each in its own dtype.

    Raises `WeightError` for a name that the model lacks, and another shape.
    """
    names = set(weight_names(model))
    for name, value in values.items():
        if name not in names:
            raise WeightError(f"{model.source}: has no floating weight {name!r}")
        own = model.tensors[name]
        if own.shape != value.shape:
            raise WeightError(
                f"{model.source}: {name}: expected the shape {own.shape}, found {value.shape}"
            )
    for name, value in values.items():
        # A new array: other models may share the one that was there.
        model.tensors[name] = np.array(value, dtype=model.tensors[name].dtype)
    for name, value in values.items():
        written = _readable(model.tensors[name])
        expected = _readable(np.asarray(value).astype(model.tensors[name].dtype))
        if written.tobytes() != expected.tobytes():
            raise WeightError(f"{model.source}: {name}: was not written bit for bit")
