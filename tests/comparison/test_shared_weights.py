"""A weight that one model reads twice and the other has twice is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from parity.comparison.graphs.shared_weights import describe_shared
from parity.network.alignment import Alignment
from parity.network.alignment.result import Confidence, NodePair, WeightPair
from parity.network.alignment.transform import Slice, WeightTransform


def state(*pairs: WeightPair, exported_from: str = "") -> Any:
    nodes = tuple(
        NodePair((f"n{at}",), (f"m{at}",), (), (pair,), Confidence.SURE, "", "dense")
        for at, pair in enumerate(pairs)
    )
    model = SimpleNamespace(subject=SimpleNamespace(exported_from=exported_from))
    return cast(
        Any,
        SimpleNamespace(
            reference=SimpleNamespace(subject=SimpleNamespace(name="torch")),
            models={"keras": model},
            alignments={"keras": Alignment(nodes)},
        ),
    )


def pair(reference: str, other: str, transform: WeightTransform | None = None) -> WeightPair:
    return WeightPair(reference, other, transform or WeightTransform())


def test_a_weight_that_is_read_twice_is_said_with_its_partners():
    (line,) = describe_shared(
        state(pair("start.weight", "start/kernel"), pair("start.weight", "end/kernel"))
    )
    assert line.startswith("torch reads start.weight where keras has 2 weights of its own")
    assert "(start/kernel, end/kernel)" in line
    (line,) = describe_shared(state(pair("a", "one"), pair("b", "one")))
    assert line.startswith("keras reads one where torch has 2 weights of its own (a, b)")


def test_a_tied_head_is_said():
    turned = WeightTransform(order=(1, 0))
    (line,) = describe_shared(state(pair("emb.weight", "emb"), pair("emb.weight", "head", turned)))
    assert "(emb, head)" in line


def test_weights_that_are_one_to_one_parts_of_one_or_of_an_export_are_not():
    assert describe_shared(state(pair("a", "x"), pair("b", "y"), pair("a", "x"))) == []
    parts = [WeightTransform(take=(Slice(0, at, at + 2),)) for at in (0, 2)]
    assert describe_shared(state(*(pair("qkv", f"p{n}", t) for n, t in enumerate(parts)))) == []
    terms = [WeightTransform(term=at) for at in (0, 1)]
    assert describe_shared(state(*(pair(f"b{n}", "bias", t) for n, t in enumerate(terms)))) == []
    twice = pair("a", "x"), pair("a", "y")
    assert describe_shared(state(*twice, exported_from="torch")) == []
