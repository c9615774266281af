"""Readers of recurrent layers and of the layers that wrap them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.network.graph import OPAQUE
from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    Reading,
    channels_last,
    first_data,
    list_weights,
    reads,
    variable_name,
)

_RECURRENT = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}

_CELLS = {f"{name}Cell": kind for name, kind in _RECURRENT.items()}

# An LSTM's gates are in PyTorch's order: i, f, g, o.
_GATES = {"lstm": "ifgo", "gru": "zrn"}


@reads("LSTM", "GRU", "SimpleRNN")
def _read_recurrent(event: Event) -> Reading:
    kind = _RECURRENT[event.name]
    hyper = _recurrent_settings(event.layer, kind)
    hyper["reverse"] = bool(event.layer.go_backwards)
    roles = {path: variable_name(path) for path in list_weights(event)}
    return _recurrent(kind, hyper, roles, event.layer)


@reads("RNN")
def _read_cells(event: Event) -> Reading:
    """A recurrent layer of any cell; of one that has no kind the weights have roles by name."""
    layer = event.layer
    kind = _CELLS.get(type(layer.cell).__name__, "") if _is_keras(layer.cell) else ""
    roles = {path: variable_name(path) for path in list_weights(event)}
    if not kind:
        return Reading(OPAQUE, roles_by_name=roles)
    hyper = _recurrent_settings(layer, kind)
    hyper["reverse"] = bool(layer.go_backwards)
    return _recurrent(kind, hyper, roles, layer.cell)


def _is_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.")


@reads("TimeDistributed")
def _read_time_distributed(event: Event) -> Reading:
    """A dense layer at every time step is the dense layer of the whole sequence."""
    dense = event.layer.layer
    depth, out = dense.kernel.shape
    hyper = {"bias": dense.bias is not None, "in": int(depth), "out": int(out)}
    roles = {path: variable_name(path) for path in list_weights(event)}
    axes = channels_last(len(first_data(event).shape))
    return Reading("dense", hyper, weight_axes={"kernel": "I O"}, roles_by_name=roles, axes=axes,
                   input_axes=axes)  # fmt: skip


@reads("Bidirectional")
def _read_bidirectional(event: Event) -> Reading:
    forward, backward = event.layer.forward_layer, event.layer.backward_layer
    kind = _RECURRENT[next(name for name in _RECURRENT
                           if isinstance(forward, _keras_layer(name)))]  # fmt: skip
    hyper = {**_recurrent_settings(forward, kind), "bidirectional": True}
    paths = {variable.path for variable in backward.variables}
    roles = {
        path: variable_name(path) + ("_reverse" if path in paths else "")
        for path in list_weights(event)
    }
    return _recurrent(kind, hyper, roles, forward)


def _keras_layer(name: str) -> Any:
    import keras

    return getattr(keras.layers, name)


def _recurrent_settings(layer: Any, kind: str) -> dict[str, Any]:
    cell = getattr(layer, "cell", layer)
    hyper: dict[str, Any] = {
        "units": int(cell.units),
        "layers": 1,
        "bidirectional": False,
        "time_major": False,
        "last": not layer.return_sequences,
    }
    if kind in _GATES:
        hyper["gates"] = _GATES[kind]
    if kind == "gru":
        hyper["reset_after"] = bool(cell.reset_after)
    if kind == "rnn":
        hyper["relu"] = _name(cell.activation) == "relu"
    return hyper


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _recurrent(kind: str, hyper: dict[str, Any], roles: Mapping[str, str], layer: Any) -> Reading:
    """Return a recurrent layer; one with other activations than the kind has is opaque."""
    gate = getattr(layer, "recurrent_activation", None)
    is_known = _name(layer.activation) == "tanh" or bool(hyper.get("relu"))
    is_known &= gate is None or _name(gate) == "sigmoid"
    order = {role: "I O" for role in roles.values() if "kernel" in role}
    # Of the input and of the state, with the reset gate behind the product.
    order |= {role: "B C" for role in roles.values() if "bias" in role and hyper.get("reset_after")}
    axes = "N C" if hyper["last"] else "N T C"
    if not is_known:
        kind, hyper = OPAQUE, {}
    return Reading(kind, hyper, weight_axes=order, roles_by_name=roles, axes=axes,
                   input_axes="N T C")  # fmt: skip
