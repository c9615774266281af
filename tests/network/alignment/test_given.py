"""Pairs that are given are kept, and the rest follows them."""

import random

import pytest

from parity.errors import AlignmentError
from parity.network.alignment import Alignment, Confidence, GivenPair, align
from tests.network.alignment.architectures import FAMILIES
from tests.network.alignment.networks import KERAS, Net, Rendering, render
from tests.network.alignment.truth import check


def _branches() -> Net:
    """Two branches that nothing tells apart, behind one convolution."""
    net = Net()
    x = net.conv(net.input(3, 16, 16), 8)
    one, two = (net.act(net.conv(x, 8)) for _ in range(2))
    net.outputs = [net.conv(net.op("add", one, two), 4)]
    return net


def _partners(alignment: Alignment) -> dict[str, tuple[str, ...]]:
    return {node: pair.other for pair in alignment.pairs for node in pair.reference}


def _nodes(rendering: Rendering, kind: str) -> list[str]:
    return [node.id for node in rendering.graph.nodes if node.kind == kind]


def test_the_given_branch_is_taken_and_what_follows_it() -> None:
    left, right = render(_branches()), render(_branches(), seed=1)
    convs, others = _nodes(left, "conv"), _nodes(right, "conv")
    relus, other_relus = _nodes(left, "relu"), _nodes(right, "relu")
    for partner in (1, 2):
        given = [GivenPair((convs[1],), (others[partner],), "row 1")]
        alignment = align(left.graph, right.graph, given=given)
        found = _partners(alignment)
        assert found[convs[1]] == (others[partner],)
        assert found[convs[2]] == (others[3 - partner],)
        assert found[relus[0]] == (other_relus[partner - 1],)
        pair = next(pair for pair in alignment.pairs if convs[1] in pair.reference)
        assert (pair.confidence, pair.reason) == (Confidence.SURE, "given")


def test_operations_without_weights_can_be_given() -> None:
    left, right = render(_branches()), render(_branches(), seed=1)
    relus, others = _nodes(left, "relu"), _nodes(right, "relu")
    given = [GivenPair((relus[0],), (others[1],), "row 1")]
    found = _partners(align(left.graph, right.graph, given=given))
    assert found[relus[0]] == (others[1],)
    assert found[relus[1]] == (others[0],)


def test_an_operation_that_is_given_no_partner_has_none() -> None:
    left, right = render(_branches()), render(_branches(), seed=1)
    for kind in ("conv", "relu"):
        node, other = _nodes(left, kind)[0], _nodes(right, kind)[1]
        alignment = align(left.graph, right.graph, given=[GivenPair((node,), (), "row 1")])
        assert node in alignment.unpaired_reference
        assert node not in _partners(alignment)
        alignment = align(left.graph, right.graph, given=[GivenPair((), (other,), "row 1")])
        assert other in alignment.unpaired_other


@pytest.mark.parametrize("family", FAMILIES)
def test_right_pairs_that_are_given_change_nothing(family: str) -> None:
    net = FAMILIES[family]()
    left, right = render(net), render(net, KERAS, seed=3)
    free = align(left.graph, right.graph)
    chosen = random.Random(family).sample(free.pairs, min(5, len(free.pairs)))
    given = [GivenPair(pair.reference, pair.other, "row") for pair in chosen]
    alignment = align(left.graph, right.graph, given=given)
    score = check(alignment, left, right)
    assert not score.wrong_pairs
    assert not score.missed
    assert _partners(alignment) == _partners(free)


def test_a_given_pair_is_kept_where_it_is_wrong() -> None:
    """The user's word counts: another place, another shape."""
    net = FAMILIES["plain"]()
    left, right = render(net), render(net, KERAS, seed=3)
    convs, others = _nodes(left, "conv"), _nodes(right, "conv")
    alignment = align(left.graph, right.graph, given=[GivenPair((convs[0],), (others[-1],), "r")])
    assert others[-1] in _partners(alignment)[convs[0]]
    for node in convs[1:]:
        assert others[-1] not in _partners(alignment).get(node, ())


def test_pairs_that_contradict_one_another_are_refused() -> None:
    left, right = render(_branches()), render(_branches(), seed=1)
    convs, others = _nodes(left, "conv"), _nodes(right, "conv")
    relu = _nodes(right, "relu")[0]
    twice = [GivenPair((convs[0],), (others[0],), "row 1"),
             GivenPair((convs[0],), (others[1],), "row 2")]  # fmt: skip
    with pytest.raises(AlignmentError, match="row 2: contradicts a row above it"):
        align(left.graph, right.graph, given=twice)
    both = [GivenPair((convs[0],), (others[0],), "row 1"),
            GivenPair((convs[1],), (others[0],), "row 2")]  # fmt: skip
    with pytest.raises(AlignmentError, match="row 2: contradicts"):
        align(left.graph, right.graph, given=both)
    with pytest.raises(AlignmentError, match="row 1: a layer with weights and one without"):
        align(left.graph, right.graph, given=[GivenPair((convs[0],), (relu,), "row 1")])
    with pytest.raises(AlignmentError, match="row 1: the operation changes a shape alone"):
        align(left.graph, right.graph, given=[GivenPair(("absent",), (relu,), "row 1")])
