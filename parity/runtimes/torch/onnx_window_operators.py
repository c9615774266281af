"""ONNX operators in PyTorch over images: convolution, pooling, normalisation and resizing.

Images are (N, C, *spatial) with one to three spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from parity.network import windows
from parity.runtimes.torch.onnx_operators import Call, Unsupported, integers, operator

Pads = list[tuple[int, int]]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def pad_spatial(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad (or, where negative, cut) the spatial axes, each by (begin, end)."""
    if not any(begin or end for begin, end in pads):
        return x
    # functional.pad counts the axes from the last one.
    flat = [amount for pair in reversed(pads) for amount in pair]
    return functional.pad(x, flat, value=value)


def _spatial_rank(x: Tensor) -> int:
    """Return the number of spatial axes; raises `Unsupported` unless it is 1, 2 or 3."""
    if not 3 <= x.ndim <= 5:
        raise Unsupported(f"{x.ndim - 2} spatial axes")
    return x.ndim - 2


def _window_pads(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:  # fmt: skip
    """Return the padding (begin, end) of each spatial axis, from `pads` or `auto_pad`."""
    mode = call.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        flat = call.get("pads", [0] * 2 * len(sizes))
        return list(zip(flat[: len(sizes)], flat[len(sizes) :], strict=True))
    if mode == "VALID":
        return [(0, 0)] * len(sizes)
    pads = [
        windows.same_padding(size, kernel=width, stride=stride, dilation=dilation)
        for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    return pads if mode == "SAME_UPPER" else [(after, before) for before, after in pads]


def _split_padding(total: int, *, more_at_end: bool) -> tuple[int, int]:
    """Split a padding into begin and end; an odd one is larger at one of them."""
    small, large = total // 2, total - total // 2
    return (small, large) if more_at_end else (large, small)


@operator("Conv")
def convolve(call: Call, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    rank, widths = _spatial_rank(x), kernel.shape[2:]
    strides = call.get("strides", [1] * rank)
    dilations = call.get("dilations", [1] * rank)
    pads = _window_pads(call, x.shape[2:], widths, strides, dilations)
    if all(begin == end for begin, end in pads):
        symmetric = [begin for begin, _ in pads]
    else:
        x, symmetric = pad_spatial(x, pads), [0] * rank
    return _CONVOLUTIONS[rank](x, kernel, bias, strides, symmetric, dilations, call.get("group", 1))


@operator("ConvTranspose")
def convolve_transposed(
    call: Call, x: Tensor, kernel: Tensor, bias: Tensor | None = None
) -> Tensor:
    rank, widths = _spatial_rank(x), kernel.shape[2:]
    strides = call.get("strides", [1] * rank)
    dilations = call.get("dilations", [1] * rank)
    extra = call.get("output_padding", [0] * rank)
    whole = _TRANSPOSED[rank](
        x, kernel, None, strides, groups=call.get("group", 1), dilation=dilations
    )
    mode, target = call.get("auto_pad", "NOTSET"), call.get("output_shape")
    same = mode.startswith("SAME")
    if target is None and same:
        target = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if target is None:
        pads = _window_pads(call, x.shape[2:], widths, strides, dilations)
    else:
        totals = [
            size + more - length
            for size, more, length in zip(whole.shape[2:], extra, target, strict=True)
        ]
        pads = [_split_padding(total, more_at_end=mode == "SAME_UPPER") for total in totals]
    # The pads are by definition a crop of the whole result; the positions that output_padding
    # adds beyond the kernel's reach are zero before the bias.
    whole = pad_spatial(
        whole, [(-begin, more - end) for (begin, end), more in zip(pads, extra, strict=True)]
    )
    return whole if bias is None else whole + bias.reshape(-1, *[1] * rank)


def _pool_windows(call: Call, x: Tensor) -> tuple[list[int], list[int], list[int], Pads, Pads]:
    """Return kernel, strides, dilations, the pads, and the pads that ceil_mode adds at the ends."""
    rank, kernel = _spatial_rank(x), list(call.get("kernel_shape"))
    strides = list(call.get("strides", [1] * rank))
    dilations = list(call.get("dilations", [1] * rank))
    sizes = x.shape[2:]
    pads = _window_pads(call, sizes, kernel, strides, dilations)
    ceil_pads = [(0, 0)] * rank
    if call.get("ceil_mode", 0):
        ceil_pads = [
            (0, windows.ceil_extension(n, kernel=k, stride=s, padding=p, dilation=d))
            for n, k, s, p, d in zip(sizes, kernel, strides, pads, dilations, strict=True)
        ]
    return kernel, strides, dilations, pads, ceil_pads


@operator("MaxPool")
def max_pool(call: Call, x: Tensor) -> Tensor:
    if call.used_outputs > 1:
        raise Unsupported("indices")
    if not x.is_floating_point():
        # float64 holds the integers of 8 and 32 bits exactly.
        return _max_pool(call, x.to(torch.float64)).to(x.dtype)
    return _max_pool(call, x)


def _max_pool(call: Call, x: Tensor) -> Tensor:
    kernel, strides, dilations, pads, ceil_pads = _pool_windows(call, x)
    x = pad_spatial(pad_spatial(x, pads, -math.inf), ceil_pads, -math.inf)
    return _MAX_POOLS[len(kernel)](x, kernel, strides, 0, dilations)


@operator("AveragePool")
def average_pool(call: Call, x: Tensor) -> Tensor:
    """Padding counts with `count_include_pad`; the positions that ceil_mode adds never count."""
    kernel, strides, dilations, pads, ceil_pads = _pool_windows(call, x)
    if any(dilation > 1 for dilation in dilations):
        raise Unsupported("dilations")
    pool = _MEAN_POOLS[len(kernel)]
    total = pool(pad_spatial(pad_spatial(x, pads), ceil_pads), kernel, strides)
    counted = pad_spatial(
        x.new_ones(1, 1, *x.shape[2:]), pads, float(call.get("count_include_pad", 0))
    )
    share = pool(pad_spatial(counted, ceil_pads), kernel, strides)
    return total if bool((share == 1).all()) else total / share


@operator("GlobalAveragePool")
def global_average_pool(call: Call, x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(call: Call, x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


@operator("BatchNormalization")
def batch_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    if call.get("training_mode", 0) or not call.get("spatial", 1):
        raise Unsupported("training mode, or spatial = 0")
    epsilon = call.float_attribute("epsilon", 1e-5)
    return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def standardise(x: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x - mean) / sqrt(variance + epsilon), the mean, and 1 / sqrt(variance + epsilon)."""
    mean = x.mean(axes, keepdim=True)
    inverse = (x.var(axes, correction=0, keepdim=True) + epsilon).rsqrt()
    return (x - mean) * inverse, mean, inverse


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 2))


@operator("InstanceNormalization")
def instance_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    unit, _, _ = standardise(x, tuple(range(2, x.ndim)), call.float_attribute("epsilon", 1e-5))
    return unit * _per_channel(scale, x) + _per_channel(bias, x)


@operator("LayerNormalization")
def layer_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`stash_type`, a dtype to compute in, is ignored: it would add rounding."""
    axes = tuple(range(call.get("axis", -1) % x.ndim, x.ndim))
    unit, mean, inverse = standardise(x, axes, call.float_attribute("epsilon", 1e-5))
    return unit * scale + (0 if bias is None else bias), mean, inverse


@operator("RMSNormalization")
def rms_norm(call: Call, x: Tensor, scale: Tensor) -> Tensor:
    axes = tuple(range(call.get("axis", -1) % x.ndim, x.ndim))
    square = x.square().mean(axes, keepdim=True)
    return x * (square + call.float_attribute("epsilon", 1e-5)).rsqrt() * scale


@operator("GroupNormalization")
def group_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias are one a group before opset 21, one a channel from then on."""
    groups = call.get("num_groups")
    parts = x.reshape(x.shape[0], groups, -1)
    unit, _, _ = standardise(parts, (2,), call.float_attribute("epsilon", 1e-5))
    each = x.shape[1] // scale.numel()
    scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return unit.reshape(x.shape) * _per_channel(scale, x) + _per_channel(bias, x)


@operator("LpNormalization")
def lp_normalise(call: Call, x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, call.get("p", 2), dim=call.get("axis", -1), keepdim=True)
    # A vector of zeros stays zeros.
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@operator("Resize")
def resize(
    call: Call,
    x: Tensor,
    region: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Nearest, linear and cubic, one axis after the other. Before opset 11: scales only."""
    if call.get("antialias", 0) or call.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("antialias, or a kept aspect ratio")
    scale_input = region if call.opset < 11 else scales
    axes = call.get("axes", range(x.ndim))
    if sizes is not None and sizes.numel():
        targets = integers(sizes)
        factors = [new / x.shape[axis] for new, axis in zip(targets, axes, strict=True)]
    elif scale_input is not None and scale_input.numel():
        factors = scale_input.tolist()
        # In float32, as runtimes do: 3 * float32(5/3) is a little under 5 in float64.
        targets = [
            int(np.float32(factor) * np.float32(x.shape[axis]))
            for factor, axis in zip(factors, axes, strict=True)
        ]
    else:
        raise ValueError("neither scales nor sizes")
    return _resize_axes(call, x, list(axes), factors, targets)


@operator("Upsample")
def upsample(call: Call, x: Tensor, scales: Tensor | None = None) -> Tensor:
    factors = scales.tolist() if scales is not None else list(call.get("scales"))
    targets = [int(factor * size) for factor, size in zip(factors, x.shape, strict=True)]
    return _resize_axes(call, x, list(range(x.ndim)), factors, targets)


def _resize_axes(
    call: Call, x: Tensor, axes: Sequence[int], factors: Sequence[float], targets: Sequence[int]
) -> Tensor:
    # Before opset 11 coordinates are asymmetric and the nearest one is rounded down.
    default = "half_pixel" if call.opset >= 11 else "asymmetric"
    transformation = call.get("coordinate_transformation_mode", default)
    for axis, factor, target in zip(axes, factors, targets, strict=True):
        size = x.shape[axis]
        if target == size and factor == 1:
            continue
        coordinates = _coordinates(transformation, size, target, factor)
        x = _resample_axis(call, x, axis % x.ndim, coordinates)
    return x


def _coordinates(mode: str, size: int, target: int, factor: float) -> NDArray[np.float64]:
    """Return each new sample's coordinate among the old ones, as operator Resize defines it."""
    new = np.arange(target, dtype=np.float64)
    if mode == "asymmetric":
        return new / factor
    if mode == "align_corners":
        return new * ((size - 1) / (target - 1) if target > 1 else 0)
    if mode == "tf_half_pixel_for_nn":
        return (new + 0.5) / factor
    centred = (new + 0.5) / factor - 0.5
    if mode == "half_pixel":
        return centred
    if mode == "pytorch_half_pixel":
        return centred if target > 1 else new * 0
    if mode == "half_pixel_symmetric":
        return centred + size / 2 * (1 - target / (factor * size))
    raise Unsupported(f"coordinate_transformation_mode {mode}")


def _resample_axis(call: Call, x: Tensor, axis: int, coordinates: NDArray[np.float64]) -> Tensor:
    """Return a weighted sum of shifted copies: one for nearest, two for linear, four for cubic."""
    mode, last = call.get("mode", "nearest"), x.shape[axis] - 1
    if mode == "nearest":
        nearest = call.get("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")
        index = _nearest_index(nearest, coordinates)
        return x.index_select(axis, torch.from_numpy(index.clip(0, last).astype(np.int64)))
    base = np.floor(coordinates)
    part = coordinates - base
    if mode == "linear":
        weights = {0: 1 - part, 1: part}
    elif mode == "cubic":
        weights = _cubic_weights(part, call.float_attribute("cubic_coeff_a", -0.75))
    else:
        raise Unsupported(f"mode {mode}")
    if mode == "cubic" and call.get("exclude_outside", 0):
        inside = {k: w * ((base + k >= 0) & (base + k <= last)) for k, w in weights.items()}
        whole = sum(inside.values())
        weights = {k: w / whole for k, w in inside.items()}
    shape = [-1 if dim == axis else 1 for dim in range(x.ndim)]
    result = torch.zeros((), dtype=x.dtype)
    for offset, weight in weights.items():
        index = torch.from_numpy((base + offset).clip(0, last).astype(np.int64))
        result = result + x.index_select(axis, index) * torch.from_numpy(weight).to(
            x.dtype
        ).reshape(shape)
    return result


def _nearest_index(mode: str, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded = {
        "floor": np.floor(coordinates),
        "ceil": np.ceil(coordinates),
        "round_prefer_floor": np.ceil(coordinates - 0.5),
        "round_prefer_ceil": np.floor(coordinates + 0.5),
    }
    if mode not in rounded:
        raise Unsupported(f"nearest_mode {mode}")
    return rounded[mode]


def _cubic_weights(part: NDArray[np.float64], a: float) -> dict[int, NDArray[np.float64]]:
    """Return Keys' cubic convolution kernel (1981, `a` its parameter) at the four neighbours."""

    def near(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((t - 5) * t + 8) * t * a - 4 * a

    return {-1: far(1 + part), 0: near(part), 1: near(1 - part), 2: far(2 - part)}
