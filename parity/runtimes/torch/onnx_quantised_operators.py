"""ONNX operators on quantised tensors in PyTorch: integers stay integers, scales are floating.

Products of integers are computed in float64, which holds all of their sums exactly.
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

_INTEGERS = (torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32)


def _align(values: Tensor, x: Tensor, axis: int, block: int = 0) -> Tensor:
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


def _quantise(x: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x / scale rounded half to even, plus the zero point, saturated to `dtype`."""
    if dtype not in _INTEGERS:
        raise Unsupported(f"quantisation to {dtype}")
    limits = torch.iinfo(dtype)
    rounded = torch.round(x / scale) + zero.to(x.dtype)
    return rounded.clamp(limits.min, limits.max).to(dtype)


def _shift(x: Tensor, zero: Tensor | None, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the integers less their zero point, in a floating dtype that holds them exactly."""
    whole = x.to(dtype)
    return whole if zero is None else whole - zero.to(dtype)


def _dequantise(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    return _shift(x, zero, scale.dtype) * scale


@operator("QuantizeLinear")
def quantise(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    if zero is None:
        dtype = call.torch_dtype(call.get("output_dtype", 0) or 2)  # TensorProto.UINT8
        zero = torch.zeros((), dtype=dtype)
    dtype = zero.dtype
    return _quantise(x, _align(scale, x, axis, block), _align(zero, x, axis, block), dtype)


@operator("DequantizeLinear")
def dequantise(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    zero = None if zero is None else _align(zero, x, axis, block)
    return _dequantise(x, _align(scale, x, axis, block), zero)


operator("QuantizeLinear", domain=RUNTIME_DOMAIN)(quantise)
operator("DequantizeLinear", domain=RUNTIME_DOMAIN)(dequantise)


@operator("DynamicQuantizeLinear")
def quantise_dynamically(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To uint8, over the range of the tensor, in which zero always is."""
    high, low = x.max().clamp(min=0), x.min().clamp(max=0)
    scale = (high - low) / 255
    # A tensor of zeros: ONNX Runtime takes 1, the specification divides by 0.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255).to(torch.uint8)
    return _quantise(x, scale, zero, torch.uint8), scale, zero


def _integer_product(a: Tensor, b: Tensor, zero_a: Tensor | None, zero_b: Tensor | None) -> Tensor:
    """Return the exact product in float64; zero points are one a row of `a`, a column of `b`."""
    if zero_a is not None and zero_a.ndim == 1 and zero_a.numel() > 1:
        zero_a = zero_a.unsqueeze(-1)
    return _shift(a, zero_a) @ _shift(b, zero_b)


@operator("MatMulInteger")
def multiply_integers(
    call: Call, a: Tensor, b: Tensor, zero_a: Tensor | None = None, zero_b: Tensor | None = None
) -> Tensor:
    return _integer_product(a, b, zero_a, zero_b).to(torch.int32)


@operator("ConvInteger")
def convolve_integers(
    call: Call, x: Tensor, kernel: Tensor, zero_x: Tensor | None = None,
    zero_kernel: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return _integer_convolution(call, x, kernel, zero_x, zero_kernel).to(torch.int32)


def _integer_convolution(
    call: Call, x: Tensor, kernel: Tensor, zero_x: Tensor | None, zero_kernel: Tensor | None
) -> Tensor:
    # The padding is the zero point: 0 once it is subtracted.
    zero = None if zero_kernel is None else _align(zero_kernel, kernel, 0)
    return convolve(call, _shift(x, zero_x), _shift(kernel, zero))  # type: ignore[return-value]


@operator("QLinearConv")
def convolve_quantised(
    call: Call, x: Tensor, x_scale: Tensor, x_zero: Tensor, kernel: Tensor, kernel_scale: Tensor,
    kernel_zero: Tensor, scale: Tensor, zero: Tensor, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    if call.get("channels_last", 0):
        raise Unsupported("channels last")
    total = _integer_convolution(call, x, kernel, x_zero, kernel_zero)
    if bias is not None:
        total = total + bias.to(total.dtype).reshape(-1, *[1] * (x.ndim - 2))
    factor = _align(x_scale * kernel_scale, total, 1)
    return _quantise(total.to(factor.dtype) * factor, scale, zero, zero.dtype)


@operator("QLinearMatMul")
def multiply_quantised(
    call: Call, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor,
    b_zero: Tensor, scale: Tensor, zero: Tensor,
) -> Tensor:  # fmt: skip
    total = _integer_product(a, b, a_zero, b_zero)
    if a_scale.ndim == 1 and a_scale.numel() > 1:
        a_scale = a_scale.unsqueeze(-1)
    factor = a_scale * b_scale
    return _quantise(total.to(factor.dtype) * factor, scale, zero, zero.dtype)


# What follows is ONNX Runtime's own: "Contrib Operators" in its documentation.


@operator("QGemm", domain=RUNTIME_DOMAIN)
def gemm_quantised(
    call: Call, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor,
    b_zero: Tensor, bias: Tensor | None = None, scale: Tensor | None = None,
    zero: Tensor | None = None,
) -> Tensor:  # fmt: skip
    if call.get("transB", 0):
        b = b.T
    total = _integer_product(a.T if call.get("transA", 0) else a, b, a_zero, b_zero)
    total = total if bias is None else total + bias.to(total.dtype)
    factor = call.float_attribute("alpha", 1.0) * a_scale * b_scale
    product = total.to(factor.dtype) * factor
    if scale is None:
        return product
    zero = torch.zeros((), dtype=torch.uint8) if zero is None else zero
    return _quantise(product, scale, zero, zero.dtype)


@operator("MatMulIntegerToFloat", domain=RUNTIME_DOMAIN)
def multiply_integers_to_float(
    call: Call, a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor,
    a_zero: Tensor | None = None, b_zero: Tensor | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    total = _integer_product(a, b, a_zero, b_zero)
    product = total.to(a_scale.dtype) * (a_scale * b_scale)
    return product if bias is None else product + bias


@operator("DynamicQuantizeMatMul", domain=RUNTIME_DOMAIN)
def multiply_dynamically(
    call: Call, a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    quantised, scale, zero = quantise_dynamically(call, a)
    return multiply_integers_to_float(call, quantised, b, scale, b_scale, zero, b_zero, bias)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def compute(
        call: Call, a: Tensor, a_scale: Tensor, a_zero: Tensor | None, b: Tensor, b_scale: Tensor,
        b_zero: Tensor | None, scale: Tensor, zero: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        result = function(_dequantise(a, a_scale, a_zero), _dequantise(b, b_scale, b_zero))
        zero = torch.zeros((), dtype=a.dtype) if zero is None else zero
        return _quantise(result, scale, zero, a.dtype)

    return compute


operator("QLinearAdd", domain=RUNTIME_DOMAIN)(_binary(torch.add))
operator("QLinearMul", domain=RUNTIME_DOMAIN)(_binary(torch.mul))


def _unary(function: Callable[[Call, Tensor], Tensor]) -> Callable[..., Tensor]:
    def compute(
        call: Call, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, scale: Tensor,
        zero: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        zero = torch.zeros((), dtype=x.dtype) if zero is None else zero
        return _quantise(function(call, _dequantise(x, x_scale, x_zero)), scale, zero, x.dtype)

    return compute


def _require_channels_first(call: Call) -> None:
    if call.get("channels_last", 0):
        raise Unsupported("channels last")


def _average(call: Call, x: Tensor) -> Tensor:
    _require_channels_first(call)
    return average_pool(call, x)  # type: ignore[return-value]


def _average_whole(call: Call, x: Tensor) -> Tensor:
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
    ("QLinearAveragePool", _average),
    ("QLinearGlobalAveragePool", _average_whole),
    ("QLinearLeakyRelu", _leaky_relu),
    ("QLinearSigmoid", lambda call, x: torch.sigmoid(x)),
    ("QLinearSoftmax", _softmax),
):
    operator(_name, domain=RUNTIME_DOMAIN)(_unary(_function))


@operator("QLinearConcat", domain=RUNTIME_DOMAIN)
def concatenate_quantised(call: Call, scale: Tensor, zero: Tensor, *inputs: Tensor) -> Tensor:
    """The inputs are triples: tensor, scale, zero point."""
    parts = [
        _dequantise(inputs[index], inputs[index + 1], inputs[index + 2])
        for index in range(0, len(inputs), 3)
    ]
    return _quantise(torch.cat(parts, dim=call.get("axis")), scale, zero, zero.dtype)


@operator("MatMulNBits", domain=RUNTIME_DOMAIN)
def multiply_packed(
    call: Call, a: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor | None = None,
    groups: Tensor | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The weights (N, blocks, bytes) hold 4 or 8 bits a value, the lower half of a byte first."""
    bits, block = call.get("bits", 4), call.get("block_size")
    outputs, depth = call.get("N"), call.get("K")
    if bits not in (4, 8) or (groups is not None and groups.numel()):
        raise Unsupported(f"{bits} bits, or weights in another order")
    blocks = -(-depth // block)
    values = _unpack(packed.reshape(outputs, blocks, -1), bits).to(scales.dtype)
    if zeros is None:
        shift = torch.full((outputs, blocks, 1), float(2 ** (bits - 1)), dtype=scales.dtype)
    elif zeros.is_floating_point():
        shift = zeros.reshape(outputs, blocks, 1)
    else:
        rows = _unpack(zeros.reshape(outputs, -1), bits)[:, :blocks]
        shift = rows.to(scales.dtype).reshape(outputs, blocks, 1)
    whole = (values - shift) * scales.reshape(outputs, blocks, 1)
    product = a @ whole.reshape(outputs, -1)[:, :depth].T
    return product if bias is None else product + bias


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the values of bytes that hold two of four bits, or one of eight."""
    if bits == 8:
        return packed
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)
