"""Recurrent layers, LSTM, GRU and the simple RNN, of any number of layers, and their single cells.

The first layer's weights are `kernel`, `recurrent_kernel`, `bias` and `recurrent_bias`; a further
layer's have `_l1`, `_l2`, … behind the name, and the backward direction's `_reverse` behind that.
The gates are in PyTorch's order, i, f, g, o of an LSTM, r, z, n of a GRU, unless `gates` states
another one. A bias of two rows holds that of the input and that of the state.

A cell is one step of a layer, with the weights of the first layer: a model calls it in a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.kind import Hyperparameter, Kind, Operator, Role
from parity.network.kinds import activation

Array = NDArray[np.float64]

MAX_LAYERS = 8
"""As many layers of one operation have roles."""

Project = Callable[[Array], Array]
"""The share of a state (N, U) of the gates."""

Step = Callable[[Array, Project, Array, Array, Mapping[str, Any]], tuple[Array, Array]]
"""From the input's share of the gates, the projection of a state, the state, the cell and the
settings, to the next state and cell."""


ACTIVATIONS: Mapping[str, Kind] = {
    kind.name: kind for kind in activation.KINDS if kind.activation and not kind.roles
}
"""What a gate, or a cell, may compute, by the name of its kind."""


def _activate(data: Array, hyper: Mapping[str, Any], name: str) -> Array:
    """Return the function that the setting `name` names, with its defaults."""
    kind = ACTIVATIONS[hyper[name]]
    return np.asarray(kind.compute((data,), {}, kind.complete({})))


def _lstm_step(
    inner: Array, project: Project, state: Array, cell: Array, hyper: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000)."""
    i, f, g, o = np.split(inner + project(state), 4, axis=-1)
    i, f, o = (_activate(each, hyper, "recurrent_activation") for each in (i, f, o))
    cell = f * cell + i * _activate(g, hyper, "cell_activation")
    return np.asarray(o * _activate(cell, hyper, "cell_activation")), cell


