"""Operators of TensorFlow that tf2onnx writes wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto, helper

from exporters.errors import ExportError
from exporters.keras import resizing
from exporters.keras.builder import Builder

Handler = Callable[[Any, Any], bool | None]
"""It replaces a node (second) in tf2onnx's graph (first), or returns False: tf2onnx does it."""


def handlers(resources: Mapping[str, Any]) -> dict[str, Handler]:
    """Return what converts each type of operator. `resources`: tables by their placeholder."""

    def look_up(context: Any, node: Any) -> None:
        _look_up(context, node, resources)

    return {
        "Expm1": _expm1,
        "Log1p": _log1p,
        "Erfc": _erfc,
        "FloorDiv": _floor_divide,
        "FloorMod": _floor_modulo,
        "TruncateMod": _truncate_modulo,
        "Bucketize": _bucketize,
        "Bitcast": _sign_bits,
        "LookupTableFindV2": look_up,
        **resizing.handlers(),
    }


def _expm1(context: Any, node: Any) -> None:
    """Write exp(x) - 1, near 0 without cancellation: 2 t / (1 - t) with t = tanh(x / 2)."""
    b = Builder(context, node)
    (x,) = b.inputs
    one, two = b.constant(1), b.constant(2)
    tangent = b.add("Tanh", b.add("Div", x, two))
    near = b.add("Div", b.add("Mul", two, tangent), b.add("Sub", one, tangent))
    far = b.add("Sub", b.add("Exp", x), one)
    b.finish("Where", b.add("Less", b.add("Abs", x), b.constant(0.5)), near, far)


def _log1p(context: Any, node: Any) -> None:
    """Write log(1 + x); near 0 as x log(u) / (u - 1) with u = 1 + x (Kahan), exact in u."""
    b = Builder(context, node)
    (x,) = b.inputs
    one = b.constant(1)
    u = b.add("Add", x, one)
    excess = b.add("Sub", u, one)
    exact = b.add("Equal", excess, b.constant(0))
    near = b.add("Mul", x, b.add("Div", b.add("Log", u), b.add("Where", exact, one, excess)))
    small = b.add("Less", b.add("Abs", x), b.constant(0.5))
    b.finish("Where", exact, x, b.add("Where", small, near, b.add("Log", u)))


def _erfc(context: Any, node: Any) -> None:
    b = Builder(context, node)
    b.finish("Sub", b.constant(1), b.add("Erf", b.inputs[0]))


def _is_integer(dtype: int) -> bool:
    return bool(helper.tensor_dtype_to_np_dtype(dtype).kind in "iu")


def _floor_divide(context: Any, node: Any) -> None:
    """Round towards minus infinity; ONNX's division of integers rounds towards zero."""
    b = Builder(context, node)
    x, y = b.inputs
    if not _is_integer(b.dtype):
        b.finish("Floor", b.add("Div", x, y))
        return
    zero = b.constant(0)
    quotient = b.add("Div", x, y)
    rest = b.add("Sub", x, b.add("Mul", quotient, y))
    signs = b.add("Xor", b.add("Less", rest, zero), b.add("Less", y, zero))
    below = b.add("And", b.add("Not", b.add("Equal", rest, zero)), signs)
    b.finish("Sub", quotient, b.add("Cast", below, to=b.dtype))


def _floor_modulo(context: Any, node: Any) -> None:
    """Write the remainder with the divisor's sign: ONNX's Mod has it for integers alone."""
    b = Builder(context, node)
    x, y = b.inputs
    if _is_integer(b.dtype):
        b.finish("Mod", x, y, fmod=0)
        return
    zero = b.constant(0)
    rest = b.add("Mod", x, y, fmod=1)
    signs = b.add("Xor", b.add("Less", rest, zero), b.add("Less", y, zero))
    other = b.add("And", b.add("Not", b.add("Equal", rest, zero)), signs)
    b.finish("Where", other, b.add("Add", rest, y), rest)


def _truncate_modulo(context: Any, node: Any) -> None:
    b = Builder(context, node)
    b.finish("Mod", *b.inputs, fmod=1)


def _bucketize(context: Any, node: Any) -> None:
    """Count the boundaries that are not above x; for NaN all of them, as TensorFlow does."""
    boundaries = np.asarray(node.get_attr_value("boundaries"), np.float32)
    b = Builder(context, node)
    x = b.inputs[0]
    if b.dtype != TensorProto.FLOAT:
        x = b.add("Cast", x, to=TensorProto.FLOAT)
    last = b.constant([-1], np.int64)
    above = b.add("Less", b.add("Unsqueeze", x, last), b.constant(boundaries, np.float32))
    passed = b.add("Cast", b.add("Not", above), to=TensorProto.INT32)
    b.finish("ReduceSum", passed, last, keepdims=0)


def _sign_bits(context: Any, node: Any) -> None:
    """Write the bits of a float as an integer, where only their sign is asked for.

    Keras's argmax tells -0.0 from 0.0 by that. 1/x has the sign of a zero.
    """
    readers = context.find_output_consumers(node.output[0])
    asked = all(reader.type == "Less" and reader.input[0] == node.output[0] for reader in readers)
    zeros = asked and all(
        reader.inputs[1].is_const() and not np.any(reader.inputs[1].get_tensor_value(False))
        for reader in readers
    )
    if not zeros:
        raise ExportError(
            f"{node.name}: ONNX has no operator for the bits of a number (Bitcast); compute this"
            " outside of the model"
        )
    b = Builder(context, node)
    (x,) = b.inputs
    zero = b.constant(0)
    signed = b.add("Where", b.add("Equal", x, zero), b.add("Reciprocal", x), x)
    kind = helper.tensor_dtype_to_np_dtype(b.dtypes[0])
    minus, plus = b.constant(-1, kind), b.constant(1, kind)
    b.finish("Where", b.add("Less", signed, zero), minus, plus)


def _look_up(context: Any, node: Any, resources: Mapping[str, Any]) -> None:
    """Write a look-up in a table as ONNX-ML's LabelEncoder."""
    source = node.inputs[0]
    while source.type == "Identity":
        source = source.inputs[0]
    handle = resources.get(source.name)
    default = node.inputs[2]
    if handle is None or not default.is_const():
        raise ExportError(f"{node.name}: the look-up table is made while the model is called")
    kinds = {TensorProto.STRING: tf.string, TensorProto.INT64: tf.int64}
    kinds |= {TensorProto.FLOAT: tf.float32}
    key_type = context.get_dtype(node.input[1])
    value_type = context.get_dtype(node.output[0])
    if key_type not in kinds or value_type not in kinds:
        raise ExportError(
            f"{node.name}: ONNX looks up strings, int64 and float32; cast the keys to one of them"
        )
    with tf.init_scope():
        keys, values = tf.raw_ops.LookupTableExportV2(
            table_handle=handle, Tkeys=kinds[key_type], Tvalues=kinds[value_type]
        )
    names = {TensorProto.STRING: "string", TensorProto.INT64: "int64", TensorProto.FLOAT: "float"}
    fallback = np.asarray(default.get_tensor_value(as_list=False)).reshape(-1)[0]
    b = Builder(context, node)
    attributes = {
        f"keys_{names[key_type]}s": _plain(keys.numpy()),
        f"values_{names[value_type]}s": _plain(values.numpy()),
        f"default_{names[value_type]}": _plain([fallback])[0],
    }
    b.finish("LabelEncoder", b.inputs[1], domain="ai.onnx.ml", **attributes)


def _plain(values: Sequence[Any]) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in values]
