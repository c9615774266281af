"""Operators of TensorFlow that tf2onnx writes wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto, helper

from exporters.errors import ExportError
from exporters.keras import resize
from exporters.keras.builder import Builder

Handler = Callable[[Any, Any], bool | Callable[[], None] | None]
"""It replaces a node (second) in tf2onnx's graph (first).

Or it returns False: tf2onnx does it, or a function: tf2onnx does it, and that is called then.
"""


def create_handlers(graph: tf.Graph, resources: Mapping[str, Any]) -> dict[str, Handler]:
    """Return the tf2onnx handlers of operators that tf2onnx does not convert exactly, by type.

    `resources` are the look-up tables by the name of their placeholder.
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
        **resize.create_handlers(graph),
    }


def _expm1(context: Any, node: Any) -> None:
    """Write exp(x) - 1, near 0 without cancellation: 2 t / (1 - t) with t = tanh(x / 2)."""
    builder = Builder(context, node)
    (x,) = builder.inputs
    one, two = builder.constant(1), builder.constant(2)
    tangent = builder.add("Tanh", builder.add("Div", x, two))
    near = builder.add("Div", builder.add("Mul", two, tangent), builder.add("Sub", one, tangent))
    far = builder.add("Sub", builder.add("Exp", x), one)
    builder.finish(
        "Where", builder.add("Less", builder.add("Abs", x), builder.constant(0.5)), near, far
    )


def _log1p(context: Any, node: Any) -> None:
    """Write log(1 + x); near 0 as x log(u) / (u - 1) with u = 1 + x (Kahan), exact in u."""
    builder = Builder(context, node)
    (x,) = builder.inputs
    one = builder.constant(1)
    u = builder.add("Add", x, one)
    excess = builder.add("Sub", u, one)
    exact = builder.add("Equal", excess, builder.constant(0))
    near = builder.add(
        "Mul",
        x,
        builder.add("Div", builder.add("Log", u), builder.add("Where", exact, one, excess)),
    )
    small = builder.add("Less", builder.add("Abs", x), builder.constant(0.5))
    builder.finish("Where", exact, x, builder.add("Where", small, near, builder.add("Log", u)))


def _erfc(context: Any, node: Any) -> None:
    builder = Builder(context, node)
    builder.finish("Sub", builder.constant(1), builder.add("Erf", builder.inputs[0]))


def _is_integer(dtype: int) -> bool:
    return bool(helper.tensor_dtype_to_np_dtype(dtype).kind in "iu")


def _floor_divide(context: Any, node: Any) -> None:
    """Round towards minus infinity; ONNX's division of integers rounds towards zero."""
    builder = Builder(context, node)
    x, y = builder.inputs
    if not _is_integer(builder.dtype):
        builder.finish("Floor", builder.add("Div", x, y))
        return
    zero = builder.constant(0)
    quotient = builder.add("Div", x, y)
    rest = builder.add("Sub", x, builder.add("Mul", quotient, y))
    signs = builder.add("Xor", builder.add("Less", rest, zero), builder.add("Less", y, zero))
    below = builder.add("And", builder.add("Not", builder.add("Equal", rest, zero)), signs)
    builder.finish("Sub", quotient, builder.add("Cast", below, to=builder.dtype))


def _floor_modulo(context: Any, node: Any) -> None:
    """Write the remainder with the divisor's sign: ONNX's Mod has it for integers alone."""
    builder = Builder(context, node)
    x, y = builder.inputs
    if _is_integer(builder.dtype):
        builder.finish("Mod", x, y, fmod=0)
        return
    zero = builder.constant(0)
    rest = builder.add("Mod", x, y, fmod=1)
    signs = builder.add("Xor", builder.add("Less", rest, zero), builder.add("Less", y, zero))
    other = builder.add("And", builder.add("Not", builder.add("Equal", rest, zero)), signs)
    builder.finish("Where", other, builder.add("Add", rest, y), rest)


def _truncate_modulo(context: Any, node: Any) -> None:
    builder = Builder(context, node)
    builder.finish("Mod", *builder.inputs, fmod=1)


def _bucketize(context: Any, node: Any) -> None:
    """Count the boundaries that are not above x; for NaN all of them, as TensorFlow does."""
    boundaries = np.asarray(node.get_attr_value("boundaries"), np.float32)
    builder = Builder(context, node)
    x = builder.inputs[0]
    if builder.dtype != TensorProto.FLOAT:
        x = builder.add("Cast", x, to=TensorProto.FLOAT)
    last = builder.constant([-1], np.int64)
    above = builder.add(
        "Less", builder.add("Unsqueeze", x, last), builder.constant(boundaries, np.float32)
    )
    passed = builder.add("Cast", builder.add("Not", above), to=TensorProto.INT32)
    builder.finish("ReduceSum", passed, last, keepdims=0)


