"""What a PyTorch model says of its layers: kind, shape, hyperparameters, in execution order."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from parity.network.table import JOINS, LayerTable, Row, TorchPoint, torch_point

KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.ConvTranspose2d: "conv_transpose",
    nn.Linear: "dense",
    nn.BatchNorm2d: "batch_norm",
    nn.BatchNorm1d: "batch_norm",
    nn.LayerNorm: "layer_norm",
    nn.GroupNorm: "group_norm",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hard_sigmoid",
    nn.Hardswish: "hard_swish",
    nn.Tanh: "tanh",
    nn.Softmax: "softmax",
    nn.MaxPool2d: "max_pool",
    nn.AvgPool2d: "avg_pool",
    nn.AdaptiveAvgPool2d: "global_avg_pool",
    nn.AdaptiveMaxPool2d: "global_max_pool",
    nn.Flatten: "flatten",
    nn.Dropout: "dropout",
    nn.Identity: "identity",
    nn.Upsample: "upsample",
}


def kind_of(module: nn.Module) -> str:
    """The layer table's kind of a module; a convolution of one channel a group is depthwise."""
    for cls in type(module).__mro__:
        if cls in KINDS:
            kind = KINDS[cls]
            if kind == "conv" and module.groups == module.in_channels > 1:
                return "depthwise_conv"
            return kind
    return ""


def describe(
    model: nn.Module, table: LayerTable, input_shape: Sequence[int]
) -> list[dict[str, Any]]:
    """Every call of a leaf module, and of each row's module, with shapes (C, H, W).

    `beside` is whether another layer reads the same tensor, where that is no sum: where a block's
    branches begin; `in_place`, whether it overwrites what it reads.

    The model runs once, on zeros: on the meta device it would take ten times as long, since
    PyTorch first imports what computes shapes there.
    """
    rows: dict[TorchPoint, Row] = {torch_point(r.torch): r for r in table.rows if r.torch}
    paths = {point.module for point in rows}
    calls: dict[str, int] = defaultdict(int)
    layers: list[dict[str, Any]] = []
    forks = _Forks()

    def before(module: nn.Module, args: tuple[Any, ...], path: str) -> None:
        row = rows.get(TorchPoint(path, calls[path], True))
        if row is not None and args:
            # What no module owns cannot be asked for its kind: the table's word is taken.
            layers.append(_layer(row, f"{path}@input", row.kind, "", _shape(args[0], row), {}, 0))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any, path: str) -> None:
        call = calls[path]
        calls[path] += 1
        row = rows.get(TorchPoint(path, call, False))
        name = path if call == 0 else f"{path}#{call}"
        count = sum(p.numel() for p in module.parameters()) if call == 0 else 0
        kind = kind_of(module) or (row.kind if row is not None else "")
        layers.append(
            _layer(
                row, name, kind, type(module).__name__, _shape(output, row), hyper(module), count
            )
        )
        layers[-1]["in_place"] = bool(getattr(module, "inplace", False))
        # A block is given what its first layer is, and a sum what it ends.
        if kind not in JOINS and not any(True for _ in module.children()):
            forks.read(args[0] if args else None, output, layers[-1])

    handles = []
    inner = tuple(f"{path}." for path in paths if path)
    for path, module in model.named_modules():
        is_leaf = path and not any(True for _ in module.children())
        # What a row's module is made of is the row's own affair.
        if path in paths or (is_leaf and not path.startswith(inner)):
            handles += [
                module.register_forward_pre_hook(lambda m, a, path=path: before(m, a, path)),
                module.register_forward_hook(lambda m, a, o, path=path: after(m, a, o, path)),
            ]
    try:
        with torch.inference_mode():
            model(torch.zeros((1, *input_shape)))
    finally:
        for handle in handles:
            handle.remove()
    return layers


