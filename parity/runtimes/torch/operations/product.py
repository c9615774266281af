"""Readers of dense layers and matrix products."""

from __future__ import annotations

from typing import Any

from parity.network.axes import rename_indices
from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    channels_last,
    read_layer,
    register_reader,
    shape_of,
)


@register_reader("linear")
def _linear(name: str, given: Arguments) -> Operation:
    out, depth = shape_of(given["weight"])
    hyper = {"bias": given.get("bias") is not None, "in": depth, "out": out}
    axes = channels_last(given["input"].tensor.ndim)
    return read_layer(name, hyper, given, "weight=kernel bias=bias", axes)


@register_reader("matmul bmm mm")
def _matmul(name: str, given: Arguments) -> Operation:
    one, other = given["input"], given["other"]
    if isinstance(other, Operand) and other.weights is not None and other.tensor.ndim == 2:
        return _dense(one, other, None)
    return Operation("matmul", {}, [one, other])


@register_reader("addmm")
def _addmm(name: str, given: Arguments) -> Operation | None:
    if given["weight"].weights is None or {"beta", "alpha"} & set(given):
        return None
    return _dense(given["input"], given["weight"], given["bias"])


def _dense(data: Operand, kernel: Operand, bias: Any) -> Operation:
    """Return the dense layer of a product with a weight (I, O)."""
    depth, out = shape_of(kernel)
    source = kernel.weights
    # The canonical order is (O, I).
    order = None if source is None or source.order is None else source.order[::-1]
    turned = Operand(
        kernel.tensor.mT, weights=None if source is None else type(source)(source.names, order)
    )
    weights = {"kernel": turned, **({"bias": bias} if bias is not None else {})}
    axes = channels_last(data.tensor.ndim)
    hyper = {"bias": bias is not None, "in": depth, "out": out}
    return Operation("dense", hyper, [data], weights, axes, axes)


@register_reader("einsum")
def _einsum(name: str, given: Arguments) -> Operation | None:
    if not isinstance(given["equation"], str):
        return None
    parts = given["operands"]
    return Operation("einsum", {"equation": rename_indices(given["equation"])}, list(parts))
