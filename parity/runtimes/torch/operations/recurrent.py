"""Readers of recurrent layers and of their single cells."""

from __future__ import annotations

from collections.abc import Sequence

from parity.network.graph import OPAQUE
from parity.network.kinds.recurrent import MAX_LAYERS
from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    find_kind,
    register_reader,
    shape_of,
)


@register_reader("lstm gru rnn_tanh rnn_relu")
def _recurrent(name: str, given: Arguments) -> Operation:
    """A call on a packed sequence has other arguments, and is opaque; its weights have roles."""
    packed = "train" in given and not isinstance(given["train"], bool)
    packed = packed or not isinstance(given.get("has_biases"), bool)
    if packed:
        values = list(given.values())
        flat, has_biases, layers = values[3], values[4], values[5]
        bidirectional, batch_first = values[8], False
    else:
        flat, has_biases, layers = given["params"], given["has_biases"], given["num_layers"]
        bidirectional, batch_first = given["bidirectional"], given["batch_first"]
    directions = 2 if bidirectional else 1
    per_layer = len(flat) // max(layers * directions, 1)
    is_projected = per_layer not in (2, 4)
    roles = _recurrent_roles(flat, layers, directions, per_layer, biases=has_biases)
    data = given["input"]
    hyper = {
        "units": shape_of(flat[1])[-1],
        "layers": int(layers),
        "bidirectional": bool(bidirectional),
        "time_major": not batch_first,
    }
    if name.startswith("rnn"):
        hyper["relu"] = name == "rnn_relu"
    states = given.get("hx")
    states = [states] if isinstance(states, Operand) else list(states or ())
    states = [state for state in states if not _is_zero(state)]
    plain = not packed and not is_projected and layers <= MAX_LAYERS and data.tensor.ndim == 3
    kind = find_kind(name, {})
    axes = "N T C" if batch_first else "T N C"
    found = kind.name if kind is not None and plain else OPAQUE
    axes = axes if plain else ""
    return Operation(found, hyper, [data, *states], roles, axes, axes)


@register_reader("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")
def _cell(name: str, given: Arguments) -> Operation:
    """A step from the states that are given; states of zeros are left out."""
    kind = find_kind(name, {})
    if kind is None:
        return Operation(OPAQUE)
    arguments = {"kernel": "w_ih", "recurrent_kernel": "w_hh"}
    arguments |= {"bias": "b_ih", "recurrent_bias": "b_hh"}
    found = {role: given.get(argument) for role, argument in arguments.items()}
    roles = {role: each for role, each in found.items() if isinstance(each, Operand)}
    hyper: dict[str, object] = {"units": shape_of(given["w_hh"])[-1]}
    if name.startswith("rnn"):
        hyper["relu"] = name == "rnn_relu_cell"
    states = given.get("hx")
    states = [states] if isinstance(states, Operand) else list(states or ())
    states = [] if all(map(_is_zero, states)) else states
    return Operation(kind.name, hyper, [given["input"], *states], roles, "N C", "N C")


def _recurrent_roles(
    flat: Sequence[Operand], layers: int, directions: int, per_layer: int, *, biases: bool
) -> dict[str, Operand]:
    """Return the weights by role, as `parity.network.kinds.recurrent` numbers them."""
    names = ["kernel", "recurrent_kernel"] + (["bias", "recurrent_bias"] if biases else [])
    found = {}
    for layer in range(layers):
        for direction in range(directions):
            start = (layer * directions + direction) * per_layer
            suffix = (f"_l{layer}" if layer else "") + ("_reverse" if direction else "")
            part = flat[start : start + len(names)]
            found.update({f"{n}{suffix}": w for n, w in zip(names, part, strict=True)})
    return found


def _is_zero(operand: Operand) -> bool:
    return operand.is_constant and not bool(operand.tensor.any())
