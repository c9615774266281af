"""ONNX operators on quantised tensors in PyTorch.

Integer inputs are multiplied exactly in float64 (every sum fits), then scaled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from parity.runtimes.torch.onnx_operators import (
    RUNTIME_DOMAIN,
    Call,
    Unsupported,
    operator,
)
from parity.runtimes.torch.onnx_window_operators import average_pool, convolve, global_average_pool

_QUANTISED_DTYPES = (torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32)


def _broadcast_to_axis(values: Tensor, x: Tensor, axis: int, block: int = 0) -> Tensor:
    """Return scales or zero points with axes that broadcast against `x`."""
    if values.numel() == 1:
        return values.reshape(())
    if block:
        return values.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    if values.ndim > 1:
        return values
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)


def _quantise(x: Tensor, scale: Tensor, zero_point: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x / scale rounded half to even, plus the zero point, saturated to `dtype`."""
    if dtype not in _QUANTISED_DTYPES:
        raise Unsupported(f"quantisation to {dtype}")
    limits = torch.iinfo(dtype)
    rounded = torch.round(x / scale) + zero_point.to(x.dtype)
    return rounded.clamp(limits.min, limits.max).to(dtype)


def _subtract_zero_point(
    x: Tensor, zero_point: Tensor | None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return the integers less their zero point, in a floating dtype that holds them exactly."""
    integers = x.to(dtype)
    return integers if zero_point is None else integers - zero_point.to(dtype)


def _dequantise(x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    return _subtract_zero_point(x, zero_point, scale.dtype) * scale


@operator("QuantizeLinear")
def quantise(call: Call, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    if zero_point is None:
        dtype = call.torch_dtype(call.get("output_dtype", 0) or 2)  # TensorProto.UINT8
        zero_point = torch.zeros((), dtype=dtype)
    dtype = zero_point.dtype
    return _quantise(
        x,
        _broadcast_to_axis(scale, x, axis, block),
        _broadcast_to_axis(zero_point, x, axis, block),
        dtype,
    )


@operator("DequantizeLinear")
def dequantise(call: Call, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    zero_point = None if zero_point is None else _broadcast_to_axis(zero_point, x, axis, block)
    return _dequantise(x, _broadcast_to_axis(scale, x, axis, block), zero_point)


operator("QuantizeLinear", domain=RUNTIME_DOMAIN)(quantise)
operator("DequantizeLinear", domain=RUNTIME_DOMAIN)(dequantise)


@operator("DynamicQuantizeLinear")
def quantise_dynamically(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise to uint8 over [min(x, 0), max(x, 0)]."""
    high, low = x.max().clamp(min=0), x.min().clamp(max=0)
    scale = (high - low) / 255
    # For a tensor of zeros, ONNX Runtime takes 1, the specification divides by 0.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round(-low / scale).clamp(0, 255).to(torch.uint8)
    return _quantise(x, scale, zero_point, torch.uint8), scale, zero_point


def _integer_product(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None, b_zero_point: Tensor | None
) -> Tensor:
    """Return the exact matrix product in float64.

    Zero points are scalars, or one per row of `a` and one per column of `b`.
    """
    if a_zero_point is not None and a_zero_point.ndim == 1 and a_zero_point.numel() > 1:
        a_zero_point = a_zero_point.unsqueeze(-1)
    return _subtract_zero_point(a, a_zero_point) @ _subtract_zero_point(b, b_zero_point)


@operator("MatMulInteger")
def matmul_integers(
    call: Call,
    a: Tensor,
    b: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
) -> Tensor:
    return _integer_product(a, b, a_zero_point, b_zero_point).to(torch.int32)


@operator("ConvInteger")
def convolve_integers(
    call: Call, x: Tensor, kernel: Tensor, x_zero_point: Tensor | None = None,
    kernel_zero_point: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return _integer_convolution(call, x, kernel, x_zero_point, kernel_zero_point).to(torch.int32)


def _integer_convolution(
    call: Call,
    x: Tensor,
    kernel: Tensor,
    x_zero_point: Tensor | None,
    kernel_zero_point: Tensor | None,
) -> Tensor:
    # The padding is the zero point: 0 once it is subtracted.
    zero_point = (
        None if kernel_zero_point is None else _broadcast_to_axis(kernel_zero_point, kernel, 0)
    )
    x = _subtract_zero_point(x, x_zero_point)
    return convolve(call, x, _subtract_zero_point(kernel, zero_point))  # type: ignore[return-value]


@operator("QLinearConv")
def convolve_quantised(
    call: Call, x: Tensor, x_scale: Tensor, x_zero_point: Tensor, kernel: Tensor,
    kernel_scale: Tensor, kernel_zero_point: Tensor, scale: Tensor, zero_point: Tensor,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    if call.get("channels_last", 0):
        raise Unsupported("channels last")
    total = _integer_convolution(call, x, kernel, x_zero_point, kernel_zero_point)
    if bias is not None:
        total = total + bias.to(total.dtype).reshape(-1, *[1] * (x.ndim - 2))
    factor = _broadcast_to_axis(x_scale * kernel_scale, total, 1)
    return _quantise(total.to(factor.dtype) * factor, scale, zero_point, zero_point.dtype)


@operator("QLinearMatMul")
def matmul_quantised(
    call: Call, a: Tensor, a_scale: Tensor, a_zero_point: Tensor, b: Tensor, b_scale: Tensor,
    b_zero_point: Tensor, scale: Tensor, zero_point: Tensor,
) -> Tensor:  # fmt: skip
    total = _integer_product(a, b, a_zero_point, b_zero_point)
    if a_scale.ndim == 1 and a_scale.numel() > 1:
        a_scale = a_scale.unsqueeze(-1)
    factor = a_scale * b_scale
    return _quantise(total.to(factor.dtype) * factor, scale, zero_point, zero_point.dtype)


# What follows is ONNX Runtime's own: "Contrib Operators" in its documentation.


@operator("QGemm", domain=RUNTIME_DOMAIN)
def gemm_quantised(
    call: Call, a: Tensor, a_scale: Tensor, a_zero_point: Tensor, b: Tensor, b_scale: Tensor,
    b_zero_point: Tensor, bias: Tensor | None = None, scale: Tensor | None = None,
    zero_point: Tensor | None = None,
) -> Tensor:  # fmt: skip
    if call.get("transB", 0):
        b = b.T
    total = _integer_product(a.T if call.get("transA", 0) else a, b, a_zero_point, b_zero_point)
    total = total if bias is None else total + bias.to(total.dtype)
    factor = call.float_attribute("alpha", 1.0) * a_scale * b_scale
    product = total.to(factor.dtype) * factor
    if scale is None:
        return product
    zero_point = torch.zeros((), dtype=torch.uint8) if zero_point is None else zero_point
    return _quantise(product, scale, zero_point, zero_point.dtype)


@operator("MatMulIntegerToFloat", domain=RUNTIME_DOMAIN)
def matmul_integers_to_float(
    call: Call, a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor,
    a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    total = _integer_product(a, b, a_zero_point, b_zero_point)
    product = total.to(a_scale.dtype) * (a_scale * b_scale)
    return product if bias is None else product + bias


@operator("DynamicQuantizeMatMul", domain=RUNTIME_DOMAIN)
def matmul_dynamically(
    call: Call, a: Tensor, b: Tensor, b_scale: Tensor, b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    quantised, scale, zero_point = quantise_dynamically(call, a)
    return matmul_integers_to_float(
        call, quantised, b, scale, b_scale, zero_point, b_zero_point, bias
    )


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def compute(
        call: Call, a: Tensor, a_scale: Tensor, a_zero_point: Tensor | None, b: Tensor,
        b_scale: Tensor, b_zero_point: Tensor | None, scale: Tensor,
        zero_point: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        result = function(
            _dequantise(a, a_scale, a_zero_point), _dequantise(b, b_scale, b_zero_point)
        )
        zero_point = torch.zeros((), dtype=a.dtype) if zero_point is None else zero_point
        return _quantise(result, scale, zero_point, a.dtype)

    return compute


operator("QLinearAdd", domain=RUNTIME_DOMAIN)(_binary(torch.add))
operator("QLinearMul", domain=RUNTIME_DOMAIN)(_binary(torch.mul))


def _unary(function: Callable[[Call, Tensor], Tensor]) -> Callable[..., Tensor]:
    def compute(
        call: Call, x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None, scale: Tensor,
        zero_point: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        zero_point = torch.zeros((), dtype=x.dtype) if zero_point is None else zero_point
        return _quantise(
            function(call, _dequantise(x, x_scale, x_zero_point)), scale, zero_point, x.dtype
        )

    return compute


def _require_channels_first(call: Call) -> None:
    if call.get("channels_last", 0):
        raise Unsupported("channels last")


def _average_pool(call: Call, x: Tensor) -> Tensor:
    _require_channels_first(call)
    return average_pool(call, x)  # type: ignore[return-value]


def _global_average_pool(call: Call, x: Tensor) -> Tensor:
    _require_channels_first(call)
    return global_average_pool(call, x)  # type: ignore[return-value]


def _leaky_relu(call: Call, x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, call.float_attribute("alpha", 0.01) * x)


def _softmax(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", -1)
    if call.get("opset", 13) < 13:
        axis = axis % x.ndim
        return torch.softmax(x.flatten(axis), dim=-1).reshape(x.shape)
    return torch.softmax(x, dim=axis)


for _name, _function in (
    ("QLinearAveragePool", _average_pool),
    ("QLinearGlobalAveragePool", _global_average_pool),
    ("QLinearLeakyRelu", _leaky_relu),
    ("QLinearSigmoid", lambda call, x: torch.sigmoid(x)),
    ("QLinearSoftmax", _softmax),
):
    operator(_name, domain=RUNTIME_DOMAIN)(_unary(_function))


@operator("QLinearConcat", domain=RUNTIME_DOMAIN)
def concatenate_quantised(call: Call, scale: Tensor, zero_point: Tensor, *inputs: Tensor) -> Tensor:
    """The inputs are triples: tensor, scale, zero point."""
    parts = [
        _dequantise(inputs[index], inputs[index + 1], inputs[index + 2])
        for index in range(0, len(inputs), 3)
    ]
    return _quantise(torch.cat(parts, dim=call.get("axis")), scale, zero_point, zero_point.dtype)


@operator("MatMulNBits", domain=RUNTIME_DOMAIN)
def matmul_packed(
    call: Call, a: Tensor, packed: Tensor, scales: Tensor, zero_points: Tensor | None = None,
    group_index: Tensor | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The weights (N, blocks, bytes) hold 4 or 8 bits a value, the lower half of a byte first."""
    bits, block = call.get("bits", 4), call.get("block_size")
    outputs, depth = call.get("N"), call.get("K")
    if bits not in (4, 8) or (group_index is not None and group_index.numel()):
        raise Unsupported(f"{bits} bits, or weights reordered by g_idx")
    blocks = -(-depth // block)
    values = _unpack(packed.reshape(outputs, blocks, -1), bits).to(scales.dtype)
    if zero_points is None:
        zero = torch.full((outputs, blocks, 1), float(2 ** (bits - 1)), dtype=scales.dtype)
    elif zero_points.is_floating_point():
        zero = zero_points.reshape(outputs, blocks, 1)
    else:
        rows = _unpack(zero_points.reshape(outputs, -1), bits)[:, :blocks]
        zero = rows.to(scales.dtype).reshape(outputs, blocks, 1)
    weights = (values - zero) * scales.reshape(outputs, blocks, 1)
    product = a @ weights.reshape(outputs, -1)[:, :depth].T
    return product if bias is None else product + bias


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the values of bytes that hold two of four bits, or one of eight."""
    if bits == 8:
        return packed
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)
