"""Pairs of normalisations that only one model has behind another operation of its own.

The alignment pairs a convolution and the affine parts behind it as one unit. Where one model has a
factor or another operation between the two, the parts differ, and the normalisation is left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parity.network.alignment import Alignment, NodePair, TensorPair, WeightPair
from parity.network.alignment.result import Confidence
from parity.network.alignment.transform import WeightTransform
from parity.network.graph import Graph, Node
from parity.network.rearrangement import Rearrangement

_MOST = 6
"""As many operations behind a paired tensor are followed."""


def pair_norms(reference: Graph, other: Graph, alignment: Alignment) -> Alignment:
    """Return the alignment with pairs of the normalisations that are left over on both sides.

    Each follows one paired tensor, with nothing between but operations that have no partner and
    are read once, and is the only one of its kind there. Its tensors have the rearrangement of the
    paired tensor.
    """
    left, right = set(alignment.unpaired_reference), set(alignment.unpaired_other)
    added: dict[str, NodePair] = {}
    for _, tensors in alignment.tensors:
        own = _follow(reference, tensors.reference, left)
        theirs = _follow(other, tensors.other, right)
        for node in own:
            same = [each for each in theirs if _fits(node, each)]
            alone = [each for each in own if each.kind == node.kind]
            if len(same) == 1 and len(alone) == 1:
                added[node.id] = _pair(node, same[0], tensors.rearrangement)
    if not added:
        return alignment
    order = {node.id: place for place, node in enumerate(reference.nodes)}
    pairs = sorted((*alignment.pairs, *added.values()), key=lambda pair: order[pair.reference[0]])
    taken = {node for pair in added.values() for node in pair.other}
    names = [{weights.reference for pair in added.values() for weights in pair.weights},
             {weights.other for pair in added.values() for weights in pair.weights}]  # fmt: skip
    return replace(
        alignment,
        pairs=tuple(pairs),
        unpaired_reference=tuple(n for n in alignment.unpaired_reference if n not in added),
        unpaired_other=tuple(n for n in alignment.unpaired_other if n not in taken),
        missing_parameters=_without(alignment.missing_parameters, names[0]),
        surplus_parameters=_without(alignment.surplus_parameters, names[1]),
    )


def _follow(graph: Graph, tensor: str, unpaired: set[str]) -> list[Node]:
    """Return the normalisations behind a tensor, up to the first operation that has a partner."""
    found: list[Node] = []
    for _ in range(_MOST):
        readers = graph.consumers.get(tensor, ())
        if len(readers) != 1 or readers[0].id not in unpaired or len(readers[0].outputs) != 1:
            break
        if readers[0].kind.endswith("_norm") and readers[0].parameters:
            found.append(readers[0])
        tensor = readers[0].outputs[0]
    return found


def _fits(node: Node, other: Node) -> bool:
    if node.kind != other.kind or len(node.parameters) != len(other.parameters):
        return False
    roles = {each.role: each.shape for each in node.parameters}
    return roles == {each.role: each.shape for each in other.parameters} and "" not in roles


def _pair(node: Node, other: Node, rearrangement: Rearrangement) -> NodePair:
    weights = tuple(
        WeightPair(each.name, partner.name, WeightTransform())
        for each in node.parameters
        if (partner := other.find_parameter(each.role)) is not None
    )
    return NodePair(
        (node.id,),
        (other.id,),
        (TensorPair(node.outputs[0], other.outputs[0], rearrangement),),
        weights,
        Confidence.PROBABLE,
        "the only one of its kind behind paired layers",
        node.kind,
        other.kind,
    )


def _without(names: Sequence[str], taken: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in taken)
