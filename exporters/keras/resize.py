"""Handlers of resize operators, which compute with TensorFlow's own weights.

ONNX Resize rounds coordinates differently, treats bicubic borders differently and has no Lanczos. A
resize is linear and separable, so each axis is one weight matrix, which TensorFlow's operator gives
for an identity matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from onnx import TensorProto

from exporters.errors import ExportError
from exporters.keras.builder import Builder

_MAX_GATHERED_ROWS = 4
"""Above this number of nonzero weights per output row, one MatMul is cheaper than a sum of Gathers.
"""


class _FoldableOperator(NamedTuple):
    """The names of an operator's inputs, in order, and of the attributes that are passed on."""

    inputs: tuple[str, ...]
    attributes: tuple[str, ...] = ()


_FOLDABLE_OPERATORS = {
    "Cast": _FoldableOperator(("x",), ("DstT",)),
    "RealDiv": _FoldableOperator(("x", "y")),
    "StridedSlice": _FoldableOperator(
        ("input", "begin", "end", "strides"),
        ("begin_mask", "ellipsis_mask", "end_mask", "new_axis_mask", "shrink_axis_mask"),
    ),
}
"""The operators with which Keras computes a resize's scales from sizes."""


def create_handlers(graph: tf.Graph) -> dict[str, Callable[[Any, Any], bool | None]]:
    """Return the tf2onnx handlers of the resize operators of `graph`, by operator type."""

    def resize(context: Any, node: Any) -> bool:
        return _resize(context, node, graph)

    return dict.fromkeys(
        ("ResizeBilinear", "ResizeBicubic", "ResizeNearestNeighbor", "ScaleAndTranslate"), resize
    )


def _resize(context: Any, node: Any, graph: tf.Graph) -> bool:
    """Replace a resize of images (N, H, W, C) whose sizes are known; else return False."""
    shape = context.get_shape(node.input[0])
    arguments = _evaluate_size_inputs(graph, node.name)
    if arguments is None or not shape or -1 in shape[1:3]:
        if node.type == "ScaleAndTranslate":
            raise ExportError(
                f"{node.name}: ONNX resizes images of unknown height or width by the bilinear and"
                " nearest methods alone; give the model's input a fixed size"
            )
        return _resize_unknown(context, node)
    sizes = [int(size) for size in arguments[0].ravel()]
    if _is_exact_in_onnx(node, shape[1:3], sizes):
        _write_resize(context, node, sizes)
        return True
    matrices = [_weights(node, arguments, axis, shape[1 + axis]) for axis in range(2)]
    builder = Builder(context, node)
    images = builder.inputs[0]
    if builder.dtype != TensorProto.FLOAT and builder.dtypes[0] == TensorProto.FLOAT:
        images = builder.add("Cast", images, to=TensorProto.FLOAT)
        builder.dtype = TensorProto.FLOAT
    for axis, matrix in enumerate(matrices):
        if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
            continue
        images = _multiply_axis(builder, images, matrix, axis + 1)
    builder.finish("Identity", images)
    return True


def _resize_unknown(context: Any, node: Any) -> bool:
    """Replace a resize of images whose size varies, with TensorFlow's arithmetic of coordinates.

    Half-pixel centers: position = (row + 0.5) * (size / new size) - 0.5, in float32
    (TensorFlow's image_resizer_state.h). Returns False for the older kinds of centers.
    """
    half_pixel = bool(node.get_attr_value("half_pixel_centers", 0))
    nearest = node.type == "ResizeNearestNeighbor"
    if not half_pixel or node.get_attr_value("align_corners", 0) or node.type == "ResizeBicubic":
        return False
    builder = Builder(context, node)
    images, target = builder.inputs
    if not nearest and builder.dtype != builder.dtypes[0]:
        images = builder.add("Cast", images, to=builder.dtypes[0])
    shape = builder.add("Shape", images)
    for axis in (1, 2):
        index = builder.constant([axis], np.int64)
        size = builder.add("Squeeze", builder.add("Gather", shape, index))
        new = builder.add(
            "Squeeze", builder.add("Gather", target, builder.constant([axis - 1], np.int64))
        )
        images = _resample(
            builder, images, axis, size, builder.add("Cast", new, to=TensorProto.INT64), nearest
        )
    builder.finish("Identity", images)
    return True


def _resample(builder: Any, images: str, axis: int, size: str, new_size: str, nearest: bool) -> str:
    """Resize one axis of the images, between sizes that are scalar tensors."""

    def number(value: float) -> str:
        return str(builder.constant(value, np.float32))

    zero, one = builder.constant(0, np.int64), builder.constant(1, np.int64)
    last = builder.add("Sub", size, one)
    scale = builder.add(
        "Div",
        builder.add("Cast", size, to=TensorProto.FLOAT),
        builder.add("Cast", new_size, to=TensorProto.FLOAT),
    )
    rows = builder.add("Cast", builder.add("Range", zero, new_size, one), to=TensorProto.FLOAT)
    position = builder.add("Mul", builder.add("Add", rows, number(0.5)), scale)
    if nearest:
        row = builder.add("Cast", builder.add("Floor", position), to=TensorProto.INT64)
        return str(builder.add("Gather", images, builder.add("Min", row, last), axis=axis))
    position = builder.add("Sub", position, number(0.5))
    floor = builder.add("Floor", position)
    lower = builder.add("Max", builder.add("Cast", floor, to=TensorProto.INT64), zero)
    upper = builder.add(
        "Min", builder.add("Cast", builder.add("Ceil", position), to=TensorProto.INT64), last
    )
    weight = builder.add("Sub", position, floor)
    axes = builder.constant([1, 2] if axis == 1 else [1], np.int64)
    weight = builder.add("Cast", builder.add("Unsqueeze", weight, axes), to=builder.dtypes[0])
    before = builder.add("Gather", images, lower, axis=axis)
    after = builder.add("Gather", images, upper, axis=axis)
    return str(
        builder.add("Add", before, builder.add("Mul", builder.add("Sub", after, before), weight))
    )


