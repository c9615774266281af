"""Hyperparameters as the arguments of a framework's layers and the attributes of ONNX's nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.network import kinds, windows
from parity.network.kind import tuples_to_lists

Pairs = Sequence[Sequence[int]]


def to_arguments(
    framework: str,
    kind: str,
    wanted: Mapping[str, Any],
    hyper: Mapping[str, Any],
    sizes: Sequence[int] = (),
) -> dict[str, Any] | None:
    """Return keyword arguments of a Keras or PyTorch layer; None where one has no such argument.

    `wanted` are hyperparameters of `kind` by name, `hyper` all that the layer then has. `sizes` are
    the spatial sizes of its input, on which Keras's SAME depends.
    """
    found: dict[str, Any] = {}
    for name, value in wanted.items():
        setting = next((s for s in kinds.get(kind).hyperparameters if s.name == name), None)
        attribute = getattr(setting, framework, "") if setting is not None else ""
        if not attribute:
            return None
        if name == "padding":
            argument = _padding_argument(framework, value, hyper, sizes)
        else:
            argument = _plain_argument(framework, name, value)
        if argument is None:
            return None
        found[attribute] = argument
    return found


def _plain_argument(framework: str, name: str, value: Any) -> Any:
    if name == "approximate" and framework == "torch":
        return "tanh" if value else "none"
    if isinstance(value, list | tuple):
        values = [int(each) if float(each).is_integer() else float(each) for each in value]
        return values[0] if len(set(values)) == 1 else tuple(values)
    return value


def _padding_argument(
    framework: str, padding: Pairs, hyper: Mapping[str, Any], sizes: Sequence[int]
) -> Any:
    """Return the argument `padding`; None where the layer alone cannot pad so."""
    pairs = [tuple(int(width) for width in pair) for pair in padding]
    if framework == "keras":
        if not any(map(any, pairs)):
            return "valid"
        if sizes and pairs == _same_padding(hyper, sizes):
            return "same"
        return "causal" if pairs == _causal_padding(hyper) else None
    if any(before != after for before, after in pairs):
        return None
    widths = [before for before, _ in pairs]
    return widths[0] if len(set(widths)) == 1 else tuple(widths)


def _same_padding(hyper: Mapping[str, Any], sizes: Sequence[int]) -> list[tuple[int, int]]:
    spatial = len(sizes)
    kernel, stride = hyper.get("kernel", ()), hyper.get("stride", (1,) * spatial)
    dilation = hyper.get("dilation", (1,) * spatial)
    if not len(kernel) == len(stride) == len(dilation) == spatial:
        return []
    return [
        windows.same_padding(n, kernel=k, stride=s, dilation=d)
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]


def _causal_padding(hyper: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return the padding with which a convolution of a signal reads nothing of what comes later."""
    kernel, dilation = hyper.get("kernel", ()), hyper.get("dilation", (1,))
    if len(kernel) != 1 or len(dilation) != 1:
        return []
    return [(int(dilation[0]) * (int(kernel[0]) - 1), 0)]


def to_attributes(kind: str, hyper: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return attributes of an ONNX node; None where its operator has no such attribute."""
    found: dict[str, Any] = {}
    for name, value in hyper.items():
        setting = next((s for s in kinds.get(kind).hyperparameters if s.name == name), None)
        if setting is None or not setting.onnx:
            return None
        if name == "padding":
            begin, end = zip(*[tuple(map(int, pair)) for pair in value], strict=True)
            found["pads"] = [*begin, *end]
        elif name == "approximate":
            found[setting.onnx] = "tanh" if value else "none"
        elif isinstance(value, bool):
            found[setting.onnx] = int(value)
        else:
            found[setting.onnx] = tuples_to_lists(value)
    return found
