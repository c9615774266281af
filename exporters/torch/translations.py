"""Translations of PyTorch operators to ONNX: torch.onnx's own, and a few that replace them."""

from __future__ import annotations

import copy
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def _batch_norm(
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    from onnxscript import opset18 as op

    # Without an affine part these are folded to constants when the weights are put in.
    weight = op.Add(op.Sub(mean, mean), op.CastLike(1.0, mean)) if weight is None else weight
    bias = op.Sub(mean, mean) if bias is None else bias
    return op.BatchNormalization(x, weight, bias, mean, variance, epsilon=eps)


def _convolution(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Any:
    from onnxscript import opset18 as op

    rank = len(weight.shape) - 2
    strides, pads, dilations = (
        list(sizes) * rank if len(sizes) == 1 else list(sizes)
        for sizes in (stride, padding, dilation)
    )
    attributes = {"strides": strides, "pads": pads * 2, "dilations": dilations, "group": groups}
    inputs = [x, weight] if bias is None else [x, weight, bias]
    return op.Conv(*inputs, **attributes)


def _global_average(x: Any, output_size: Sequence[int]) -> Any:
    from onnxscript import opset18 as op

    return op.GlobalAveragePool(x)


def _always(node: torch.fx.Node) -> bool:
    return True


def _is_inference(node: torch.fx.Node) -> bool:
    return node.args[3] is not None and node.args[5] is False


def _is_global(node: torch.fx.Node) -> bool:
    return list(node.args[1]) == [1, 1]  # type: ignore[arg-type]


def _global_average_of_3d(x: Any, output_size: Sequence[int]) -> Any:
    from onnxscript import opset18 as op

    return op.ReduceMean(x, op.Constant(value_ints=[-2, -1]), keepdims=1)


def _average_pool(rank: int) -> Callable[..., Any]:
    """Return the translation of an average pool that divides by a number of its own."""

    def translate(
        x: Any,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        from onnxscript import opset18 as op

        kernel, steps, pads = (
            list(sizes) * rank if len(sizes) == 1 else list(sizes)
            for sizes in (kernel_size, stride or kernel_size, padding)
        )
        # A sum is an average over the whole kernel, padding included, times its size.
        total = op.Pad(x, op.Constant(value_ints=[0, 0, *pads] * 2)) if any(pads) else x
        total = op.AveragePool(total, kernel_shape=kernel, strides=steps, ceil_mode=int(ceil_mode))
        factor = math.prod(kernel) / float(divisor_override or 1)
        return op.Mul(total, op.CastLike(op.Constant(value_float=factor), x))

    return translate


def _log_sigmoid(x: Any) -> Any:
    from onnxscript import opset18 as op

    # log(sigmoid(x)) is -inf where the sigmoid underflows.
    one, zero = (op.CastLike(op.Constant(value_float=v), x) for v in (1.0, 0.0))
    return op.Sub(op.Min(x, zero), op.Log(op.Add(one, op.Exp(op.Neg(op.Abs(x))))))


def _floor_divide(x: Any, y: Any) -> Any:
    """Translate as ATen's div_floor_floating (BinaryOpsKernel.cpp) computes it.

    The floor of the rounded quotient is one too large where it rounds up to a whole number.
    """
    from onnxscript import opset18 as op

    if x.dtype is not None and not x.dtype.is_floating_point():
        return _original(torch.ops.aten.floor_divide.default)(x, y)
    y = op.CastLike(y, x)
    one, zero, half = (op.CastLike(op.Constant(value_float=v), x) for v in (1.0, 0.0, 0.5))
    rest = op.Mod(x, y, fmod=1)
    quotient = op.Div(op.Sub(x, rest), y)
    opposite = op.And(op.Not(op.Equal(rest, zero)), op.Xor(op.Less(y, zero), op.Less(rest, zero)))
    quotient = op.Where(opposite, op.Sub(quotient, one), quotient)
    floor = op.Floor(quotient)
    floor = op.Where(op.Greater(op.Sub(quotient, floor), half), op.Add(floor, one), floor)
    return op.Where(op.Equal(y, zero), op.Div(x, y), floor)


def _divide_with_mode(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode == "floor" and (x.dtype is None or x.dtype.is_floating_point()):
        return _floor_divide(x, y)
    return _original(torch.ops.aten.div.Tensor_mode)(x, y, rounding_mode=rounding_mode)


def _random_leaky_relu(
    x: Any, lower: float = 0.125, upper: float = 1.0 / 3.0, training: bool = False
) -> Any:
    from onnxscript import opset18 as op

    return op.LeakyRelu(x, alpha=(lower + upper) / 2)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Translate attention; a row whose every key is masked gives zeros, as PyTorch's does."""
    from onnxscript import opset18 as op

    if scale is None and isinstance(query.shape[-1], int):
        scale = 1.0 / math.sqrt(query.shape[-1])  # torch.onnx would compute it in the graph
    rank = len(query.shape)
    # torch.onnx translates four axes alone.
    if enable_gqa or (rank == 4 and attn_mask is None):
        return _original(torch.ops.aten.scaled_dot_product_attention.default)(
            query, key, value, attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale,
            enable_gqa=enable_gqa,
        )  # fmt: skip
    factor = math.sqrt(scale if scale is not None else 1.0 / math.sqrt(query.shape[-1]))
    root = op.CastLike(op.Constant(value_float=factor), query)
    order = [*range(rank - 2), rank - 1, rank - 2]
    scores = op.MatMul(op.Mul(query, root), op.Mul(op.Transpose(key, perm=order), root))
    lowest = op.CastLike(op.Constant(value_float=float("-inf")), query)
    if attn_mask is None:
        if is_causal:
            scores = op.Where(_causal_mask(query, key), scores, lowest)
        return op.MatMul(op.Softmax(scores, axis=-1), value)
    if attn_mask.dtype is not None and not attn_mask.dtype.is_floating_point():
        scores = op.Where(attn_mask, scores, lowest)
    else:
        scores = op.Add(scores, attn_mask)
    largest = op.ReduceMax(scores, op.Constant(value_ints=[-1]), keepdims=1)
    zero = op.CastLike(op.Constant(value_float=0.0), query)
    weights = op.Where(op.Equal(largest, lowest), zero, op.Softmax(scores, axis=-1))
    return op.MatMul(weights, value)


def _causal_mask(query: Any, key: Any) -> Any:
    """Return which keys each query sees, (L, S): those up to its own place."""
    from onnxscript import opset18 as op

    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    places = (
        op.Range(zero, op.Squeeze(op.Shape(each, start=-2, end=-1)), one) for each in (query, key)
    )
    rows, columns = places
    return op.GreaterOrEqual(op.Unsqueeze(rows, op.Constant(value_ints=[1])), columns)


def _embedding_bag(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Translate to one Gather and one ScatterND that adds, or takes the maximum, by bag."""
    from onnxscript import opset18 as op

    one, zero = op.Constant(value_ints=[1]), op.Constant(value_ints=[0])
    indices = op.Cast(indices, to=_INT64)
    starts = op.Cast(offsets, to=_INT64)
    if include_last_offset:
        starts = op.Slice(starts, zero, op.Constant(value_ints=[-1]), zero)
    count, bags = op.Shape(indices), op.Shape(starts)
    places = op.Range(op.Squeeze(zero), op.Squeeze(count), op.Squeeze(one))
    # The bag of an index is the number of bags that start at or before it, less one.
    begun = op.GreaterOrEqual(op.Unsqueeze(places, one), op.Unsqueeze(starts, zero))
    bag = op.Sub(op.ReduceSum(op.Cast(begun, to=_INT64), one, keepdims=1), one)
    rows = op.Gather(weight, indices)
    if per_sample_weights is not None:
        rows = op.Mul(rows, op.Unsqueeze(per_sample_weights, one))
    like = op.CastLike(op.Constant(value_float=1.0), weight)
    counted = op.Expand(op.Unsqueeze(like, zero), count)
    if padding_idx is not None:
        padded = op.Equal(indices, op.Constant(value_int=padding_idx))
        counted = op.Where(padded, op.Sub(like, like), counted)
    width = op.Shape(weight, start=1)
    zeros = op.Expand(op.Sub(like, like), op.Concat(bags, width, axis=0))
    counts = op.ScatterND(op.Expand(op.Sub(like, like), bags), bag, counted, reduction="add")
    if mode == 2:
        lowest = op.CastLike(op.Constant(value_float=float("-inf")), weight)
        if padding_idx is not None:
            rows = op.Where(op.Unsqueeze(padded, one), lowest, rows)
        result = op.ScatterND(op.Add(zeros, lowest), bag, rows, reduction="max")
        empty = op.Unsqueeze(op.Equal(counts, op.Sub(like, like)), one)
        result = op.Where(empty, zeros, result)
    else:
        if padding_idx is not None:
            rows = op.Mul(rows, op.Unsqueeze(counted, one))
        result = op.ScatterND(zeros, bag, rows, reduction="add")
        if mode == 1:
            result = op.Div(result, op.Unsqueeze(op.Max(counts, like), one))
    # The other three results serve training.
    return result, op.Squeeze(bag, one), starts, starts


def _cumulative(kind: str) -> Callable[..., Any]:
    """Return the translation of a running product or log-sum-exp along an axis of known size."""

    def translate(x: Any, dim: int, dtype: int = -1) -> Any:
        from onnxscript import opset18 as op

        rank = len(x.shape)
        axis = dim % rank
        size = x.shape[axis]
        # Row i of the new axis holds the elements up to i, and what changes nothing after them.
        earlier = op.Constant(
            value=_tensor(
                np.tril(np.ones((size, size), bool)).reshape(size, size, *(1,) * (rank - axis - 1))
            )
        )
        rows = op.Unsqueeze(x, op.Constant(value_ints=[axis]))
        inner = op.Constant(value_ints=[axis + 1])
        if kind == "product":
            one = op.CastLike(op.Constant(value_float=1.0), x)
            return op.ReduceProd(op.Where(earlier, rows, one), inner, keepdims=0)
        lowest = op.CastLike(op.Constant(value_float=float("-inf")), x)
        rows = op.Where(earlier, rows, lowest)
        largest = op.ReduceMax(rows, inner, keepdims=1)
        total = op.ReduceSum(op.Exp(op.Sub(rows, largest)), inner, keepdims=0)
        return op.Add(op.Log(total), op.Squeeze(largest, inner))

    return translate


def _pairwise_distance(x: Any, y: Any, p: float = 2.0, compute_mode: int | None = None) -> Any:
    from onnxscript import opset18 as op

    left, right = op.Constant(value_ints=[-2]), op.Constant(value_ints=[-3])
    gap = op.Abs(op.Sub(op.Unsqueeze(x, left), op.Unsqueeze(y, right)))
    last = op.Constant(value_ints=[-1])
    if p == 1.0:
        return op.ReduceSum(gap, last, keepdims=0)
    if math.isinf(p):
        return op.ReduceMax(gap, last, keepdims=0)
    if p == 2.0:
        return op.Sqrt(op.ReduceSum(op.Mul(gap, gap), last, keepdims=0))
    power, root = (op.CastLike(op.Constant(value_float=v), x) for v in (p, 1.0 / p))
    return op.Pow(op.ReduceSum(op.Pow(gap, power), last, keepdims=0), root)


_INT64 = 7
"""onnx.TensorProto.INT64"""


def _tensor(array: NDArray[Any]) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(array)


def _original(target: Any) -> Callable[..., Any]:
    """Return torch.onnx's own translation."""
    found = [m for m in torchlib().get_decomps(target) if not m.is_complex]
    function: Callable[..., Any] = found[0].onnx_function
    return function


def _rank_of_input(node: torch.fx.Node) -> int:
    value = node.args[0].meta.get("val")  # type: ignore[union-attr]
    return value.ndim if isinstance(value, torch.Tensor) else 0


def _is_global_of_3d(node: torch.fx.Node) -> bool:
    return _is_global(node) and _rank_of_input(node) == 3


def _argument(node: torch.fx.Node, name: str) -> Any:
    target: Any = node.target
    for index, argument in enumerate(target._schema.arguments):
        if argument.name == name:
            if name in node.kwargs:
                return node.kwargs[name]
            return node.args[index] if index < len(node.args) else argument.default_value
    return None


def _has_divisor(node: torch.fx.Node) -> bool:
    return _argument(node, "divisor_override") is not None and not _argument(node, "ceil_mode")


def _is_evaluated(node: torch.fx.Node) -> bool:
    return not _argument(node, "training")


def _has_known_size(node: torch.fx.Node) -> bool:
    value = node.args[0].meta.get("val")  # type: ignore[union-attr]
    if not isinstance(value, torch.Tensor) or not value.ndim:
        return False
    size = value.shape[_argument(node, "dim") % value.ndim]
    return isinstance(size, int) and size <= _LONGEST and _argument(node, "dtype") is None


_LONGEST = 512
"""The longest axis whose running products are computed as a square."""

# torch.onnx decomposes batch-norm into several operators and gives a convolution without a bias one
# of zeros, made by three operators; of the others its translation computes something else, or it
# has none.
_TRANSLATIONS: dict[Any, Sequence[tuple[Callable[..., Any], Callable[[torch.fx.Node], bool]]]] = {
    torch.ops.aten.batch_norm.default: [(_batch_norm, _is_inference)],
    torch.ops.aten.adaptive_avg_pool2d.default: [
        (_global_average, lambda node: _is_global(node) and _rank_of_input(node) == 4),
        (_global_average_of_3d, _is_global_of_3d),
    ],
    torch.ops.aten.conv1d.default: [(_convolution, _always)],
    torch.ops.aten.conv2d.default: [(_convolution, _always)],
    torch.ops.aten.conv3d.default: [(_convolution, _always)],
    torch.ops.aten.avg_pool2d.default: [(_average_pool(2), _has_divisor)],
    torch.ops.aten.avg_pool3d.default: [(_average_pool(3), _has_divisor)],
    torch.ops.aten.log_sigmoid.default: [(_log_sigmoid, _always)],
    torch.ops.aten.floor_divide.default: [(_floor_divide, _always)],
    torch.ops.aten.div.Tensor_mode: [(_divide_with_mode, _always)],
    torch.ops.aten.rrelu.default: [(_random_leaky_relu, _is_evaluated)],
    torch.ops.aten.scaled_dot_product_attention.default: [(_attention, _always)],
    torch.ops.aten.embedding_bag.padding_idx: [(_embedding_bag, _always)],
    torch.ops.aten.cumprod.default: [(_cumulative("product"), _has_known_size)],
    torch.ops.aten.logcumsumexp.default: [(_cumulative("log-sum-exp"), _has_known_size)],
    torch.ops.aten.cdist.default: [(_pairwise_distance, _always)],
}


@functools.cache
def torchlib() -> Any:
    """Return torch.onnx's registry of translations."""
    from torch.onnx._internal.exporter import _registration

    return _registration.ONNXRegistry.from_torchlib()


def registry_for(program: torch.export.ExportedProgram) -> tuple[Any, list[str]]:
    """Return the translations, and the operators of the program that need a decomposition.

    An operator of which this program has a use that no translation is right for is left out, so
    that it is decomposed.
    """
    registry = torchlib()
    nodes: dict[Any, list[torch.fx.Node]] = {}
    lacking: list[str] = []
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            if node.op == "get_attr":
                lacking.append("control flow")
            elif node.op == "call_function" and not _is_assertion(node.target):
                nodes.setdefault(node.target, []).append(node)
    extended = copy.copy(registry)
    extended.functions = {name: list(functions) for name, functions in registry.functions.items()}
    for target, used in nodes.items():
        replacement = _replacement(target, used)
        if replacement is not None:
            extended.register_op(target, replacement)
        elif target in _BROKEN and any(_BROKEN[target](node) for node in used):
            extended.functions.pop(target.name(), None)
            lacking.append(str(target))
        elif target is not operator.getitem and not _has_translation(target, registry):
            lacking.append(str(target))
    return extended, list(dict.fromkeys(lacking))


def _replacement(target: Any, used: Sequence[torch.fx.Node]) -> Callable[..., Any] | None:
    """Return the translation that is right for every use in a program."""
    for translation, applies in _TRANSLATIONS.get(target, ()):
        if all(applies(node) for node in used):
            return translation
    return None


def _has_projection(node: torch.fx.Node) -> bool:
    """Return whether an LSTM projects its state, which ONNX's has no weights for."""
    states: Any = node.args[1]
    hidden, cell = (state.meta["val"].shape[-1] for state in states)
    return bool(hidden != cell)


# By operator, the uses that torch.onnx translates to something else.
_BROKEN: dict[Any, Callable[[torch.fx.Node], bool]] = {
    torch.ops.aten.lstm.input: _has_projection,
}


def _has_translation(target: Any, registry: Any) -> bool:
    # An operator that works in place has to be made functional first.
    in_place = getattr(getattr(target, "_schema", None), "is_mutable", False)
    return not in_place and bool(registry.is_registered(target))


def _is_assertion(target: object) -> bool:
    name = getattr(target, "__name__", "")
    return name.startswith(("_assert_", "sym_constrain_range"))
