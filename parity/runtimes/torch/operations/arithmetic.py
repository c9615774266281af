"""Readers of arithmetic on tensors and learned numbers."""

from __future__ import annotations

from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    find_kind,
    register_reader,
)


@register_reader("add")
def _add(name: str, given: Arguments) -> Operation | None:
    if given.get("alpha", 1) != 1:
        return None
    return _with_weight("bias_add", "bias", given) or _broadcast("add", given)


@register_reader("mul")
def _mul(name: str, given: Arguments) -> Operation:
    return _with_weight("layer_scale", "gamma", given) or _broadcast("multiply", given)


def _with_weight(kind: str, role: str, given: Arguments) -> Operation | None:
    """Return the sum or the product with a weight, where one of the two is made of weights."""
    pair = [given["input"], given["other"]]
    for data, weight in (pair, pair[::-1]):
        if not isinstance(data, Operand) or not isinstance(weight, Operand):
            continue
        if weight.weights is not None and data.id:
            return Operation(kind, {}, [data], {role: weight}, keeps_axes=True)
    return None


def _broadcast(kind: str, given: Arguments) -> Operation:
    return Operation(kind, {}, [given["input"], given["other"]], keeps_axes=True)


@register_reader(
    "sub div floor_divide remainder pow maximum minimum eq ne lt le gt ge logical_and logical_or"
)
def _binary(name: str, given: Arguments) -> Operation | None:
    kind = find_kind(name, {})
    if kind is None or given.get("alpha", 1) != 1 or given.get("rounding_mode") is not None:
        return None
    return _broadcast(kind.name, given)


@register_reader("where")
def _where(name: str, given: Arguments) -> Operation | None:
    if "input" not in given or "other" not in given:
        return None
    operands = [given["condition"], given["input"], given["other"]]
    return Operation("where", {}, operands, keeps_axes=True)


@register_reader("masked_fill")
def _masked_fill(name: str, given: Arguments) -> Operation:
    data, mask = given["input"], given["mask"]
    value = given["value"]
    return Operation("where", {}, [mask, value, data], keeps_axes=True)
