"""Translations of PyTorch operators to ONNX: torch.onnx's own, and a few that replace them."""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch


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


# torch.onnx decomposes the first two, batch-norm into several operators; and it gives a convolution
# without a bias one of zeros, from three operators.
_TRANSLATIONS: dict[Any, tuple[Callable[..., Any], Callable[[torch.fx.Node], bool]]] = {
    torch.ops.aten.batch_norm.default: (_batch_norm, _is_inference),
    torch.ops.aten.adaptive_avg_pool2d.default: (_global_average, _is_global),
    torch.ops.aten.conv1d.default: (_convolution, _always),
    torch.ops.aten.conv2d.default: (_convolution, _always),
    torch.ops.aten.conv3d.default: (_convolution, _always),
}


@functools.cache
def torchlib() -> Any:
    """Return torch.onnx's registry of translations."""
    from torch.onnx._internal.exporter import _registration

    return _registration.ONNXRegistry.from_torchlib()


def registry_for(program: torch.export.ExportedProgram) -> tuple[Any, bool]:
    """Return the translations, and whether they cover the program without decompositions."""
    registry = torchlib()
    replaced = set()
    for node in program.graph.nodes:
        target = node.target
        if node.op == "get_attr":
            return registry, False  # a subgraph of control flow
        if node.op != "call_function" or _is_assertion(target):
            continue
        if target in _TRANSLATIONS and _TRANSLATIONS[target][1](node):
            replaced.add(target)
        elif target is not operator.getitem and not _has_translation(target, registry):
            return registry, False
    extended = copy.copy(registry)
    extended.functions = {name: list(functions) for name, functions in registry.functions.items()}
    for target in replaced:
        extended.register_op(target, _TRANSLATIONS[target][0])
    return extended, True


def _has_translation(target: Any, registry: Any) -> bool:
    # An operator that works in place has to be functionalised first.
    in_place = getattr(getattr(target, "_schema", None), "is_mutable", False)
    return not in_place and bool(registry.is_registered(target))


def _is_assertion(target: object) -> bool:
    name = getattr(target, "__name__", "")
    return name.startswith(("_assert_", "sym_constrain_range"))