class _Forks:
    """Which layers read a tensor that another layer reads too, told in their `beside`."""

    def __init__(self) -> None:
        self._readers: dict[int, tuple[weakref.ref[Any], dict[str, Any]]] = {}

    def read(self, given: Any, made: Any, layer: dict[str, Any]) -> None:
        """`layer` was given a tensor and made another; in place, it has read nothing of its own."""
        if not isinstance(given, torch.Tensor) or given is made:
            return
        held, other = self._readers.get(id(given), (None, None))
        if other is not None and held is not None and held() is given:
            other["beside"] = layer["beside"] = True
        else:
            # By the tensor's identity, for as long as it lives: an id is used again.
            self._readers[id(given)] = (weakref.ref(given), layer)


def _layer(
    row: Row | None, name: str, kind: str, cls: str, shape: list[int], hyper: Any, parameters: int
) -> dict[str, Any]:
    return {
        "row": row.name if row is not None else None,
        "name": name,
        "kind": kind,
        "class": cls,
        "shape": shape,
        "hyper": hyper,
        "parameters": parameters,
        "beside": False,
        "in_place": False,
    }


def _shape(tensor: Any, row: Row | None) -> list[int]:
    if not isinstance(tensor, torch.Tensor):
        return []
    shape = list(tensor.shape[1:])
    rank = len(row.shape) if row is not None and row.shape else len(shape)
    while len(shape) > rank and shape[-1] == 1:
        shape.pop()
    if row is not None and row.kind in ("global_avg_pool", "global_max_pool"):
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
    return shape


def hyper(module: nn.Module) -> dict[str, Any]:
    """The settings that decide what a layer computes, in the words of `network.structure`."""
    values: dict[str, Any] = {}
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        values = {
            "kernel": list(module.kernel_size),
            "stride": list(module.stride),
            "padding": _padding(module),
            "dilation": list(module.dilation),
            "groups": module.groups,
            "bias": module.bias is not None,
            "in": module.in_channels,
            "out": module.out_channels,
            "activation": "linear",
        }
    elif isinstance(module, nn.Linear):
        values = {
            "bias": module.bias is not None,
            "in": module.in_features,
            "out": module.out_features,
            "activation": "linear",
        }
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
        values = {"epsilon": module.eps}
    elif isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        values = {
            "kernel": _pair(module.kernel_size),
            "stride": _pair(module.stride),
            "padding": [[p, p] for p in _pair(module.padding)],
            "ceil": module.ceil_mode,
        }
        if not any(_pair(module.padding)):
            return values
        if isinstance(module, nn.MaxPool2d):
            values["pad_value"] = "-inf"
        else:
            values["count_padding"] = module.count_include_pad
    elif parts := _convolutions(module):
        first = hyper(parts[0])
        channels = {name: sum(getattr(p, name) for p in parts) for name in _CHANNELS}
        values = {**first, "groups": len(parts), "in": channels[_IN], "out": channels[_OUT]}
    elif isinstance(module, nn.LeakyReLU):
        values = {"slope": module.negative_slope}
    elif isinstance(module, nn.GELU):
        values = {"approximate": module.approximate == "tanh"}
    return values


_CHANNELS = _IN, _OUT = ("in_channels", "out_channels")


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """What a grouped convolution is written out as: two or more alike, and nothing else."""
    leaves = [leaf for leaf in module.modules() if not any(True for _ in leaf.children())]
    parts = [leaf for leaf in leaves if isinstance(leaf, nn.Conv2d)]
    settings = {str(part) for part in parts}
    return parts if 1 < len(parts) == len(leaves) and len(settings) == 1 else []


def _padding(module: nn.Conv2d | nn.ConvTranspose2d) -> list[list[int]]:
    if module.padding == "valid":
        return [[0, 0], [0, 0]]
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [[total // 2, total - total // 2] for total in totals]
    return [[int(p), int(p)] for p in module.padding]


def _pair(value: Any) -> list[int]:
    return [int(v) for v in value] if isinstance(value, (tuple, list)) else [int(value)] * 2
