"""Layers that compute no new features: identity, reshapes, slices, padding, resizing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import layouts
from parity.network.arrays import pad_or_crop_image
from parity.network.kind import Hyperparameter, Kind, to_sizes

Array = NDArray[np.float64]


def _identity(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return inputs[0]


def _flatten(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return inputs[0].reshape(inputs[0].shape[0], -1)


def _reshape(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Reshape to (N, *target), channels first; one size of `target` may be -1.

    With `channels_last` the values are read and written in Keras's order, (N, H, W, C).
    `full_shape`, with the batch, takes the place of `target` where the batch changes.
    """
    if hyper.get("full_shape") is not None:
        return inputs[0].reshape(hyper["full_shape"])
    data, target = inputs[0], tuple(hyper["target"])
    if not hyper["channels_last"]:
        return data.reshape(data.shape[0], *target)
    last = (*target[1:], target[0]) if len(target) == 3 else target
    moved = layouts.to_nhwc(data).reshape(data.shape[0], *last)
    return np.asarray(layouts.to_nchw(moved), np.float64)


def _pad(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Pad the last axes by a pair for each, [[top, bottom], [left, right]]; negative ones crop.

    `mode` is constant, reflect, replicate or circular, as PyTorch has them, or symmetric: with the
    edge, as NumPy and TensorFlow have it.
    """
    data, padding, mode = inputs[0], hyper["padding"], hyper["mode"]
    if mode == "constant" and data.ndim == 2 + len(padding):
        return pad_or_crop_image(data, padding, hyper["value"])
    widths = [(0, 0)] * (data.ndim - len(padding)) + [tuple(pair) for pair in padding]
    if len(widths) != data.ndim or min(map(min, widths)) < 0:
        raise ValueError(f"{data.shape} cannot be padded by {padding}")
    if mode == "constant":
        return np.pad(data, widths, constant_values=hyper["value"])
    modes = {
        "reflect": "reflect", "replicate": "edge", "circular": "wrap", "symmetric": "symmetric",
    }  # fmt: skip
    if mode not in modes:
        raise ValueError(f"there is no operator for the mode {mode!r}")
    return np.asarray(np.pad(data, widths, mode=modes[mode]))  # type: ignore[call-overload]


def _transpose(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return inputs[0].transpose(hyper["perm"])


def _squeeze(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.squeeze(inputs[0], axis=tuple(hyper["axes"]))


def _unsqueeze(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Insert axes of length 1; `axes` are those of the output."""
    return np.expand_dims(inputs[0], axis=tuple(hyper["axes"]))


def _expand(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.broadcast_to(inputs[0], tuple(hyper["full_shape"])).copy()


def _slice(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Take `starts` to `ends` by `steps` along `axes`; then remove the axes in `squeeze`."""
    index = [slice(None)] * inputs[0].ndim
    for axis, start, end, step in zip(
        hyper["axes"], hyper["starts"], hyper["ends"], hyper["steps"], strict=True
    ):
        index[axis] = slice(start, end, step)
    return np.squeeze(inputs[0][tuple(index)], axis=tuple(hyper["squeeze"]))


def _split(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Part `index` of the parts of `sizes` along `axis`."""
    index, sizes = int(hyper["index"]), [int(size) for size in hyper["sizes"]]
    start, axis = sum(sizes[:index]), hyper["axis"]
    part = inputs[0].take(range(start, start + sizes[index]), axis=axis)
    return part.squeeze(axis) if hyper["squeeze"] else part


def _gather(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Take the places that the second input, a vector of integers, names along `axis`."""
    return inputs[0].take(inputs[1].astype(np.int64), axis=hyper["axis"])


def _roll(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    return np.roll(inputs[0], tuple(hyper["shifts"]), axis=tuple(hyper["axes"]))


def _flip(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    return np.flip(inputs[0], axis=tuple(hyper["axes"])).copy()


def _tile(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    return np.tile(inputs[0], tuple(hyper["repeats"]))


def _depth_to_space(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Shi et al. (2016): (N, C·b², H, W) to (N, C, H·b, W·b).

    The channels are channel-major, as PyTorch has them, or `block_major`, as TensorFlow has them.
    """
    batch, depth, height, width = inputs[0].shape
    block = int(hyper["block"])
    if hyper["block_major"]:
        parts = inputs[0].reshape(batch, block, block, depth // block**2, height, width)
        parts = parts.transpose(0, 3, 1, 2, 4, 5)
    else:
        parts = inputs[0].reshape(batch, depth // block**2, block, block, height, width)
    moved = parts.transpose(0, 1, 4, 2, 5, 3)
    return moved.reshape(batch, depth // block**2, height * block, width * block)


def _space_to_depth(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """The inverse of `depth_to_space`."""
    batch, depth, height, width = inputs[0].shape
    block = int(hyper["block"])
    parts = inputs[0].reshape(batch, depth, height // block, block, width // block, block)
    order = (0, 3, 5, 1, 2, 4) if hyper["block_major"] else (0, 1, 3, 5, 2, 4)
    moved = parts.transpose(order)
    return moved.reshape(batch, depth * block**2, height // block, width // block)


def _upsample(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Resize the spatial axes of (N, C, ...) to `size` or by `scale`.

    `mode` is nearest, nearest_exact, bilinear, linear, trilinear or bicubic, as PyTorch has them.
    """
    output, mode = inputs[0], hyper["mode"]
    if output.ndim < 3:
        raise ValueError(f"expected (N, C, H, W), found {output.shape}")
    spatial = output.ndim - 2
    factors: Sequence[float | None] = (None,) * spatial
    if hyper.get("size") is None:
        factors = _factors(hyper["scale"])
    for axis, factor in zip(range(2, output.ndim), factors, strict=True):
        # PyTorch uses the factor as given, even where the new size is rounded down.
        old = output.shape[axis]
        new = int(hyper["size"][axis - 2]) if factor is None else math.floor(old * factor)
        if mode in ("nearest", "nearest_exact"):
            offset = 0.5 if mode == "nearest_exact" else 0.0
            output = output.take(_nearest(old, new, factor, offset), axis=axis)
        elif mode in ("linear", "bilinear", "trilinear"):
            output = _interpolate(output, axis, _places(old, new, factor, hyper))
        elif mode == "bicubic":
            places = _places(old, new, factor, hyper, clamp=False)
            output = _interpolate_cubic(output, axis, places)
        else:
            raise ValueError(f"there is no operator for the mode {mode!r}")
    return output


def _nearest(old: int, new: int, factor: float | None, offset: float = 0.0) -> NDArray[np.int64]:
    """Return the source index of each output: `nearest_neighbor_compute_source_index` in
    ATen/native/UpSample.h, which computes in float32."""
    step = np.float32(old) / np.float32(new) if factor is None else np.float32(1.0 / factor)
    places = np.floor((np.arange(new, dtype=np.float32) + np.float32(offset)) * step)
    return np.asarray(np.minimum(places, old - 1), np.int64)


def _places(
    old: int, new: int, factor: float | None, hyper: Mapping[str, Any], *, clamp: bool = True
) -> Array:
    """Return the source coordinates: `area_pixel_compute_source_index` in
    ATen/native/UpSample.h; those of a cubic may be below 0.

    `places_in_float32` computes them in float32.
    """
    dtype: type[np.floating[Any]] = np.float32 if hyper.get("places_in_float32") else np.float64
    index = np.arange(new, dtype=dtype)
    if hyper["align_corners"]:
        return np.asarray(index * (dtype(old - 1) / dtype(max(new - 1, 1))), np.float64)
    step = dtype(old) / dtype(new) if factor is None else dtype(1.0 / factor)
    places = np.asarray((index + dtype(0.5)) * step - dtype(0.5), np.float64)
    return np.asarray(np.maximum(places, 0.0) if clamp else places)


def _interpolate(data: Array, axis: int, places: Array) -> Array:
    low = np.minimum(np.floor(places).astype(np.int64), data.shape[axis] - 1)
    high = np.minimum(low + 1, data.shape[axis] - 1)
    part = (places - low).reshape([-1 if dim == axis else 1 for dim in range(data.ndim)])
    left, right = data.take(low, axis=axis), data.take(high, axis=axis)
    return np.asarray(left * (1.0 - part) + right * part)


def _interpolate_cubic(data: Array, axis: int, places: Array) -> Array:
    """Cubic convolution, Keys (1981), with a = −0.75; the border's values continue outside."""
    a = -0.75
    low = np.floor(places)
    part = places - low

    def near(t: Array) -> Array:
        return ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0

    def far(t: Array) -> Array:
        return ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a

    weights = (far(part + 1.0), near(part), near(1.0 - part), far(2.0 - part))
    shape = [-1 if dim == axis else 1 for dim in range(data.ndim)]
    total = np.zeros(())
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        rows = np.clip(low.astype(np.int64) + offset, 0, data.shape[axis] - 1)
        total = total + data.take(rows, axis=axis) * weight.reshape(shape)
    return total


def _factors(value: Any) -> list[float]:
    values = value if isinstance(value, tuple | list) else (value, value)
    return [float(factor) for factor in values]


_BLOCK_MAJOR = Hyperparameter("block_major", False, optional=True)

KINDS = (
    Kind(
        "identity",
        _identity,
        moves_values=True,
        keras=("Identity",),
        torch=("Identity",),
        onnx=("Identity",),
        passive=True,
        returns_input=True,
    ),
    Kind(
        "dropout",
        _identity,
        moves_values=True,
        keras=("Dropout",),
        torch=("Dropout",),
        torch_functions=(
            "dropout",
            "alpha_dropout",
            "dropout1d",
            "dropout2d",
            "dropout3d",
            "feature_dropout",
            "feature_alpha_dropout",
        ),
        onnx=("Dropout",),
        passive=True,
        returns_input=True,
    ),
    Kind(
        "flatten",
        _flatten,
        keeps_order=True,
        moves_values=True,
        keras=("Flatten",),
        torch=("Flatten",),
        torch_functions=("flatten",),
        onnx=("Flatten",),
        passive=True,
    ),
    Kind(
        "reshape",
        _reshape,
        keeps_order=True,
        moves_values=True,
        hyperparameters=(
            Hyperparameter("target", keras="target_shape", reshapes=True, optional=True),
            Hyperparameter("channels_last", False, optional=True),
            Hyperparameter("full_shape", reshapes=True, optional=True),
        ),
        keras=("Reshape",),
        torch_functions=("reshape", "view", "unflatten", "view_as", "reshape_as"),
        onnx=("Reshape",),
        passive=True,
    ),
    Kind(
        "pad",
        _pad,
        hyperparameters=(
            Hyperparameter(
                "padding",
                keras="padding",
                torch="padding",
                onnx="pads",
                reshapes=True,
                optional=True,
            ),
            Hyperparameter("value", 0.0, torch="value", convert=float, optional=True),
            Hyperparameter("mode", "constant", optional=True),
        ),
        keras=("ZeroPadding2D",),
        torch=("ZeroPad2d", "ConstantPad2d"),
        torch_functions=("pad",),
        onnx=("Pad",),
    ),
    Kind(
        "upsample",
        _upsample,
        channels_second=True,
        landmark="upsample",
        hyperparameters=(
            Hyperparameter(
                "scale",
                keras="size",
                torch="scale_factor",
                convert=_factors,
                reshapes=True,
                optional=True,
            ),
            Hyperparameter("size", torch="size", convert=to_sizes, reshapes=True, optional=True),
            Hyperparameter(
                "mode", "nearest", keras="interpolation", torch="mode", onnx="mode", optional=True
            ),
            Hyperparameter("align_corners", False, torch="align_corners", optional=True),
        ),
        keras=("UpSampling2D",),
        float32_setting="places_in_float32",
        torch=("Upsample",),
        torch_functions=("interpolate",),
        onnx=("Resize", "Upsample"),
    ),
    Kind(
        "transpose",
        _transpose,
        moves_values=True,
        hyperparameters=(Hyperparameter("perm", onnx="perm", reshapes=True),),
        torch_functions=(
            "transpose",
            "permute",
            "swapaxes",
            "swapdims",
            "movedim",
            "moveaxis",
            "t",
        ),
        onnx=("Transpose",),
        passive=True,
        reorders=True,
    ),
    Kind(
        "squeeze",
        _squeeze,
        keeps_order=True,
        moves_values=True,
        hyperparameters=(Hyperparameter("axes", reshapes=True),),
        torch_functions=("squeeze",),
        onnx=("Squeeze",),
        passive=True,
    ),
    Kind(
        "unsqueeze",
        _unsqueeze,
        keeps_order=True,
        moves_values=True,
        hyperparameters=(Hyperparameter("axes", reshapes=True),),
        torch_functions=("unsqueeze",),
        onnx=("Unsqueeze",),
        passive=True,
    ),
    Kind(
        "expand",
        _expand,
        moves_values=True,
        hyperparameters=(Hyperparameter("full_shape", reshapes=True),),
        torch_functions=("broadcast_to", "expand", "expand_as"),
        onnx=("Expand",),
    ),
    Kind(
        "slice",
        _slice,
        moves_values=True,
        hyperparameters=(
            Hyperparameter("axes", reshapes=True),
            Hyperparameter("starts", reshapes=True),
            Hyperparameter("ends", reshapes=True),
            Hyperparameter("steps", reshapes=True),
            # The axes of which one place was taken, and which the output does not have.
            Hyperparameter("squeeze", (), reshapes=True),
        ),
        torch_functions=("narrow", "select"),
        onnx=("Slice",),
    ),
    Kind(
        "split",
        _split,
        moves_values=True,
        hyperparameters=(
            Hyperparameter("axis", onnx="axis"),
            Hyperparameter("sizes", reshapes=True),
            Hyperparameter("index", 0, optional=True),
            # Whether the parts, of size 1, do not have the axis.
            Hyperparameter("squeeze", False, reshapes=True, optional=True),
        ),
        torch_functions=("split", "chunk", "tensor_split", "unbind", "split_with_sizes"),
        onnx=("Split",),
    ),
    Kind(
        "gather",
        _gather,
        mixes_axes=True,
        moves_values=True,
        hyperparameters=(Hyperparameter("axis", 0, onnx="axis"),),
        torch_functions=("index_select",),
        onnx=("Gather",),
    ),
    Kind(
        "cast",
        _identity,
        moves_values=True,
        hyperparameters=(Hyperparameter("dtype", optional=True),),
        torch_functions=("to", "type", "type_as"),
        onnx=("Cast",),
        returns_input=True,
    ),
    Kind(
        "roll",
        _roll,
        rearranges=True,
        hyperparameters=(Hyperparameter("shifts"), Hyperparameter("axes")),
        torch_functions=("roll",),
        reorders=True,
    ),
    Kind(
        "flip",
        _flip,
        rearranges=True,
        hyperparameters=(Hyperparameter("axes"),),
        torch_functions=("flip",),
        reorders=True,
    ),
    Kind(
        "tile",
        _tile,
        mixes_axes=True,
        moves_values=True,
        hyperparameters=(Hyperparameter("repeats", reshapes=True),),
        torch_functions=("tile", "repeat"),
        onnx=("Tile",),
    ),
    Kind(
        "depth_to_space",
        _depth_to_space,
        rearranges=True,
        hyperparameters=(Hyperparameter("block", onnx="blocksize", reshapes=True), _BLOCK_MAJOR),
        torch_functions=("pixel_shuffle",),
        onnx=("DepthToSpace",),
    ),
    Kind(
        "space_to_depth",
        _space_to_depth,
        rearranges=True,
        hyperparameters=(Hyperparameter("block", reshapes=True), _BLOCK_MAJOR),
        torch_functions=("pixel_unshuffle",),
    ),
)
