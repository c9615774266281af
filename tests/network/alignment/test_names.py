"""Names as the last anchor: asked only where structure leaves layers open, and never believed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parity.network.alignment import Alignment, Confidence, GivenPair, align, propose_by_names
from parity.network.alignment.matching import Features
from parity.network.alignment.names import _pair_names
from parity.network.graph import OPAQUE, Graph, Node, Parameter, Port, Tensor

LEFT = ("net.low.weight", "net.high.weight")
RIGHT = ("model/net/low/kernel", "model/net/high/kernel")


def _graph(names: tuple[str, ...], uses: tuple[int, ...] = (0, 1), last: str = "add") -> Graph:
    """Products of one shape that read the same; a sum reads all of them alike."""
    axes = "I O" if "/" in names[0] else ""
    kernel = (4, 3) if axes else (3, 4)
    nodes, ends = [], []
    tensors = {"x": Tensor("x", (1, 4), "float32"), "y": Tensor("y", (1, 3), "float32")}
    for place, number in enumerate(uses):
        weight = Parameter(names[number], "kernel", kernel, "float32", axes)
        made, end = f"t{place}", f"e{place}"
        nodes.append(Node(made, "dense", "dense", ("x",), (made,), (weight,), {"in": 4, "out": 3}))
        nodes.append(Node(f"n{place}", OPAQUE, "f", (made,), (end,)))
        tensors |= {name: Tensor(name, (1, 3), "float32") for name in (made, end)}
        ends.append(end)
    nodes.append(Node("y", last, last, tuple(ends), ("y",)))
    return Graph("keras" if axes else "torch", tuple(nodes), tensors, (Port("x", "x"),),
                 (Port("y", "y"),))  # fmt: skip


def _weights(alignment: Alignment | None) -> set[tuple[str, str]] | None:
    if alignment is None:
        return None
    return {(pair.reference, pair.other) for pair in alignment.weights}


def test_names_propose_partners_that_structure_leaves_open():
    expected = set(zip(LEFT, RIGHT, strict=True))
    proposed = []
    for names in (RIGHT, RIGHT[::-1]):
        left, right = _graph(LEFT), _graph(names)
        alignment = align(left, right)
        assert {pair.confidence for pair in alignment.pairs if pair.weights} == {
            Confidence.AMBIGUOUS
        }
        found = propose_by_names(alignment)
        assert (_weights(found) or _weights(alignment)) == expected
        if found is not None:
            proposed.append(found)
    # Of the two orders one is right at once.
    (found,) = proposed
    assert {pair.confidence for pair in found.pairs if pair.weights} == {Confidence.AMBIGUOUS}


@pytest.mark.parametrize(
    "names",
    [
        ("model/net/low/kernel", "model/net/other/kernel"),
        ("model/a/kernel", "model/b/kernel"),
        ("one/low/kernel", "two/net/low/kernel"),
        ("kernel", "weight"),
    ],
)
def test_names_of_which_one_has_no_partner_propose_nothing(names):
    for each in (names, names[::-1]):
        assert propose_by_names(align(_graph(LEFT), _graph(each))) is None


def test_a_weight_that_is_used_more_often_elsewhere_is_no_partner():
    left, right = _graph(LEFT, (0, 1, 1)), _graph(RIGHT, (1, 0, 0))
    assert propose_by_names(align(left, right)) is None


def test_weights_decide_where_both_models_hold_the_same(monkeypatch):
    monkeypatch.setattr(Features, "anchored", True)
    alignments = [align(_graph(LEFT), _graph(names)) for names in (RIGHT, RIGHT[::-1])]
    assert [propose_by_names(each) for each in alignments] == [None, None]


def test_where_structure_decides_names_are_not_asked():
    for names in (RIGHT, RIGHT[::-1]):
        alignment = align(_graph(LEFT, last="concat"), _graph(names, last="concat"))
        assert {pair.confidence for pair in alignment.pairs if pair.weights} == {Confidence.SURE}
        assert propose_by_names(alignment) is None


def test_what_the_user_gives_and_what_is_sure_stays():
    right = _graph(RIGHT[::-1])
    given = [GivenPair(("t0",), ("t0",), "row 1")]
    assert propose_by_names(align(_graph(LEFT), right, given=given)) is None
    single = align(_graph(LEFT[:1], (0,)), _graph(("model/other/kernel",), (0,)))
    assert propose_by_names(single) is None
    with pytest.raises(TypeError, match="does not come from"):
        propose_by_names(replace(single, assembly=None))


def test_paths_are_compared_without_separators_and_the_models_name():
    found = _pair_names(["C.0.weight", "C.10.weight"], ["m/C10/embeddings", "m/C0/embeddings"])
    assert found == {"C.0.weight": "m/C0/embeddings", "C.10.weight": "m/C10/embeddings"}
    # "0" is the end of both.
    assert _pair_names(["0.weight", "1.weight"], ["m/a0/kernel", "m/b0/kernel"]) == {}
    assert _pair_names(["0.weight", "a0.weight"], ["m0/kernel", "ma0/kernel"]) == {}
    assert _pair_names(["a.weight"], ["m/a/kernel", "m/b/kernel"]) == {}
    assert _pair_names(["a.weight"], ["kernel"]) == {}
