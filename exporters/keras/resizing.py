"""Resizing of images with TensorFlow's own weights.

ONNX's Resize computes coordinates with other roundings, and has neither TensorFlow's bicubic kernel
at the borders nor Lanczos. A resize is linear, and separate in both axes: each row of the result is
a sum of a few rows of the image, with weights that TensorFlow's own operator gives for the unit
images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from onnx import TensorProto

from exporters.errors import ExportError
from exporters.keras.builder import Builder

_MOST_TAPS = 4
"""With more weights a row, a matrix product is cheaper than a sum of gathered rows."""


def handlers(graph: tf.Graph) -> dict[str, Callable[[Any, Any], bool | None]]:
    """Return what converts each resizing operator of TensorFlow's `graph` in tf2onnx's."""

    def resize(context: Any, node: Any) -> bool:
        return _resize(context, node, graph)

    return dict.fromkeys(
        ("ResizeBilinear", "ResizeBicubic", "ResizeNearestNeighbor", "ScaleAndTranslate"), resize
    )


def _resize(context: Any, node: Any, graph: tf.Graph) -> bool:
    """Replace a resize of images (N, H, W, C) whose sizes are known; else return False."""
    shape = context.get_shape(node.input[0])
    arguments = _static_arguments(graph, node.name)
    if arguments is None or not shape or -1 in shape[1:3]:
        if node.type == "ScaleAndTranslate":
            raise ExportError(
                f"{node.name}: ONNX resizes images of unknown height or width by the bilinear and"
                " nearest methods alone; give the model's input a fixed size"
            )
        return _resize_unknown(context, node)
    sizes = [int(size) for size in arguments[0].ravel()]
    if _is_doubling(node, shape[1:3], sizes):
        _write_resize(context, node, sizes)
        return True
    matrices = [_weights(node, arguments, axis, shape[1 + axis]) for axis in range(2)]
    b = Builder(context, node)
    images = b.inputs[0]
    if b.dtype != TensorProto.FLOAT and b.dtypes[0] == TensorProto.FLOAT:
        images = b.add("Cast", images, to=TensorProto.FLOAT)
        b.dtype = TensorProto.FLOAT
    for axis, matrix in enumerate(matrices):
        if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
            continue
        images = _apply(b, images, matrix, axis + 1)
    b.finish("Identity", images)
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
    b = Builder(context, node)
    images, target = b.inputs
    if not nearest and b.dtype != b.dtypes[0]:
        images = b.add("Cast", images, to=b.dtypes[0])
    shape = b.add("Shape", images)
    for axis in (1, 2):
        index = b.constant([axis], np.int64)
        size = b.add("Squeeze", b.add("Gather", shape, index))
        new = b.add("Squeeze", b.add("Gather", target, b.constant([axis - 1], np.int64)))
        images = _resample(b, images, axis, size, b.add("Cast", new, to=TensorProto.INT64), nearest)
    b.finish("Identity", images)
    return True


def _resample(b: Any, images: str, axis: int, size: str, new_size: str, nearest: bool) -> str:
    """Resize one axis of the images, between sizes that are scalar tensors."""

    def number(value: float) -> str:
        return str(b.constant(value, np.float32))

    zero, one = b.constant(0, np.int64), b.constant(1, np.int64)
    last = b.add("Sub", size, one)
    scale = b.add(
        "Div",
        b.add("Cast", size, to=TensorProto.FLOAT),
        b.add("Cast", new_size, to=TensorProto.FLOAT),
    )
    rows = b.add("Cast", b.add("Range", zero, new_size, one), to=TensorProto.FLOAT)
    position = b.add("Mul", b.add("Add", rows, number(0.5)), scale)
    if nearest:
        row = b.add("Cast", b.add("Floor", position), to=TensorProto.INT64)
        return str(b.add("Gather", images, b.add("Min", row, last), axis=axis))
    position = b.add("Sub", position, number(0.5))
    floor = b.add("Floor", position)
    lower = b.add("Max", b.add("Cast", floor, to=TensorProto.INT64), zero)
    upper = b.add("Min", b.add("Cast", b.add("Ceil", position), to=TensorProto.INT64), last)
    weight = b.add("Sub", position, floor)
    axes = b.constant([1, 2] if axis == 1 else [1], np.int64)
    weight = b.add("Cast", b.add("Unsqueeze", weight, axes), to=b.dtypes[0])
    before = b.add("Gather", images, lower, axis=axis)
    after = b.add("Gather", images, upper, axis=axis)
    return str(b.add("Add", before, b.add("Mul", b.add("Sub", after, before), weight)))


def _static_arguments(graph: tf.Graph, name: str) -> list[NDArray[Any]] | None:
    """Return the values of an operation's inputs after the first, None where one varies."""
    try:
        operation = graph.get_operation_by_name(name)
    except KeyError:  # of an inner graph
        return None
    values = [_static_value(tensor) for tensor in operation.inputs[1:]]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) and all((v >= 0).all() for v in known) else None