def _evaluate_size_inputs(graph: tf.Graph, name: str) -> list[NDArray[Any]] | None:
    """Return the values of an operation's inputs after the images, None if one is not constant."""
    try:
        operation = graph.get_operation_by_name(name)
    except KeyError:  # The node is in the body of a loop or a branch, which is a graph of its own.
        return None
    values = [_fold_constant(tensor) for tensor in operation.inputs[1:]]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) and all((v >= 0).all() for v in known) else None


def _fold_constant(tensor: Any) -> NDArray[Any] | None:
    """Return the value of a tensor computed from constants and shapes alone, else None.

    An unknown size of a shape is -1.
    """
    value = tf.get_static_value(tensor)
    if value is not None:
        return np.asarray(value)
    operation = tensor.op
    if operation.type == "Shape" and operation.inputs[0].shape.rank is not None:
        return np.asarray([-1 if s is None else s for s in operation.inputs[0].shape], np.int32)
    inputs = [_fold_constant(source) for source in operation.inputs]
    operator = _FOLDABLE_OPERATORS.get(operation.type)
    if any(value is None for value in inputs) or operator is None:
        return None
    with tf.init_scope():
        result = getattr(tf.raw_ops, operation.type)(
            **dict(zip(operator.inputs, map(np.asarray, inputs), strict=True)),
            **{name: operation.get_attr(name) for name in operator.attributes},
        )
        return np.asarray(result)


def _weights(node: Any, arguments: list[NDArray[Any]], axis: int, size: int) -> NDArray[np.float32]:
    """Return the weights (new size, size) of one axis, from TensorFlow's operator."""
    new_size = int(arguments[0].ravel()[axis])
    units = tf.reshape(tf.eye(size), [1, size, 1, size])
    size_argument = tf.constant([new_size, 1], tf.int32)
    if node.type == "ScaleAndTranslate":
        scale, translation = (value.ravel() for value in arguments[1:3])
        result = tf.raw_ops.ScaleAndTranslate(
            images=units,
            size=size_argument,
            scale=tf.constant([scale[axis], 1.0], tf.float32),
            translation=tf.constant([translation[axis], 0.0], tf.float32),
            kernel_type=_decode(node.get_attr_value("kernel_type", "lanczos3")),
            antialias=bool(node.get_attr_value("antialias", 1)),
        )
    else:
        result = getattr(tf.raw_ops, node.type)(
            images=units,
            size=size_argument,
            align_corners=bool(node.get_attr_value("align_corners", 0)),
            half_pixel_centers=bool(node.get_attr_value("half_pixel_centers", 0)),
        )
    return np.asarray(tf.reshape(result, [new_size, size]), np.float32)


def _decode(value: Any) -> str:
    """Return an attribute's text, which tf2onnx may give as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _multiply_axis(builder: Any, images: str, matrix: NDArray[np.float32], axis: int) -> str:
    """Multiply an axis of the images by a matrix."""
    taps = int((matrix != 0).sum(axis=1).max(initial=0))
    if taps > _MAX_GATHERED_ROWS:
        # The axis goes last for the product, and back.
        perm = [0, 3, 2, 1] if axis == 1 else [0, 1, 3, 2]
        moved = builder.add("Transpose", images, perm=perm)
        product = builder.add("MatMul", moved, builder.constant(matrix.T))
        return str(builder.add("Transpose", product, perm=perm))
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]
    weights = np.take_along_axis(matrix, order, axis=1)
    shape = [-1, 1, 1] if axis == 1 else [-1, 1]
    total = ""
    for tap in range(taps):
        rows = builder.add("Gather", images, builder.constant(order[:, tap], np.int64), axis=axis)
        if not (weights[:, tap] == 1).all():
            rows = builder.add("Mul", rows, builder.constant(weights[:, tap].reshape(shape)))
        total = builder.add("Add", total, rows) if total else rows
    return total


def _is_exact_in_onnx(node: Any, old: Any, new: Any) -> bool:
    """Return whether ONNX's coordinates are exact: every axis grows by a power of two, or stays."""
    factors = [n / o for o, n in zip(old, new, strict=True)]
    powers = all(factor >= 1 and np.log2(factor).is_integer() for factor in factors)
    half_pixel = bool(node.get_attr_value("half_pixel_centers", 0))
    corners = bool(node.get_attr_value("align_corners", 0))
    kinds = ("ResizeBilinear", "ResizeNearestNeighbor")
    return node.type in kinds and powers and half_pixel and not corners and factors != [1, 1]


def _write_resize(context: Any, node: Any, sizes: list[int]) -> None:
    """Write ONNX's Resize of a channels-last image, by sizes."""
    nearest = node.type == "ResizeNearestNeighbor"
    builder = Builder(context, node)
    images = builder.inputs[0]
    if builder.dtype != builder.dtypes[0]:
        images = builder.add("Cast", images, to=builder.dtypes[0])
    moved = builder.add("Transpose", images, perm=[0, 3, 1, 2])
    shape = builder.add("Shape", moved)
    zero, two = builder.constant([0], np.int64), builder.constant([2], np.int64)
    target = builder.add(
        "Concat", builder.add("Slice", shape, zero, two), builder.constant(sizes, np.int64), axis=0
    )
    resized = builder.add(
        "Resize", moved, "", "", target,
        mode="nearest" if nearest else "linear",
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil" if nearest else "round_prefer_floor",
    )  # fmt: skip
    builder.finish("Transpose", resized, perm=[0, 2, 3, 1])
