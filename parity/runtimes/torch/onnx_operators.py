"""ONNX operators in PyTorch: the registry, arithmetic, activations, reductions and products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from parity.runtimes.onnx.model_file import restore_decimal

Function = Callable[..., "Tensor | tuple[Tensor, ...]"]

# Operators of the default domain by name. Importing a module of operators fills it.
OPERATORS: dict[str, Function] = {}

# Operators of ONNX Runtime's domain, `com.microsoft`, which its optimiser and its quantiser write.
RUNTIME_OPERATORS: dict[str, Function] = {}

RUNTIME_DOMAIN = "com.microsoft"

FLOATS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)
_OTHERS = {
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
}


class Unsupported(Exception):
    """A form of a known operator that has no translation here: a signal to fall back."""


@dataclass(frozen=True, slots=True)
class Call:
    """A node without its inputs: attributes, opset, number of outputs."""

    attributes: Mapping[str, Any]
    opset: int
    outputs: int
    used_outputs: int  # up to the last one that another node or the caller reads
    dtype: torch.dtype

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, or `default`."""
        return self.attributes.get(name, default)

    def float_attribute(self, name: str, default: float, *constants: float) -> float:
        """Return a float attribute with the value that it had before it was rounded to float32.

        That is the default, one of `constants`, or a decimal of six digits (as many as float32
        resolves), if it rounds to the file's value: 1e-5 and not 9.99999974737875e-06. Any other
        value is returned as it is in the file.
        """
        return restore_decimal(self.attributes.get(name, default), default, *constants)

    def restore(self, number: float) -> float:
        """Return a number of a list of floats as it was before it was rounded to float32."""
        return restore_decimal(number)

    def torch_dtype(self, onnx_type: int) -> torch.dtype:
        """Return the dtype for an ONNX one; all floating types are evaluated in one dtype."""
        if onnx_type in FLOATS:
            return self.dtype
        if onnx_type not in _OTHERS:
            raise Unsupported(f"tensors of type {TensorProto.DataType.Name(onnx_type)}")
        return _OTHERS[onnx_type]


def operator(*names: str, domain: str = "ai.onnx") -> Callable[[Function], Function]:
    """Register a function of (call, *inputs); an absent optional input is None or not passed."""
    registry = OPERATORS if domain == "ai.onnx" else RUNTIME_OPERATORS

    def register(function: Function) -> Function:
        registry.update(dict.fromkeys(names, function))
        return function

    return register


def find_operator(domain: str, name: str) -> Function | None:
    """Return the function of an operator, or None."""
    if domain == "ai.onnx":
        return OPERATORS.get(name)
    # ONNX Runtime's domain has some of ONNX's later operators too, under the same names.
    return RUNTIME_OPERATORS.get(name) if domain == RUNTIME_DOMAIN else None


def integers(tensor: Tensor) -> list[int]:
    """Return the values of a shape or axes tensor as Python integers."""
    return [int(value) for value in tensor.reshape(-1).tolist()]


def _elementwise(function: Callable[..., Tensor]) -> Function:
    return lambda call, *inputs: function(*inputs)


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "Neg": torch.neg, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal, "Floor": torch.floor, "Ceil": torch.ceil,
    "Round": torch.round, "Sign": torch.sign, "Erf": torch.special.erf, "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh, "Relu": torch.relu, "Softsign": functional.softsign,
    "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Asin": torch.asin, "Acos": torch.acos,
    "Atan": torch.atan, "Sinh": torch.sinh, "Cosh": torch.cosh, "Asinh": torch.asinh,
    "Acosh": torch.acosh, "Atanh": torch.atanh, "IsNaN": torch.isnan, "Not": torch.logical_not,
    "Identity": lambda x: x, "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
    "Equal": torch.eq, "Less": torch.lt, "Greater": torch.gt, "LessOrEqual": torch.le,
    "GreaterOrEqual": torch.ge, "Where": torch.where, "MatMul": torch.matmul,
}  # fmt: skip
OPERATORS.update({name: _elementwise(function) for name, function in _ELEMENTWISE.items()})