def _static_value(tensor: Any) -> NDArray[Any] | None:
    """Return the value of a tensor that depends on known sizes alone; an unknown size is -1."""
    value = tf.get_static_value(tensor)
    if value is not None:
        return np.asarray(value)
    operation = tensor.op
    if operation.type == "Shape" and operation.inputs[0].shape.rank is not None:
        return np.asarray([-1 if s is None else s for s in operation.inputs[0].shape], np.int32)
    inputs = [_static_value(source) for source in operation.inputs]
    if any(value is None for value in inputs) or operation.type not in _COMPUTED:
        return None
    with tf.init_scope():
        attributes = {key: operation.get_attr(key) for key in _COMPUTED[operation.type]}
        result = getattr(tf.raw_ops, operation.type)(
            **dict(zip(_PARAMETERS[operation.type], map(np.asarray, inputs), strict=True)),
            **attributes,
        )
        return np.asarray(result)


# The operations that scales are computed with from sizes, with their attributes.
_COMPUTED: dict[str, tuple[str, ...]] = {
    "Cast": ("DstT",),
    "RealDiv": (),
    "StridedSlice": (
        "begin_mask", "ellipsis_mask", "end_mask", "new_axis_mask", "shrink_axis_mask"
    ),
}  # fmt: skip
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Cast": ("x",),
    "RealDiv": ("x", "y"),
    "StridedSlice": ("input", "begin", "end", "strides"),
}


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
            kernel_type=_text(node.get_attr_value("kernel_type", "lanczos3")),
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


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _apply(b: Any, images: str, matrix: NDArray[np.float32], axis: int) -> str:
    """Multiply an axis of the images by a matrix."""
    taps = int((matrix != 0).sum(axis=1).max(initial=0))
    if taps > _MOST_TAPS:
        # The axis goes last for the product, and back.
        perm = [0, 3, 2, 1] if axis == 1 else [0, 1, 3, 2]
        moved = b.add("Transpose", images, perm=perm)
        product = b.add("MatMul", moved, b.constant(matrix.T))
        return str(b.add("Transpose", product, perm=perm))
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]
    weights = np.take_along_axis(matrix, order, axis=1)
    shape = [-1, 1, 1] if axis == 1 else [-1, 1]
    total = ""
    for tap in range(taps):
        rows = b.add("Gather", images, b.constant(order[:, tap], np.int64), axis=axis)
        if not (weights[:, tap] == 1).all():
            rows = b.add("Mul", rows, b.constant(weights[:, tap].reshape(shape)))
        total = b.add("Add", total, rows) if total else rows
    return total


def _is_doubling(node: Any, old: Any, new: Any) -> bool:
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
    b = Builder(context, node)
    images = b.inputs[0]
    if b.dtype != b.dtypes[0]:
        images = b.add("Cast", images, to=b.dtypes[0])
    moved = b.add("Transpose", images, perm=[0, 3, 1, 2])
    shape = b.add("Shape", moved)
    zero, two = b.constant([0], np.int64), b.constant([2], np.int64)
    target = b.add("Concat", b.add("Slice", shape, zero, two), b.constant(sizes, np.int64), axis=0)
    resized = b.add(
        "Resize", moved, "", "", target,
        mode="nearest" if nearest else "linear",
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil" if nearest else "round_prefer_floor",
    )  # fmt: skip
    b.finish("Transpose", resized, perm=[0, 2, 3, 1])
