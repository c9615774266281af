"""A recurrent layer with other gates, reset gate, direction or bias: ~0.1 from the second step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, LayerChange, change_hyper
from parity.network import kinds

GATES, RESET, DIRECTION = "gate-order", "reset-gate", "recurrent-direction"
BIAS, STATE, ACTIVATION = "recurrent-bias", "recurrent-weights", "recurrent-activation"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    layer = failing.reference_layer
    kind = kinds.get(layer.kind)
    if not kind.recurrent:
        return
    settings = {setting.name for setting in kind.hyperparameters}
    if kind.gates:
        yield from _propose_gates(failing, kind.gates)
    if "reset_after" in settings:
        after = bool(layer.hyper.get("reset_after", True))
        yield Candidate(
            RESET,
            change_hyper(reset_after=not after),
            f"The reset gate acts {'before' if after else 'after'} the matrix product, not "
            f"{'after' if after else 'before'} it",
            f"{failing.label}: set reset_after={after}",
            0.7,
        )
    if "relu" in settings:
        relu = bool(layer.hyper.get("relu", False))
        yield Candidate(
            ACTIVATION,
            change_hyper(relu=not relu),
            f"Its activation is {'tanh' if relu else 'ReLU'}, not {'ReLU' if relu else 'tanh'}",
            f"{failing.label}: use {'ReLU' if relu else 'tanh'}",
            0.7,
        )
    if "reverse" in settings:
        reverse = bool(layer.hyper.get("reverse", False))
        yield Candidate(
            DIRECTION,
            change_hyper(reverse=not reverse),
            f"It reads the sequence {'forwards' if reverse else 'backwards'}",
            f"{failing.label}: read it {'backwards' if reverse else 'forwards'}",
            0.5,
        )
    yield from _propose_biases(failing)
    suffixes = [name.removeprefix("kernel") for name in layer.weights if name.startswith("kernel")]
    if any(suffix.endswith("_reverse") for suffix in suffixes):
        yield Candidate(
            DIRECTION,
            _exchange_directions,
            "The weights of its two directions are exchanged",
            f"{failing.label}: map forward to forward and backward to backward",
            0.5,
        )
    yield Candidate(
        STATE,
        _exchange_kernels,
        "The kernels of the input and of the state are exchanged",
        f"{failing.label}: map each kernel to its own",
        0.4,
    )


def _propose_gates(failing: FailingLayer, names: str) -> Iterator[Candidate]:
    """Yield every other order of the gates: 23 of an LSTM, 5 of a GRU."""
    for order in itertools.permutations(range(len(names))):
        if list(order) == list(range(len(names))):
            continue
        found = "".join(names[index] for index in order)
        yield Candidate(
            GATES,
            _reorder_gates(order),
            f"Its gates are in the order {found}, not {names}",
            f"{failing.label}: put the gates of its weights in the order {names}",
            0.6,
        )


def _reorder_gates(order: Sequence[int]) -> LayerChange:
    def change(layer: Layer) -> Layer:
        return layer.with_weights(
            **{name: _reorder(value, order) for name, value in layer.weights.items()}
        )

    return change


def _reorder(value: Array, order: Sequence[int]) -> Array:
    """Return a weight whose blocks of gates are in another order; a bias may have two rows."""
    axis = 1 if value.ndim == 2 and len(value) == 2 and value.shape[1] % len(order) == 0 else 0
    if value.shape[axis] % len(order):
        raise ValueError("the weight has no blocks of gates")
    return np.concatenate([np.split(value, len(order), axis)[index] for index in order], axis)


def _propose_biases(failing: FailingLayer) -> Iterator[Candidate]:
    names = [name for name in failing.reference_layer.weights if "bias" in name]
    options: list[tuple[str, list[str]]] = [
        ("All its biases are 0", names),
        ("The bias of its input is 0", [name for name in names if name.startswith("bias")]),
        ("The bias of its state is 0", [name for name in names if "recurrent" in name]),
    ]
    for text, zeroed in options:
        if zeroed:
            yield Candidate(
                BIAS,
                _zero(zeroed),
                f"{text}",
                f"{failing.label}: copy its biases; two biases of one framework are one sum in "
                "the other",
                0.5,
            )


def _zero(names: Sequence[str]) -> LayerChange:
    return lambda layer: layer.with_weights(
        **{name: np.zeros_like(layer.weights[name]) for name in names}
    )


def _exchange_directions(layer: Layer) -> Layer:
    found = {}
    for name, value in layer.weights.items():
        forward = name.endswith("_reverse")
        other = name.removesuffix("_reverse") if forward else f"{name}_reverse"
        found[other] = value
    return layer.with_weights(**found)


def _exchange_kernels(layer: Layer) -> Layer:
    pairs = [(name, f"recurrent_{name}") for name in layer.weights if name.startswith("kernel")]
    found = {}
    for first, second in pairs:
        if layer.weights[first].shape != layer.weights[second].shape:
            raise ValueError("the kernels have other shapes")
        found[first], found[second] = layer.weights[second], layer.weights[first]
    return layer.with_weights(**found)