def _gru_step(
    inner: Array, project: Project, state: Array, cell: Array, hyper: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Cho et al. (2014); with `reset_after` the reset gate acts behind the matrix product, as in
    cuDNN.
    """
    (ri, zi, ni), (rh, zh, nh) = (np.split(each, 3, axis=-1) for each in (inner, project(state)))
    reset = _activate(ri + rh, hyper, "recurrent_activation")
    update = _activate(zi + zh, hyper, "recurrent_activation")
    nh = reset * nh if hyper["reset_after"] else np.split(project(reset * state), 3, axis=-1)[2]
    new = _activate(ni + nh, hyper, "cell_activation")
    return (1.0 - update) * new + update * state, cell


def _rnn_step(
    inner: Array, project: Project, state: Array, cell: Array, hyper: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Elman (1990)."""
    total = inner + project(state)
    return np.asarray(np.maximum(total, 0.0) if hyper["relu"] else np.tanh(total)), cell


def _recurrent(step: Step) -> Operator:
    """Return the operator whose output is the last layer's sequence of states; with `last`, the
    last of them.

    With `reverse` the sequence is read from its end, and the states are in that order.

    The input is (N, T, C), or (T, N, C) with `time_major`. Further inputs are the first states and,
    of an LSTM, the first cells, (layers · directions, N, U).
    """

    def compute(
        inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
    ) -> Array:
        data = inputs[0].swapaxes(0, 1) if hyper["time_major"] else inputs[0]
        data = data[:, ::-1] if hyper["reverse"] else data
        last: list[Array] = []
        directions = 2 if hyper["bidirectional"] else 1
        for layer in range(int(hyper["layers"])):
            outputs, last = [], []
            for direction in range(directions):
                place = layer * directions + direction
                start = [tensor[place] for tensor in inputs[1:]]
                suffix = _name_suffix(layer, reverse=direction == 1)
                ordered = data[:, ::-1] if direction else data
                states = _run_layer(step, ordered, weights, suffix, hyper, start)
                last.append(states[:, -1])
                outputs.append(states[:, ::-1] if direction else states)
            data = np.concatenate(outputs, axis=-1)
        if hyper["last"]:
            return np.concatenate(last, axis=-1)
        return data.swapaxes(0, 1) if hyper["time_major"] else data

    return compute


def _cell(step: Step) -> Operator:
    """Return the operator whose output is the next state (N, U).

    The input is (N, C). Further inputs are the state and, of an LSTM, the cell's own, (N, U);
    absent ones are 0.
    """

    def compute(
        inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
    ) -> Array:
        return _run_layer(step, inputs[0][:, None], weights, "", hyper, inputs[1:])[:, 0]

    return compute


def _run_layer(
    step: Step,
    data: Array,
    weights: Mapping[str, Array],
    suffix: str,
    hyper: Mapping[str, Any],
    start: Sequence[Array],
) -> Array:
    """Return the states (N, T, U) of one layer in one direction."""
    kernel, recurrent = weights[f"kernel{suffix}"], weights[f"recurrent_kernel{suffix}"]
    bias: Any = weights.get(f"bias{suffix}", 0.0)
    recurrent_bias: Any = weights.get(f"recurrent_bias{suffix}", 0.0)
    if np.ndim(bias) == 2:
        bias, recurrent_bias = bias
    if hyper.get("gates"):
        places = _order_gates(hyper["gates"], recurrent.shape[1])
        kernel, recurrent = kernel[places], recurrent[places]
        bias = bias[places] if np.ndim(bias) else bias
        recurrent_bias = recurrent_bias[places] if np.ndim(recurrent_bias) else recurrent_bias
    inner = data @ kernel.T + bias
    zeros = np.zeros((len(data), recurrent.shape[1]))
    state, cell = (*start, zeros, zeros)[:2] if start else (zeros, zeros)
    states = []

    def project(state: Array) -> Array:
        return np.asarray(state @ recurrent.T + recurrent_bias)

    for time in range(data.shape[1]):
        state, cell = step(inner[:, time], project, state, cell, hyper)
        states.append(state)
    return np.stack(states, axis=1)


def _order_gates(gates: str, units: int) -> NDArray[np.int64]:
    """Return the rows of a weight in PyTorch's order of the gates."""
    wanted = _LSTM_GATES if len(gates) == 4 else _GRU_GATES
    rows = np.arange(len(gates) * units).reshape(len(gates), units)
    return rows[[gates.index(gate) for gate in wanted]].reshape(-1)


def _name_suffix(layer: int, *, reverse: bool) -> str:
    return (f"_l{layer}" if layer else "") + ("_reverse" if reverse else "")


def _list_roles() -> tuple[Role, ...]:
    """Return the roles of every layer and direction; Keras has one bias of its simple layers."""
    found = []
    for layer in range(MAX_LAYERS):
        for reverse in (False, True):
            suffix = _name_suffix(layer, reverse=reverse)
            torch = f"l{layer}" + ("_reverse" if reverse else "")
            plain = not suffix
            found += [
                Role(f"kernel{suffix}", "kernel" if plain else "", f"weight_ih_{torch}", "O I",
                     keras_axes="I O"),
                Role(f"recurrent_kernel{suffix}", "recurrent_kernel" if plain else "",
                     f"weight_hh_{torch}", "O I", keras_axes="I O"),
                Role(f"bias{suffix}", "bias" if plain else "", f"bias_ih_{torch}"),
                Role(f"recurrent_bias{suffix}", "", f"bias_hh_{torch}"),
            ]  # fmt: skip
    return tuple(found)


_CELL_ROLES = (
    Role("kernel", "kernel", "weight_ih", "O I", keras_axes="I O"),
    Role("recurrent_kernel", "recurrent_kernel", "weight_hh", "O I", keras_axes="I O"),
    Role("bias", "bias", "bias_ih"),
    Role("recurrent_bias", "", "bias_hh"),
)
_UNITS = Hyperparameter("units", reshapes=True, optional=True)
_SETTINGS = (
    _UNITS,
    Hyperparameter("layers", 1, optional=True),
    Hyperparameter("bidirectional", False, reshapes=True, optional=True),
    # Whether data is (T, N, C) instead of (N, T, C).
    Hyperparameter("time_major", False, optional=True),
    # Whether the output is the last state alone.
    Hyperparameter("last", False, reshapes=True, optional=True),
    Hyperparameter("reverse", False, optional=True),
)
_LSTM_GATES, _GRU_GATES = "ifgo", "rzn"
_GATES = Hyperparameter("gates", optional=True)
"""The order of the gates in the weights: `ifgo`, `iofg`, `rzn`, `zrn`."""
_GATED = (
    Hyperparameter("recurrent_activation", "sigmoid", optional=True),
    Hyperparameter("cell_activation", "tanh", optional=True),
)
"""The functions of the gates, and of the cell or the new state, as names of kinds."""
_RESET_AFTER = Hyperparameter("reset_after", True, optional=True)
_RELU = Hyperparameter("relu", False, optional=True)
"""Whether the activation is ReLU instead of tanh."""

KINDS = (
    Kind(
        "lstm",
        _recurrent(_lstm_step),
        gates=_LSTM_GATES,
        recurrent=True,
        mixes_axes=True,
        phrase="LSTM",
        roles=_list_roles(),
        hyperparameters=(*_SETTINGS, _GATES, *_GATED),
        torch_functions=("lstm",),
        onnx=("LSTM",),
    ),
    Kind(
        "gru",
        _recurrent(_gru_step),
        gates=_GRU_GATES,
        recurrent=True,
        mixes_axes=True,
        phrase="GRU",
        roles=_list_roles(),
        hyperparameters=(
            *_SETTINGS,
            _GATES,
            *_GATED,
            _RESET_AFTER,
        ),
        torch_functions=("gru",),
        onnx=("GRU",),
    ),
    Kind(
        "rnn",
        _recurrent(_rnn_step),
        recurrent=True,
        mixes_axes=True,
        phrase="simple RNN",
        roles=_list_roles(),
        hyperparameters=(
            *_SETTINGS,
            _RELU,
        ),
        torch_functions=("rnn_tanh", "rnn_relu"),
        onnx=("RNN",),
    ),
    Kind(
        "lstm_cell",
        _cell(_lstm_step),
        family="lstm",
        step=True,
        gates=_LSTM_GATES,
        recurrent=True,
        mixes_axes=True,
        phrase="LSTM cell",
        roles=_CELL_ROLES,
        hyperparameters=(_UNITS, _GATES, *_GATED),
        torch_functions=("lstm_cell",),
    ),
    Kind(
        "gru_cell",
        _cell(_gru_step),
        family="gru",
        step=True,
        gates=_GRU_GATES,
        recurrent=True,
        mixes_axes=True,
        phrase="GRU cell",
        roles=_CELL_ROLES,
        hyperparameters=(_UNITS, _GATES, *_GATED, _RESET_AFTER),
        torch_functions=("gru_cell",),
    ),
    Kind(
        "rnn_cell",
        _cell(_rnn_step),
        family="rnn",
        step=True,
        recurrent=True,
        mixes_axes=True,
        phrase="simple RNN cell",
        roles=_CELL_ROLES,
        hyperparameters=(_UNITS, _RELU),
        torch_functions=("rnn_tanh_cell", "rnn_relu_cell"),
    ),
)
