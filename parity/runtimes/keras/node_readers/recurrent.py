"""Readers of recurrent layers, of the layers that wrap them, and of their single cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.network import kinds
from parity.network.graph import OPAQUE
from parity.network.kinds.recurrent import ACTIVATIONS
from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    channels_last,
    first_data,
    list_weights,
    register_reader,
    variable_name,
)

_RECURRENT = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}

_CELLS = {f"{name}Cell": kind for name, kind in _RECURRENT.items()}

# An LSTM's gates are in PyTorch's order: i, f, g, o.
_GATES = {"lstm": "ifgo", "gru": "zrn"}

_ROLES = ("kernel", "recurrent_kernel", "bias")


@register_reader("LSTM", "GRU", "SimpleRNN")
def _read_recurrent(event: Event) -> NodeReading:
    kind = _RECURRENT[event.name]
    hyperparameters = _recurrent_settings(event.layer, kind)
    hyperparameters["reverse"] = bool(event.layer.go_backwards)
    roles = {path: variable_name(path) for path in list_weights(event)}
    return _recurrent(kind, hyperparameters, roles, event.layer)


@register_reader("RNN")
def _read_cells(event: Event) -> NodeReading:
    """A recurrent layer of any cell; of one that has no kind the weights have roles by name."""
    layer = event.layer
    kind = _CELLS.get(type(layer.cell).__name__, "") if _is_keras(layer.cell) else ""
    roles = {path: variable_name(path) for path in list_weights(event)}
    if not kind:
        return NodeReading(OPAQUE, roles_by_name=roles)
    hyperparameters = _recurrent_settings(layer, kind)
    hyperparameters["reverse"] = bool(layer.go_backwards)
    return _recurrent(kind, hyperparameters, roles, layer.cell)


@register_reader("LSTMCell", "GRUCell", "SimpleRNNCell")
def _read_cell(event: Event) -> NodeReading:
    """One step, which reads its input and its states; those that are all 0 are left out.

    The first states may be weights of the model's own, which have no role in the cell.
    """
    kind = _CELLS[event.name]
    hyperparameters = _cell_settings(event.layer, kind)
    own = {variable.path for variable in event.layer.variables}
    roles = {
        path: name
        for path in list_weights(event)
        if path in own and (name := variable_name(path)) in _ROLES
    }
    reading = _recurrent(kind, hyperparameters, roles, event.layer, axes="N C", input_axes="N C")
    if reading.kind != OPAQUE:
        reading.kind = f"{kind}_cell"
    if event.arguments["zeros"]:
        count = len(event.arguments["states"])
        reading.setting_inputs = frozenset(range(1, count + 1))
    return reading


def _is_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.")


@register_reader("TimeDistributed")
def _read_time_distributed(event: Event) -> NodeReading:
    """A dense layer at every time step is the dense layer of the whole sequence."""
    dense = event.layer.layer
    depth, out = dense.kernel.shape
    hyperparameters = {"bias": dense.bias is not None, "in": int(depth), "out": int(out)}
    roles = {path: variable_name(path) for path in list_weights(event)}
    axes = channels_last(len(first_data(event).shape))
    return NodeReading(
        "dense",
        hyperparameters,
        weight_axes={"kernel": "I O"},
        roles_by_name=roles,
        axes=axes,
        input_axes=axes,
    )


@register_reader("Bidirectional")
def _read_bidirectional(event: Event) -> NodeReading:
    forward, backward = event.layer.forward_layer, event.layer.backward_layer
    kind = _RECURRENT[next(name for name in _RECURRENT
                           if isinstance(forward, _keras_layer(name)))]  # fmt: skip
    hyperparameters = {**_recurrent_settings(forward, kind), "bidirectional": True}
    paths = {variable.path for variable in backward.variables}
    roles = {
        path: variable_name(path) + ("_reverse" if path in paths else "")
        for path in list_weights(event)
    }
    return _recurrent(kind, hyperparameters, roles, forward)


def _keras_layer(name: str) -> Any:
    import keras

    return getattr(keras.layers, name)


def _recurrent_settings(layer: Any, kind: str) -> dict[str, Any]:
    return {
        **_cell_settings(getattr(layer, "cell", layer), kind),
        "layers": 1,
        "bidirectional": False,
        "time_major": False,
        "last": not layer.return_sequences,
    }


def _cell_settings(cell: Any, kind: str) -> dict[str, Any]:
    hyperparameters: dict[str, Any] = {"units": int(cell.units)}
    if kind in _GATES:
        hyperparameters["gates"] = _GATES[kind]
    if kind == "gru":
        hyperparameters["reset_after"] = bool(cell.reset_after)
    if kind == "rnn":
        hyperparameters["relu"] = _name(cell.activation) == "relu"
    return hyperparameters


def _read_activations(layer: Any) -> dict[str, Any] | None:
    """Return the activations of a gated layer, where they are not the usual ones.

    None if one of them has no kind.
    """
    found = {}
    for name, attribute, usual in (
        ("cell_activation", "activation", "tanh"),
        ("recurrent_activation", "recurrent_activation", "sigmoid"),
    ):
        stated = _name(getattr(layer, attribute))
        kind = kinds.find_by_function("keras", stated)
        if kind is None or kind.name not in ACTIVATIONS:
            return None
        if kind.name != usual:
            found[name] = kind.name
    return found


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _recurrent(
    kind: str,
    hyperparameters: dict[str, Any],
    roles: Mapping[str, str],
    layer: Any,
    *,
    axes: str = "",
    input_axes: str = "N T C",
) -> NodeReading:
    """Return a recurrent layer; one with activations that the kind cannot have is opaque.

    `axes` are those of its output, where it is no whole sequence or its last step.
    """
    if kind in _GATES:
        activations = _read_activations(layer)
    else:
        is_known = _name(layer.activation) == "tanh" or bool(hyperparameters["relu"])
        activations = {} if is_known else None
    order = {role: "I O" for role in roles.values() if "kernel" in role}
    # Of the input and of the state, with the reset gate behind the product.
    order |= {
        role: "B C"
        for role in roles.values()
        if "bias" in role and hyperparameters.get("reset_after")
    }
    axes = axes or ("N C" if hyperparameters["last"] else "N T C")
    if activations is None:
        kind, hyperparameters = OPAQUE, {}
    else:
        hyperparameters = {**hyperparameters, **activations}
    return NodeReading(
        kind,
        hyperparameters,
        weight_axes=order,
        roles_by_name=roles,
        axes=axes,
        input_axes=input_axes,
    )
