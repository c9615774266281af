"""Descriptions of a PyTorch model's layers: kind, shape, hyperparameters, in execution order."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from parity.network import kinds
from parity.network.kind import Reader, to_pair
from parity.network.table import LayerTable, Row, TorchPoint, parse_torch_point


def kind_of(module: nn.Module) -> str:
    """Return the kind of a module; a convolution with one input channel per group is depthwise."""
    for cls in type(module).__mro__:
        for kind in kinds.find_by_class("torch", kinds.class_name(cls, nn)):
            if kind.condition is None or kind.condition(kind.read("torch", module, READERS)):
                return kind.name
    return ""


def describe_layers(
    model: nn.Module, table: LayerTable, input_shape: Sequence[int]
) -> list[dict[str, Any]]:
    """Describe every call of a leaf module, and of each row's module, with shapes (C, H, W).

    `shares_input` is true if another layer, other than an add, takes the same input, as the first
    layers of parallel branches do. `in_place` is true where the layer overwrites its input.

    The model runs once, on zeros: on the meta device it would take ten times as long, since
    PyTorch first imports what computes shapes there.
    """
    rows: dict[TorchPoint, Row] = {parse_torch_point(r.torch): r for r in table.rows if r.torch}
    paths = {point.module for point in rows}
    calls: dict[str, int] = defaultdict(int)
    layers: list[dict[str, Any]] = []
    branches = _SharedInputMarker()

    def before(module: nn.Module, args: tuple[Any, ...], path: str) -> None:
        row = rows.get(TorchPoint(path, calls[path], True))
        if row is not None and args:
            # A tensor that is no module's output has the kind that the table gives.
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
                row,
                name,
                kind,
                type(module).__name__,
                _shape(output, row),
                read_hyperparameters(module)
                or _read_group_hyperparameters(module, args[0] if args else None, output),
                count,
            )
        )
        layers[-1]["in_place"] = bool(getattr(module, "inplace", False))
        # Skip containers and adds: only leaf layers start a branch.
        if not kinds.joins_branches(kind) and not any(True for _ in module.children()):
            branches.mark_shared_input(args[0] if args else None, output, layers[-1])

    handles = []
    inner = tuple(f"{path}." for path in paths if path)
    for path, module in model.named_modules():
        is_leaf = path and not any(True for _ in module.children())
        # The layers inside a row's module are part of that row.
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


class _SharedInputMarker:
    """Sets `shares_input` of the layers that take a tensor which another layer takes too."""

    def __init__(self) -> None:
        self._readers: dict[int, tuple[weakref.ref[Any], dict[str, Any]]] = {}

    def mark_shared_input(self, source: Any, result: Any, layer: dict[str, Any]) -> None:
        """Note that `layer` computed `result` from `source`; in place, they are one tensor."""
        if not isinstance(source, torch.Tensor) or source is result:
            return
        weak, other = self._readers.get(id(source), (None, None))
        if other is not None and weak is not None and weak() is source:
            other["shares_input"] = layer["shares_input"] = True
        else:
            # By the tensor's identity, while the tensor exists: Python uses an id again.
            self._readers[id(source)] = (weakref.ref(source), layer)


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
        "shares_input": False,
        "in_place": False,
    }


def _shape(tensor: Any, row: Row | None) -> list[int]:
    if not isinstance(tensor, torch.Tensor):
        return []
    shape = list(tensor.shape[1:])
    rank = len(row.shape) if row is not None and row.shape else len(shape)
    while len(shape) > rank and shape[-1] == 1:
        shape.pop()
    if row is not None and kinds.get(row.kind).pools_image:
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
    return shape


def read_hyperparameters(module: nn.Module) -> dict[str, Any]:
    """Return the settings that decide what a layer computes, as its kind names them."""
    kind = kinds.find(kind_of(module))
    return kind.read("torch", module, READERS) if kind is not None else {}


def _read_group_hyperparameters(module: nn.Module, source: Any, result: Any) -> dict[str, Any]:
    """Return the settings of the one convolution that a module's Conv2d leaves amount to, or {}.

    `source` and `result` are the module's input and output, (N, C, H, W). Their channels show that
    the leaves run in parallel, and whether each reads a slice of the input or all of it: one
    convolution with groups, or without.
    """
    parts = _find_convolutions_of_groups(module)
    if not parts or not all(isinstance(t, torch.Tensor) and t.ndim == 4 for t in (source, result)):
        return {}
    channels, part = source.shape[1], parts[0]
    groups = {part.in_channels * len(parts): len(parts), part.in_channels: 1}.get(channels)
    if groups is None or result.shape[1] != part.out_channels * len(parts):
        return {}
    settings = {"groups": groups, "in": channels, "out": result.shape[1]}
    return {**read_hyperparameters(part), **settings}


def _find_convolutions_of_groups(module: nn.Module) -> list[nn.Conv2d]:
    """Return the Conv2d leaves of a module that can be a convolution written as one per group.

    They are two or more equal ones without groups, and the only leaves; else the list is empty.
    Whether they run in parallel is not seen here.
    """
    leaves = [leaf for leaf in module.modules() if not any(True for _ in leaf.children())]
    parts = [leaf for leaf in leaves if isinstance(leaf, nn.Conv2d) and leaf.groups == 1]
    settings = {str(part) for part in parts}
    return parts if 1 < len(parts) == len(leaves) and len(settings) == 1 else []


def _padding(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> list[list[int]]:
    if module.padding == "valid":
        return [[0, 0], [0, 0]]
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [[total // 2, total - total // 2] for total in totals]
    return [[p, p] for p in to_pair(module.padding)]


def _output_crop(module: nn.ConvTranspose2d) -> list[list[int]]:
    """Return (begin, end) per axis to cut from the full transposed convolution.

    They are (padding, padding - output_padding).
    """
    more = to_pair(module.output_padding)
    return [[p, p - extra] for p, extra in zip(to_pair(module.padding), more, strict=True)]


def _image_padding(module: nn.ZeroPad2d) -> list[list[int]]:
    left, right, top, bottom = module.padding
    return [[top, bottom], [left, right]]


def _read_count_include_pad(module: nn.AvgPool2d) -> bool | None:
    return module.count_include_pad if any(to_pair(module.padding)) else None


def _pad_value(module: nn.MaxPool2d) -> str | None:
    return "-inf" if any(to_pair(module.padding)) else None


def _output_size(module: nn.AdaptiveAvgPool2d) -> Any:
    """Return an adaptive pool's size; None where an axis keeps the input's."""
    size = module.output_size
    return None if isinstance(size, tuple) and None in size else size


READERS: Mapping[str, Reader] = {
    "bias": lambda module: module.bias is not None,
    "padding": _padding,
    "conv_transpose.padding": _output_crop,
    "pad.padding": _image_padding,
    "count_padding": _read_count_include_pad,
    "pad_value": _pad_value,
    "approximate": lambda module: module.approximate == "tanh",
    "global_avg_pool.size": _output_size,
    "global_max_pool.size": _output_size,
}
"""Functions that read the settings that are no plain attribute of a module."""
