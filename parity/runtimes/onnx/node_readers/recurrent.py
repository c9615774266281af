"""Readers of recurrent layers."""

from __future__ import annotations

from typing import Any

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import (
    NodeReading,
    NodeView,
    list_present_roles,
    register_reader,
)

_DEFAULT_GATES = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}


@register_reader("LSTM", "GRU", "RNN")
def _read_recurrent(view: NodeView) -> NodeReading:
    roles = list_present_roles(view)
    batch_first = bool(view.get("layout", 0))
    direction = view.get("direction", "forward")
    hyperparameters: dict[str, Any] = {
        "units": int(view.get("hidden_size", view.shape(2)[-1] if view.shape(2) else 0)),
        "layers": 1,
        "bidirectional": direction == "bidirectional",
        "time_major": not batch_first,
    }
    kind = view.operation.lower()
    if kind == "gru":
        hyperparameters["reset_after"] = bool(view.get("linear_before_reset", 0))
    names = [n.decode() if isinstance(n, bytes) else n for n in view.get("activations") or ()]
    count = 2 if hyperparameters["bidirectional"] else 1
    default = _DEFAULT_GATES[view.operation]
    if view.operation == "RNN":
        hyperparameters["relu"] = names == ["Relu"] * count
        default = ["Relu"] if hyperparameters["relu"] else default
    ordinary = not names or names == default * count
    if direction == "reverse":
        hyperparameters["direction"] = "reverse"
    if not ordinary or view.get("clip") is not None or view.has(7):
        return NodeReading(OPAQUE, hyperparameters, roles)
    # The gates are i, o, f, g in an LSTM and z, r, h in a GRU, one direction behind the other.
    return NodeReading(
        kind,
        hyperparameters,
        roles,
        {"kernel": "D O I", "recurrent_kernel": "D O I", "bias": "D C"},
    )
