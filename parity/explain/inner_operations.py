"""The operations that both models write out within one row, one by one.

Attention that is written out is one row: its scores, their mask and the softmax have no rows of
their own. Its operations are paired by what they read: the same values, or what paired operations
give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.comparison.graphs.layout import channels_first
from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.explain.captures import round_to_float32
from parity.explain.misread_tensors import agree
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.layer import Array, Layer, evaluate
from parity.explain.proof.search import Attempt, Explanation
from parity.network.alignment import infer_axes
from parity.network.graph import Graph, Node
from parity.numerics.distance import measure_error
from parity.numerics.floor import Floor, compute_floor, perturb
from parity.processes.graph_requests import TensorPoint

_REPLICATES = 4


@dataclass(frozen=True)
class InnerOperation:
    """One operation of a row on both sides; `row` is the row with these as its operations."""

    reference: Node
    subject: Node
    row: GraphRow


def list_row_nodes(state: GraphState, subject: str, row: GraphRow) -> tuple[list[Node], list[Node]]:
    """Return the operations of a row, of the reference and of the subject, in their order."""
    pairs = (each for each in state.alignments[subject].pairs if row.node in each.reference)
    pair = next(pairs, None)
    if pair is None:
        return [], []
    return (
        _in_order(state.reference.graph, pair.reference),
        _in_order(state.models[subject].graph, pair.other),
    )


def pair_inner_operations(
    state: GraphState,
    subject: str,
    row: GraphRow,
    wanted: Mapping[str, Array],
    known: Mapping[str, Array],
) -> list[InnerOperation]:
    """Return the pairs of operations within a row, in their order, if each has a partner.

    `wanted` are the reference's tensors by id, `known` the subject's. Empty where one has none, or
    several might be its partner: then a difference may be in what is written otherwise.
    """
    first, second = list_row_nodes(state, subject, row)
    if min(len(first), len(second)) < 2:
        return []
    partners: dict[str, str] = {}
    pairs: list[tuple[Node, Node]] = []
    left = list(second)
    for one in first:
        fitting = [
            other
            for other in left
            if one.kind == other.kind
            and len(one.inputs) == len(other.inputs)
            and all(
                partners.get(x) == y or agree(wanted.get(x), known.get(y))
                for x, y in zip(one.inputs, other.inputs, strict=True)
            )
        ]
        if len(fitting) > 1:
            # Several read the same: the one that gives the same is its partner.
            given = wanted.get(one.outputs[0])
            fitting = [other for other in fitting if agree(given, known.get(other.outputs[0]))]
        if len(fitting) != 1:
            return []
        pairs.append((one, fitting[0]))
        left.remove(fitting[0])
        partners[one.outputs[0]] = fitting[0].outputs[0]
    if left or not pairs or pairs[-1] != (first[-1], second[-1]):
        return []
    graphs, name = (
        (state.reference.graph, state.models[subject].graph),
        state.reference.subject.name,
    )
    return [
        InnerOperation(
            one,
            other,
            replace(
                row,
                kind=one.kind,
                node=one.id,
                shape=graphs[0].tensors[one.outputs[0]].shape,
                tensors={name: _point(graphs[0], one), subject: _point(graphs[1], other)},
                nodes={subject: (other.id,)},
            ),
        )
        for one, other in pairs
    ]


def list_inner_tensors(nodes: Sequence[Node]) -> list[str]:
    """Return what operations read and give."""
    return [
        tensor
        for node in nodes
        for tensor in (*node.inputs, *node.outputs[:1], *node.constant_ids.values())
    ]


def read_inputs(layer: Layer, inputs: Sequence[Array]) -> Layer | None:
    """Return a reference's operation on the data that the subject's reads; None if it does not fit.

    Its constants stay its own. What rounding, or a difference, has done before is in the data, and
    is not this operation's.
    """
    if [each.shape for each in inputs] != [each.shape for each in layer.inputs]:
        return None
    return replace(
        layer,
        inputs=tuple(
            own if place in layer.constants else given
            for place, (own, given) in enumerate(zip(layer.inputs, inputs, strict=True))
        ),
    )


def measure_floor(layer: Layer) -> tuple[Array, Floor] | None:
    """Return the output of an operation within a row, and its floor, which no run has measured.

    None where it cannot be evaluated.
    """
    rng = np.random.default_rng(0)
    errors = []
    try:
        with np.errstate(all="ignore"):
            output = evaluate(layer)
            for number in range(_REPLICATES):
                moved = [each.astype(np.float32) for each in layer.inputs]
                if number:
                    moved = [perturb(each, rng) for each in moved]
                own = replace(layer, inputs=tuple(each.astype(np.float64) for each in moved))
                rounded = round_to_float32(evaluate(own))
                errors.append(measure_error(actual=rounded, expected=output))
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return output, compute_floor(errors)


def name_operation(explanation: Explanation, label: str) -> Explanation:
    """Return an explanation that says within which operation of its row the difference is."""
    if explanation.proof is None:
        return explanation
    proof: Attempt = explanation.proof
    candidates = tuple(_name(each, label) for each in proof.candidates)
    return replace(explanation, proof=replace(proof, candidates=candidates))


def _name(candidate: Candidate, label: str) -> Candidate:
    text = candidate.text[:1].lower() + candidate.text[1:]
    return replace(candidate, text=f"In its {label}, {text}")


def _in_order(graph: Graph, nodes: Sequence[str]) -> list[Node]:
    wanted = set(nodes)
    return [node for node in graph.nodes if node.id in wanted]


def _point(graph: Graph, node: Node) -> TensorPoint:
    tensor = node.outputs[0]
    return TensorPoint("", tensor, channels_first(infer_axes(graph).get(tensor, "")))
