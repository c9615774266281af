"""Readers of matrix products."""

from __future__ import annotations

from typing import Any

from parity.network.axes import rename_indices
from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import (
    ROLES,
    NodeReading,
    NodeView,
    list_present_roles,
    read_fused_activation,
    register_reader,
)


@register_reader("Gemm", "FusedGemm", "QGemm")
def _read_gemm(view: NodeView) -> NodeReading:
    roles = list_present_roles(view)
    at = next(index for index, role in ROLES[view.operation].items() if role == "kernel")
    shape, transposed = view.shape(at), bool(view.get("transB", 0))
    scaled = (view.number("alpha", 1.0), view.number("beta", 1.0)) != (1.0, 1.0)
    if view.get("transA", 0) or scaled or len(shape) != 2:
        return NodeReading(OPAQUE, roles=roles)
    if view.static(at) is None:
        return NodeReading(OPAQUE if transposed or view.has(2) else "matmul")
    hyperparameters = {
        "bias": "bias" in roles.values(),
        "in": shape[1] if transposed else shape[0],
        "out": shape[0] if transposed else shape[1],
        "activation": read_fused_activation(view),
    }
    if view.operation == "QGemm":
        hyperparameters["quantized"] = True
    # The canonical order is (O, I).
    return NodeReading("dense", hyperparameters, roles, {} if transposed else {"kernel": "I O"})


@register_reader(
    "MatMul", "FusedMatMul", "TransposeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QLinearMatMul",
)  # fmt: skip
def _read_product(view: NodeView) -> NodeReading:
    roles = list_present_roles(view)
    at = next(index for index, role in ROLES[view.operation].items() if role == "kernel")
    shape, transposed = view.shape(at), bool(view.get("transB", 0))
    changed = view.get("transA", 0) or view.number("alpha", 1.0) != 1.0
    if view.static(at) is None or len(shape) != 2 or changed:
        extra = {
            name: value
            for name in ("transA", "transB", "alpha")
            if (value := view.get(name)) not in (None, 0, 1.0)
        }
        return NodeReading(OPAQUE if extra else "matmul", extra)
    hyperparameters: dict[str, Any] = {
        "bias": "bias" in roles.values(),
        "in": shape[1] if transposed else shape[0],
        "out": shape[0] if transposed else shape[1],
        "activation": "linear",
    }
    if view.operation not in ("MatMul", "FusedMatMul", "TransposeMatMul"):
        hyperparameters["quantized"] = True
    return NodeReading("dense", hyperparameters, roles, {} if transposed else {"kernel": "I O"})


@register_reader("Einsum")
def _read_einsum(view: NodeView) -> NodeReading:
    return NodeReading("einsum", {"equation": rename_indices(view.get("equation", ""))})