def _one_hot(context: Any, node: Any) -> bool | None:
    """Compare with 0, 1, …; ONNX's OneHot takes a negative index from the end, TensorFlow none."""
    rank, depth = context.get_rank(node.input[0]), node.inputs[1]
    if rank is None or not depth.is_const():
        return False
    count = int(depth.get_tensor_value(as_list=False))
    axis = int(node.get_attr_value("axis", -1))
    axis = rank if axis == -1 else axis
    builder = Builder(context, node)
    numbers = np.arange(count).reshape([-1] + [1] * (rank - axis))
    index = builder.inputs[0]
    if builder.dtype not in (TensorProto.INT32, TensorProto.INT64):
        index = builder.add("Cast", index, to=TensorProto.INT64)
        builder.dtype = TensorProto.INT64
    hit = builder.add(
        "Equal",
        builder.add("Unsqueeze", index, builder.constant([axis], np.int64)),
        builder.constant(numbers),
    )
    if builder.dtypes[0] in _WIDER or builder.dtypes[0] == TensorProto.FLOAT16:
        wide = _WIDER.get(builder.dtypes[0], TensorProto.FLOAT)
        on, off = (builder.add("Cast", name, to=wide) for name in builder.inputs[2:4])
        builder.finish("Cast", builder.add("Where", hit, on, off), to=builder.dtypes[0])
    else:
        builder.finish("Where", hit, *builder.inputs[2:4])
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
    builder = Builder(context, node)
    (x,) = builder.inputs
    zero = builder.constant(0)
    signed = builder.add("Where", builder.add("Equal", x, zero), builder.add("Reciprocal", x), x)
    kind = helper.tensor_dtype_to_np_dtype(builder.dtypes[0])
    minus, plus = builder.constant(-1, kind), builder.constant(1, kind)
    builder.finish("Where", builder.add("Less", signed, zero), minus, plus)


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
    builder = Builder(context, node)
    lowest, zero = builder.constant(np.iinfo(builder.array_type).min), builder.constant(0)
    builder.finish("Where", builder.add("Less", x, zero), lowest, zero)
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
    builder = Builder(context, node)
    condition, x, y = builder.inputs
    if dtype not in _WIDER:
        builder.finish("Where", condition, x, y)
        return
    wide = _WIDER[dtype]
    chosen = builder.add(
        "Where", condition, builder.add("Cast", x, to=wide), builder.add("Cast", y, to=wide)
    )
    builder.finish("Cast", chosen, to=dtype)


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
        builder = Builder(context, node)
        # In a loop, tf2onnx makes the counter int64 after this.
        counts = context._is_subgraph and builder.dtype in (TensorProto.INT32, TensorProto.INT64)
        if len(types) > 1 or counts:
            builder.dtype = TensorProto.INT64
            builder.inputs = [
                builder.add("Cast", name, to=TensorProto.INT64) for name in builder.inputs
            ]
        inputs = _widen(builder, builder.inputs)
        compared = operator not in ("Max", "Min")
        kind = _WIDER.get(builder.dtype, builder.dtype)
        if compared or kind == builder.dtypes[0]:
            builder.finish(operator, *inputs)
        else:
            builder.finish("Cast", builder.add(operator, *inputs), to=builder.dtypes[0])

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


def _widen(builder: Builder, names: Sequence[str]) -> list[str]:
    wide = _WIDER.get(builder.dtype)
    return [builder.add("Cast", name, to=wide) for name in names] if wide else list(names)


def _clip(context: Any, node: Any) -> None:
    builder = Builder(context, node)
    x, low, high = _widen(builder, builder.inputs)
    result = builder.add("Min", builder.add("Max", x, low), high)
    if builder.dtype in _WIDER:
        builder.finish("Cast", result, to=builder.dtypes[0])
    else:
        builder.finish("Identity", result)


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
    builder = Builder(context, node)
    attributes = {
        f"keys_{names[key_type]}s": _plain(keys.numpy()),
        f"values_{names[value_type]}s": _plain(values.numpy()),
        f"default_{names[value_type]}": _plain([fallback])[0],
    }
    builder.finish("LabelEncoder", builder.inputs[1], domain="ai.onnx.ml", **attributes)


def _plain(values: Sequence[Any]) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in values]