@operator("Div")
def divide(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Pow")
def power(call: Call, base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


@operator("Mod")
def modulo(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if call.get("fmod", 0) else torch.remainder(a, b)


def _fold_inputs(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def fold(call: Call, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return fold


OPERATORS.update(
    {
        "Max": _fold_inputs(torch.maximum),
        "Min": _fold_inputs(torch.minimum),
        "Sum": _fold_inputs(torch.add),
    }
)


@operator("Mean")
def mean(call: Call, *inputs: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*inputs)).mean(0)


@operator("Clip")
def clip(call: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Limits are inputs from opset 11 on, attributes before."""
    for limit, bound in ((low, torch.maximum), (high, torch.minimum)):
        x = x if limit is None else bound(x, limit)
    if call.opset < 11:
        x = x.clamp(call.float_attribute("min", -math.inf), call.float_attribute("max", math.inf))
    return x


@operator("LeakyRelu")
def leaky_relu(call: Call, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, call.float_attribute("alpha", 0.01))


@operator("PRelu")
def prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@operator("Elu")
def elu(call: Call, x: Tensor) -> Tensor:
    return torch.where(x < 0, call.float_attribute("alpha", 1.0) * torch.expm1(x), x)


@operator("Celu")
def celu(call: Call, x: Tensor) -> Tensor:
    alpha = call.float_attribute("alpha", 1.0)
    return torch.where(x < 0, alpha * torch.expm1(x / alpha), x)


@operator("Selu")
def selu(call: Call, x: Tensor) -> Tensor:
    # Klambauer et al., Self-Normalizing Neural Networks (2017), to the last bit of a float64.
    alpha = call.float_attribute("alpha", 1.6732632423543772)
    gamma = call.float_attribute("gamma", 1.0507009873554805)
    return gamma * torch.where(x < 0, alpha * torch.expm1(x), x)


@operator("ThresholdedRelu")
def thresholded_relu(call: Call, x: Tensor) -> Tensor:
    return torch.where(x > call.float_attribute("alpha", 1.0), x, torch.zeros_like(x))


@operator("HardSigmoid")
def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    # PyTorch's is x / 6 + 1 / 2.
    return (
        x * call.float_attribute("alpha", 0.2, 1 / 6) + call.float_attribute("beta", 0.5)
    ).clamp(0, 1)


@operator("HardSwish")
def hard_swish(call: Call, x: Tensor) -> Tensor:
    # The specification says 1/6; the float32 1/6 of its function body is rounding.
    return x * (x / 6 + 0.5).clamp(0, 1)


@operator("Gelu")
def gelu(call: Call, x: Tensor) -> Tensor:
    if call.get("approximate", "none") == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.special.erf(x / math.sqrt(2)))


@operator("Swish")
def swish(call: Call, x: Tensor) -> Tensor:
    return x * torch.sigmoid(call.float_attribute("alpha", 1.0) * x)


@operator("Softplus")
def softplus(call: Call, x: Tensor) -> Tensor:
    # PyTorch's own softplus is linear above a threshold of 20, where it is off by 2e-9.
    return torch.logaddexp(x, torch.zeros_like(x))


@operator("Mish")
def mish(call: Call, x: Tensor) -> Tensor:
    return x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x)))


def _apply_on_axis(function: Callable[..., Tensor]) -> Function:
    def apply(call: Call, x: Tensor) -> Tensor:
        if call.opset >= 13:
            return function(x, dim=call.get("axis", -1))
        # Before opset 13 the tensor is a matrix, cut at the axis.
        axis = call.get("axis", 1) % max(x.ndim, 1)
        return function(x.reshape(math.prod(x.shape[:axis]), -1), dim=1).reshape(x.shape)

    return apply


OPERATORS.update(
    {"Softmax": _apply_on_axis(torch.softmax), "LogSoftmax": _apply_on_axis(torch.log_softmax)}
)


@operator("Dropout")
def dropout(
    call: Call, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if training is not None and bool(training):
        raise Unsupported("training mode")
    return x, torch.ones_like(x, dtype=torch.bool)


@operator("Cast")
def cast(call: Call, x: Tensor) -> Tensor:
    return x.to(call.torch_dtype(call.get("to")))


@operator("CastLike")
def cast_like(call: Call, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


@operator("Gemm")
def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if call.get("transA", 0) else a
    b = b.T if call.get("transB", 0) else b
    product = call.float_attribute("alpha", 1.0) * (a @ b)
    return product if c is None else product + call.float_attribute("beta", 1.0) * c


@operator("Einsum")
def einsum(call: Call, *inputs: Tensor) -> Tensor:
    return torch.einsum(call.get("equation"), *inputs)


def _product(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    # From the last axis backwards, so that a dropped one does not move those still to come.
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}
_LINEAR = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"}


def _reduction(name: str) -> Function:
    reduce = _REDUCTIONS[name]

    def apply(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
        """Axes are an attribute first, an input from opset 13 (ReduceSum) or 18 on."""
        reduced = integers(axes) if axes is not None else list(call.get("axes", ()))
        if not reduced and call.get("noop_with_empty_axes", 0):
            if name not in _LINEAR:
                raise Unsupported("noop_with_empty_axes")
            return x
        every = [axis % x.ndim for axis in reduced] or list(range(x.ndim))
        # Integer sums are int64 in PyTorch; ONNX keeps the type.
        return reduce(x, every, bool(call.get("keepdims", 1))).to(x.dtype)

    return apply


OPERATORS.update({name: _reduction(name) for name in _REDUCTIONS})


def _index_of_extreme(function: Callable[..., Tensor]) -> Function:
    def apply(call: Call, x: Tensor) -> Tensor:
        axis, keep = call.get("axis", 0) % x.ndim, bool(call.get("keepdims", 1))
        if not call.get("select_last_index", 0):
            return function(x, axis, keepdim=keep)
        return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)

    return apply


OPERATORS.update(
    {"ArgMax": _index_of_extreme(torch.argmax), "ArgMin": _index_of_extreme(torch.argmin)}
)


@operator("TopK")
def top_k(call: Call, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) along an axis, the lower index first among equals."""
    count = call.get("k") if k is None else integers(k)[0]
    axis, largest = call.get("axis", -1), bool(call.get("largest", 1))
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


@operator("CumSum")
def cumulative_sum(call: Call, x: Tensor, axis: Tensor) -> Tensor:
    dim = integers(axis)[0]
    x = x.flip(dim) if call.get("reverse", 0) else x
    # Integer sums are int64 in PyTorch; ONNX keeps the type.
    total = x.cumsum(dim).to(x.dtype)
    total = total - x if call.get("exclusive", 0) else total
    return total.flip(dim) if call.get("reverse", 0) else total
