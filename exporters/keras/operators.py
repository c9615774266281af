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

Handler = Callable[[Any, Any], bool | Callable[[], None] | None]
"""It replaces a node (second) in tf2onnx's graph (first).

Or it returns False: tf2onnx does it, or a function: tf2onnx does it, and that is called then.
"""


def handlers(graph: tf.Graph, resources: Mapping[str, Any]) -> dict[str, Handler]:
    """Return what converts each type of operator of a graph.

    `resources`: tables by their placeholder.
    """

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
        "OneHot": _one_hot,
        "Bitcast": _sign_bits,
        "BitwiseAnd": _sign_mask,
        "SelectV2": _select,
        "Select": _select_rows,
        **{name: _elementwise(operator) for name, operator in _COMPARISONS.items()},
        "Maximum": _elementwise("Max"),
        "Minimum": _elementwise("Min"),
        "Conv3D": _group_conv3d,
        "ClipByValue": _clip,
        "LookupTableFindV2": look_up,
        **resizing.handlers(graph),
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


def _one_hot(context: Any, node: Any) -> bool | None:
    """Compare with 0, 1, …; ONNX's OneHot takes a negative index from the end, TensorFlow none."""
    rank, depth = context.get_rank(node.input[0]), node.inputs[1]
    if rank is None or not depth.is_const():
        return False
    count = int(depth.get_tensor_value(as_list=False))
    axis = int(node.get_attr_value("axis", -1))
    axis = rank if axis == -1 else axis
    b = Builder(context, node)
    numbers = np.arange(count).reshape([-1] + [1] * (rank - axis))
    index = b.inputs[0]
    if b.dtype not in (TensorProto.INT32, TensorProto.INT64):
        index = b.add("Cast", index, to=TensorProto.INT64)
        b.dtype = TensorProto.INT64
    hit = b.add(
        "Equal", b.add("Unsqueeze", index, b.constant([axis], np.int64)), b.constant(numbers)
    )
    if b.dtypes[0] in _WIDER or b.dtypes[0] == TensorProto.FLOAT16:
        wide = _WIDER.get(b.dtypes[0], TensorProto.FLOAT)
        on, off = (b.add("Cast", name, to=wide) for name in b.inputs[2:4])
        b.finish("Cast", b.add("Where", hit, on, off), to=b.dtypes[0])
    else:
        b.finish("Where", hit, *b.inputs[2:4])
    return None


def _sign_bits(context: Any, node: Any) -> None:
    """Write the bits of a float as an integer, where only their sign is asked for.

    Keras's argmax tells -0.0 from 0.0 by that. 1/x has the sign of a zero.
    """
    readers = context.find_output_consumers(node.output[0])
    if not readers or not all(_reads_sign(reader, node.output[0]) for reader in readers):
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


def _reads_sign(reader: Any, name: str) -> bool:
    """Return whether a node compares a number with 0, or takes its sign bit."""
    if reader.type == "BitwiseAnd":
        return _is_sign_mask(reader)
    other = reader.inputs[1]
    return bool(
        reader.type == "Less"
        and reader.input[0] == name
        and other.is_const()
        and not np.any(other.get_tensor_value(as_list=False))
    )


def _is_sign_mask(node: Any) -> bool:
    values = [n.get_tensor_value(as_list=False) for n in node.inputs if n.is_const()]
    return any(np.all(v == np.iinfo(v.dtype).min) for v in values if v.dtype.kind == "i")


def _sign_mask(context: Any, node: Any) -> bool:
    """Write x & the sign bit without operators on bits, which ONNX has from opset 18."""
    if not _is_sign_mask(node):
        return False
    x = next(name for name, n in zip(node.input, node.inputs, strict=True) if not n.is_const())
    b = Builder(context, node)
    lowest, zero = b.constant(np.iinfo(b.array_type).min), b.constant(0)
    b.finish("Where", b.add("Less", x, zero), lowest, zero)
    return True


# ONNX Runtime's Where, Less, … take these; for others the next larger one is right too.
_WIDER = {
    TensorProto.INT8: TensorProto.INT32,
    TensorProto.INT16: TensorProto.INT32,
    TensorProto.UINT16: TensorProto.INT32,
    TensorProto.UINT32: TensorProto.INT64,
}

_COMPARISONS = {
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
}


def _select(context: Any, node: Any) -> None:
    """Write a choice; tf2onnx multiplies by the condition, which an infinity does not survive."""
    dtype = context.get_dtype(node.output[0])
    b = Builder(context, node)
    condition, x, y = b.inputs
    if dtype not in _WIDER:
        b.finish("Where", condition, x, y)
        return
    wide = _WIDER[dtype]
    chosen = b.add("Where", condition, b.add("Cast", x, to=wide), b.add("Cast", y, to=wide))
    b.finish("Cast", chosen, to=dtype)


def _select_rows(context: Any, node: Any) -> bool | None:
    """Write a choice whose condition may be a vector, one value for each row."""
    ranks = [context.get_rank(name) for name in node.input[:2]]
    if None in ranks:
        return False
    if ranks[0] == 1 and ranks[1] > 1:
        condition = context.make_node(
            "Unsqueeze",
            [
                node.input[0],
                context.make_const(
                    f"{node.name}/axes", np.arange(1, ranks[1], dtype=np.int64)
                ).output[0],
            ],
        )
        context.replace_input(node, node.input[0], condition.output[0], 0)
    _select(context, node)
    return None


def _elementwise(operator: str) -> Handler:
    """Return what writes a comparison in the numbers' own type.

    tf2onnx casts integers to float32, which rounds large ones.
    """

    def convert(context: Any, node: Any) -> None:
        types = {context.get_dtype(name) for name in node.input}
        b = Builder(context, node)
        # In a loop, tf2onnx makes the counter int64 after this.
        counts = context._is_subgraph and b.dtype in (TensorProto.INT32, TensorProto.INT64)
        if len(types) > 1 or counts:
            b.dtype = TensorProto.INT64
            b.inputs = [b.add("Cast", name, to=TensorProto.INT64) for name in b.inputs]
        inputs = _widen(b, b.inputs)
        compared = operator not in ("Max", "Min")
        kind = _WIDER.get(b.dtype, b.dtype)
        if compared or kind == b.dtypes[0]:
            b.finish(operator, *inputs)
        else:
            b.finish("Cast", b.add(operator, *inputs), to=b.dtypes[0])

    return convert


def _group_conv3d(context: Any, node: Any) -> Callable[[], None] | bool:
    """Give a convolution in three dimensions its groups, once tf2onnx has converted it."""
    images, kernel = (context.get_shape(name) for name in node.input[:2])
    channels_last = node.get_attr_str("data_format") == "NDHWC"
    if not images or not kernel:
        return False
    groups = images[-1 if channels_last else 1] // kernel[-2]
    name = node.name

    def finish() -> None:
        context.get_node_by_name(name).set_attr("group", groups)

    return finish if groups > 1 else False


def _widen(b: Builder, names: Sequence[str]) -> list[str]:
    wide = _WIDER.get(b.dtype)
    return [b.add("Cast", name, to=wide) for name in names] if wide else list(names)


def _clip(context: Any, node: Any) -> None:
    b = Builder(context, node)
    x, low, high = _widen(b, b.inputs)
    result = b.add("Min", b.add("Max", x, low), high)
    if b.dtype in _WIDER:
        b.finish("Cast", result, to=b.dtypes[0])
    else:
        b.finish("Identity", result)


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
