"""The arithmetic of sliding windows along one axis: SAME padding, ceil_mode, transposed windows."""

from __future__ import annotations

Pair = tuple[int, int]
"""How many elements are added before and after."""


def extent(kernel: int, dilation: int = 1) -> int:
    """Return how many elements a window spans from its first to its last."""
    return (kernel - 1) * dilation + 1


def same_padding(size: int, *, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """Return the padding of TensorFlow's SAME, the smaller half before.

    Source: TensorFlow's "Notes on padding", https://www.tensorflow.org/api_docs/python/tf/nn:
    the output has ⌈n/s⌉ elements, so that max((⌈n/s⌉ − 1)·s + d·(k − 1) + 1 − n, 0) are added.
    ONNX calls it SAME_UPPER; SAME_LOWER is the same pair reversed.
    """
    total = max((-(-size // stride) - 1) * stride + extent(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


def ceil_extension(
    size: int, *, kernel: int, stride: int, padding: Pair = (0, 0), dilation: int = 1
) -> int:
    """Return how many elements `ceil_mode` adds behind the padding for the last, partial window.

    Source: `pooling_output_shape_pad_lr` in PyTorch's ATen/native/Pool.h: the number of windows is
    rounded up, and a window that would begin in the padding at the end is left out. ONNX's MaxPool
    and AveragePool say the same of their `ceil_mode`.
    """
    before, after = padding
    span = extent(kernel, dilation)
    steps = -(-(size + before + after - span) // stride)
    if steps * stride >= size + before:
        steps -= 1
    return max(steps * stride + span - (size + before + after), 0)


def transposed_extent(size: int, *, kernel: int, stride: int, dilation: int = 1) -> int:
    """Return how many elements a transposed window makes of `size` before anything is cropped."""
    return (size - 1) * stride + extent(kernel, dilation)


def transposed_crop(
    size: int, output: int, *, kernel: int, stride: int, dilation: int = 1, same: bool = False
) -> Pair:
    """Return what TensorFlow crops from a transposed window's output so that `output` is left.

    A negative number adds elements, which are 0 before the bias. Source: TensorFlow computes the
    gradient of the convolution from `output` elements to `size`, whose SAME padding is cropped;
    VALID crops nothing before.
    """
    total = transposed_extent(size, kernel=kernel, stride=stride, dilation=dilation) - output
    before = max(total, 0) // 2 if same else 0
    return before, total - before
