"""What makes the inputs of an operation: constants, and operations without a partner."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.layout import channels_first, move_channels_first
from parity.comparison.graphs.structure import locate
from parity.explain.captures import NEARBY
from parity.explain.proof.layer import Layer, evaluate
from parity.explain.proof.reconstruction import TOLERANCE
from parity.network import kinds
from parity.network.alignment import infer_axes
from parity.network.graph import Graph, Node
from parity.network.kind import COMPLEX

Array = NDArray[Any]

_STEPS_BEFORE = 10
"""The operations, one after the other, before one whose tensors may explain it."""


def find_unpaired_inputs(
    graph: Graph, node: Node, unpaired: Collection[str], known: Mapping[str, Array]
) -> dict[int, Layer]:
    """Return the operations without a partner that make the inputs of an operation, by place.

    `known` are the tensors that they read, channels first.
    """
    order = infer_axes(graph)
    found = {}
    for place, tensor in enumerate(node.inputs):
        before = graph.producers.get(tensor)
        if before is None or before.id not in unpaired or kinds.find(before.kind) is None:
            continue
        if before.parameters or any(each not in known for each in before.inputs):
            continue
        before, inputs, constants = with_constants(graph, before, known)
        moved = move_channels_first(graph, before, order)
        found[place] = Layer(moved.kind, inputs, moved.hyper, constants=constants)
    return found


def list_input_reshapes(graph: Graph, node: Node) -> tuple[str, ...]:
    """Return the last operation that changes the shape alone before each input, each once."""
    found = []
    for tensor in node.inputs:
        before, steps = graph.producers.get(tensor), 0
        while before is not None and len(before.inputs) == 1 and steps < _STEPS_BEFORE:
            kind = kinds.find(before.kind)
            if kind is None or not (kind.moves_values or kind.passive):
                break
            if kind.keeps_order:
                found.append(f"`{locate(before)}`")
                break
            before, steps = graph.producers.get(before.inputs[0]), steps + 1
    return tuple(dict.fromkeys(found))


def list_tensors_around(graph: Graph, nodes: Sequence[str]) -> list[str]:
    """Return the tensors that the operations near `nodes` read and give."""
    wanted: list[str] = []
    positions = {node.id: at for at, node in enumerate(graph.nodes)}
    for each in nodes:
        here = positions[each]
        for node in graph.nodes[max(here - 2 * NEARBY, 0) : here + 2 * NEARBY]:
            wanted += [*node.inputs, *node.outputs[:1]]
        wanted += graph.by_id[each].constant_ids.values()
    return list(dict.fromkeys(wanted))


def list_tensors_before(graph: Graph, node: Node) -> list[str]:
    """Return the tensors that lead to an operation in a few steps, the nearest first."""
    found: dict[str, None] = {}
    nearest = list(node.inputs)
    for _ in range(_STEPS_BEFORE):
        found.update(dict.fromkeys(nearest))
        producers = [graph.producers.get(tensor) for tensor in nearest]
        inputs = [tensor for each in producers if each is not None for tensor in each.inputs]
        nearest = [tensor for tensor in dict.fromkeys(inputs) if tensor not in found]
    return list(found)


def with_constants(
    graph: Graph, node: Node, known: Mapping[str, Array], *, as_sum: bool = False
) -> tuple[Node, tuple[Array, ...], frozenset[int]]:
    """Return the inputs of an operation with its constants at their places, and these places.

    One of several values has the shape and the axes of the output, a number the shape (), a
    complex one (2,). With `as_sum` what adds a tensor that is computed from weights, such as the
    rows of a table of positions, is returned as a sum.
    """
    inputs = [known[tensor] for tensor in node.inputs]
    if len(inputs) == 1 and len(node.constant_ids) == 1:
        ((place, found),) = node.constant_ids.items()
        kind = kinds.find(node.kind)
        is_sum = as_sum and node.kind == "bias_add"
        is_whole = _has_all_parts(node, place)
        if found in known and kind is not None and (kind.number_verb or is_sum) and is_whole:
            with contextlib.suppress(ValueError):
                value = np.broadcast_to(known[found], graph.tensors[node.outputs[0]].shape)
                for rearrangement in channels_first(infer_axes(graph).get(node.outputs[0], "")):
                    value = rearrangement.apply(value)
                at = 0 if place == "0" else 1
                inputs.insert(at, np.asarray(value, np.float64))
                if is_sum:
                    node = replace(node, kind="add", parameters=(), hyper={})
                return node, tuple(inputs), frozenset({at})
    kind = kinds.find(node.kind)
    if kind is not None and kind.family == "attention":
        # A mask that depends on no input.
        places = {int(place): found for place, found in node.constant_ids.items()
                  if place.isdigit()}  # fmt: skip
        if set(places) == {len(inputs)} and places[len(inputs)] in known:
            mask = known[places[len(inputs)]]
            return node, (*inputs, np.asarray(mask, np.float64)), frozenset(places)
    return node, *_with_numbers(node, inputs)


def _has_all_parts(node: Node, place: str) -> bool:
    """Return whether a table has the axes of the output: a real one has no parts."""
    flags = node.hyper.get(COMPLEX) or ()
    return not any(flags) or (place.isdigit() and bool(flags[int(place)]))


def _with_numbers(node: Node, inputs: Sequence[Array]) -> tuple[tuple[Array, ...], frozenset[int]]:
    """Return the inputs of an operation with its constants of one value at their places."""
    kind = kinds.find(node.kind)
    numbers = {place: _unwrap(value) for place, value in node.constants.items() if place.isdigit()}
    places = {int(place): np.asarray(value, np.float64) for place, value in numbers.items()
              if isinstance(value, int | float | tuple)}  # fmt: skip
    if kind is None or not kind.joins_branches or not places or len(inputs) != 1:
        return tuple(inputs), frozenset()
    found = list(inputs)
    for place, value in sorted(places.items()):
        found.insert(place, value)
    return tuple(found), frozenset(places)


def _unwrap(value: Any) -> Any:
    """Return the value of a constant that is in lists of one; of a complex one both parts."""
    while isinstance(value, list) and len(value) == 1:
        (value,) = value
    return tuple(value[COMPLEX]) if isinstance(value, dict) and COMPLEX in value else value


def fit(layer: Layer, expected: Array) -> Layer | None:
    """Return a layer that, evaluated in float64, gives a tensor of the reference; None if it fails.

    A mean that keeps its axes has those of the tensor, which the operator leaves out.
    """
    try:
        with np.errstate(all="ignore"):
            output = evaluate(layer)
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    if output.shape != expected.shape:
        if _without_ones(output.shape) != _without_ones(expected.shape):
            return None
        shape = expected.shape
        layer = layer.with_output_transform(lambda array: array.reshape(shape))
        output = output.reshape(shape)
    scale = float(np.abs(expected).max(initial=0.0))
    close = np.abs(output - expected).max(initial=0.0) <= TOLERANCE * scale
    return layer if close else None


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [length for length in shape if length != 1]
