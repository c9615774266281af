"""Two neighbouring operations that one side has in the other order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.explain.proof.region import Region
from parity.explain.proof.region_statements import DifferenceText, DifferenceType, name_operation
from parity.explain.proof.region_walk import RegionWalk, Substitution, have_same_kind, keeps_values
from parity.network.graph import Graph, Node


@dataclass(frozen=True)
class Exchange:
    """Two operations that the subject has in the other order, and how the reference shows that.

    One of them makes the row's tensor on both sides; the other one is before it on one side and
    behind it on the other.
    """

    reference: tuple[Node, Node]
    subject: tuple[Node, Node]
    """In the order in which each side applies them."""
    source: str
    """The reference's tensor that both begin with."""
    is_behind: bool
    """Whether the reference's other operation is behind the row."""

    def find_edit(self) -> Substitution:
        """Return what the row's operation reads on both sides, where the other one is behind."""
        return Substitution(self.reference[0].inputs[0], self.subject[1].inputs[0])

    def may_have_own_weights(self) -> bool:
        """Return whether the subject's operation before the row has weights, which may be others.

        No weights are copied between operations that are in another order.
        """
        return self.is_behind and bool(self.subject[0].parameters)

    def describe(self, *, has_own_weights: bool = False) -> DifferenceText:
        """Return the difference in words."""
        weights = (
            "; the first has weights of its own, not the reference's" if has_own_weights else ""
        )
        own, wanted = (list(map(name_operation, each)) for each in (self.subject, self.reference))
        return DifferenceText(
            DifferenceType.ORDER,
            f"{own[0]} comes before {own[1]}, the reference has {wanted[0]} before {wanted[1]}"
            f"{weights}",
            f"apply {own[1]} before {own[0]}",
        )


def find_exchange(walk: RegionWalk) -> Exchange | None:
    """Return the operations around a row that the subject has in the other order; None if none.

    All of them give tensors of the shape that they read.
    """
    for is_behind in (True, False):
        short, long = walk.reference, walk.subject
        if not is_behind:
            short, long = long, short
        found = _find_order(walk, short, long, is_behind=is_behind)
        if found is not None:
            return found
    return None


def _find_order(
    walk: RegionWalk, short: Region, long: Region, *, is_behind: bool
) -> Exchange | None:
    """Return an exchange where `short` has one operation before the row, and `long` has two."""
    last, other = _find_maker(short, short.output), _find_maker(long, long.output)
    if last is None or other is None or not _are_equal(walk, last, other, is_behind=is_behind):
        return None
    before = _find_maker(long, other.inputs[0])
    behind = _find_readers(short.graph, short.output)
    if before is None or len(behind) != 1:
        return None
    if not _are_equal(walk, behind[0], before, is_behind=is_behind):
        return None
    if any(have_same_kind(before, node) for node in _find_readers(long.graph, long.output)):
        return None
    sources = _skip_passed(short, last.inputs[0]), _skip_passed(long, before.inputs[0])
    mine, own = sources if is_behind else sources[::-1]
    if not any(o in walk.matches.to_subject.get(m, ()) for m in mine for o in own):
        return None
    pairs = (last, behind[0]), (before, other)
    reference, subject = pairs if is_behind else pairs[::-1]
    source = mine[0]
    shapes = {
        walk.reference.graph.tensors[tensor].shape
        for tensor in (source, *(node.outputs[0] for node in reference))
    }
    if len(shapes) > 1 or source not in walk.reference.values[0]:
        return None
    return Exchange(reference, subject, source, is_behind)


def _are_equal(walk: RegionWalk, short: Node, long: Node, *, is_behind: bool) -> bool:
    """Return whether two operations of one kind have the same settings."""
    first, second = (short, long) if is_behind else (long, short)
    return have_same_kind(first, second) and not walk.compare(first, second)


def _find_maker(region: Region, tensor: str) -> Node | None:
    """Return the operation of one input that makes a tensor, not one that only reshapes it."""
    for each in _skip_passed(region, tensor):
        node = region.find_producer(each)
        if node is not None and not keeps_values(node):
            return node if len(node.inputs) == 1 and len(node.outputs) == 1 else None
    return None


def _skip_passed(region: Region, tensor: str) -> list[str]:
    """Return a tensor, and those that it is only another shape or order of axes of."""
    found = [tensor]
    node = region.find_producer(tensor)
    while node is not None and keeps_values(node):
        found.append(node.inputs[0])
        node = region.find_producer(node.inputs[0])
    return found


def _find_readers(graph: Graph, tensor: str) -> Sequence[Node]:
    """Return the operations that read a tensor, behind those that only reshape it."""
    found: list[Node] = []
    for node in graph.nodes:
        if tensor in node.inputs:
            found += _find_readers(graph, node.outputs[0]) if keeps_values(node) else [node]
    return found
