"""Readers of activations."""

from __future__ import annotations

from typing import Any

from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    find_kind,
    normalise_axis,
    register_reader,
)


@register_reader("clamp clip clamp_min clamp_max hardtanh relu6")
def _clip(name: str, given: Arguments) -> Operation | None:
    if name == "hardtanh":
        low, high = given.get("min_val", -1.0), given.get("max_val", 1.0)
    elif name == "relu6":
        low, high = 0.0, 6.0
    else:
        low, high = given.get("min"), given.get("max")
    if isinstance(low, Operand) or isinstance(high, Operand):
        return None
    if (low, high) == (0, 6):
        return Operation("relu6", {}, [given["input"]], keeps_axes=True)
    hyper = {n: float(v) for n, v in (("low", low), ("high", high)) if v is not None}
    return Operation("clip", hyper, [given["input"]], keeps_axes=True)


@register_reader("softmax log_softmax glu cumsum")
def _along_axis(name: str, given: Arguments) -> Operation | None:
    dim = given.get("dim")
    if dim is None:
        dim = -1 if name == "glu" else None
    if dim is None:
        return None
    hyper = {"axis": normalise_axis(dim, given["input"].tensor.ndim)}
    return Operation(name, hyper, [given["input"]], keeps_axes=True)


@register_reader("leaky_relu elu celu gelu softplus prelu hardsigmoid")
def _activation(name: str, given: Arguments) -> Operation | None:
    kind = find_kind(name, {})
    if kind is None:
        return None
    hyper: dict[str, Any] = {}
    if name == "leaky_relu":
        hyper["slope"] = float(given.get("negative_slope", 0.01))
    elif name in ("elu", "celu"):
        if given.get("scale", 1) != 1 or given.get("input_scale", 1) != 1:
            return None
        hyper["alpha"] = float(given.get("alpha", 1.0))
    elif name == "gelu":
        hyper["approximate"] = given.get("approximate", "none") == "tanh"
    elif name == "softplus":
        hyper["beta"] = float(given.get("beta", 1.0))
    operation = Operation(kind.name, hyper, [given["input"]], keeps_axes=True)
    if name == "prelu":
        operation.weights["alpha"] = given["weight"]
    return operation
