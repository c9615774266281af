"""Values of a run decide what the structure left open, and repair wrong pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.network.alignment import (
    Alignment,
    Confidence,
    ValueReader,
    align,
    check_values,
    find_agreeing,
    list_exchanges,
    list_tensors,
)
from parity.network.alignment.assembly import Assembly
from parity.network.alignment.weightless import pair_weightless
from parity.network.graph import OPAQUE, Graph, Node, Parameter, Port, Tensor
from tests.network.alignment import architectures
from tests.network.alignment.architectures import FAMILIES
from tests.network.alignment.networks import (
    KERAS,
    ONNX,
    TORCH,
    Net,
    Rendering,
    change_style,
    render,
)
from tests.network.alignment.truth import check, check_rearrangements


def _check(alignment: Alignment, left: Rendering, right: Rendering, **options: Any) -> Alignment:
    def read(side: Rendering, noise: float):
        def get(name: str) -> Any:
            array = side.arrays[name]()
            generator = np.random.default_rng(len(name))
            return array * (1 + noise * generator.standard_normal(array.shape))

        return get

    return check_values(alignment, read(left, 0), read(right, 1e-5), **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_right_pairs_stay(family: str) -> None:
    net = FAMILIES[family]()
    for style in (KERAS, ONNX) if family in ("plain", "transformer", "unet") else (KERAS,):
        left, right = render(net), render(net, style)
        before = align(left.graph, right.graph)
        after = _check(before, left, right)
        assert after == before


def test_open_views_are_derived() -> None:
    """Height and width are equal, and nothing names the axes."""
    net = architectures.unet()
    left, right = (render(net, change_style(style, axes=False)) for style in (TORCH, KERAS))
    bare = [
        Rendering(
            replace(
                side.graph,
                nodes=tuple(
                    replace(n, hyper={k: v for k, v in n.hyper.items() if k != "out"})
                    for n in side.graph.nodes
                ),
            ),
            side.ops,
            side.values,
            side.weights,
            side.arrays,
        )
        for side in (left, right)
    ]
    before = align(bare[0].graph, bare[1].graph)
    assert any(tensor.open for _, tensor in before.tensors)
    after = _check(before, *bare)
    assert not any(tensor.open for _, tensor in after.tensors)
    check_rearrangements(after, *bare)


def _two_branches() -> Net:
    net = Net()
    x = net.input(8, 8, 8)
    branches = [net.act(net.conv(net.act(net.conv(x, 8)), 8)) for _ in range(3)]
    net.finish(net.dense(net.op("gap", net.op("add", *branches)), 3))
    return net


def test_equal_branches_are_told_apart() -> None:
    net = _two_branches()
    left, right = render(net), render(net, change_style(KERAS, pairwise=False), seed=7)
    before = align(left.graph, right.graph)
    assert {p.confidence for p in before.pairs if p.kind == "conv"} == {Confidence.AMBIGUOUS}
    assert check(before, left, right).wrong
    after = _check(before, left, right)
    assert not check(after, left, right).wrong
    assert {p.confidence for p in after.pairs} == {Confidence.SURE}
    assert not after.ambiguous


@pytest.mark.parametrize("seed", range(6))
def test_planted_wrong_pairs_are_repaired(seed: int) -> None:
    choose = np.random.default_rng(seed)
    net = [architectures.inception, architectures.resnet, architectures.transformer][seed % 3]()
    left, right = render(net), render(net, change_style(KERAS, fuse=False), seed=seed)
    alignment = align(left.graph, right.graph)
    assembly = alignment.assembly
    assert isinstance(assembly, Assembly)
    matching = assembly.matching.copy()
    features = matching.features
    swapped = 0
    while swapped < 3:
        one, two = choose.choice(len(features.reference), 2, replace=False)
        kinds = features.reference.kinds
        if kinds[one] == kinds[two] and not features.reference.head(one).is_port:
            pair = matching.partners[[one, two]]
            matching.partners[[two, one]] = pair
            swapped += 1
    wrong = Assembly(matching, pair_weightless(matching), assembly.judgement).build()
    assert check(wrong, left, right).wrong
    repaired = _check(wrong, left, right)
    score = check(repaired, left, right)
    assert not score.wrong
    assert not score.missed


def test_a_wrong_model_leaves_its_pairs() -> None:
    """Nothing agrees behind a fault, and no other pairing explains it."""
    net = architectures.resnet((1, 2))
    left, right = render(net), render(net, KERAS, salt=1)
    before = align(left.graph, right.graph)
    assert _check(before, left, right) == before


def test_constant_tensors_are_no_evidence() -> None:
    net = _two_branches()
    left, right = render(net), render(net, TORCH)
    before = align(left.graph, right.graph)
    after = check_values(
        before,
        lambda name: np.zeros(left.graph.tensors[name].shape),
        lambda name: np.zeros(right.graph.tensors[name].shape),
    )
    assert after == before


def test_tensors_that_a_run_did_not_keep() -> None:
    net = architectures.resnet((1, 1))
    left, right = render(net), render(net, KERAS)
    before = align(left.graph, right.graph)
    names = list_tensors(before)
    assert {tensor.reference for _, tensor in before.tensors} <= set(names[0])
    assert {tensor.other for _, tensor in before.tensors} <= set(names[1])
    assert (
        check_values(before, dict[str, Any]().__getitem__, dict[str, Any]().__getitem__) == before
    )


def test_without_the_assembly() -> None:
    net = architectures.plain(3)
    left = render(net)
    alignment = replace(align(left.graph, left.graph), assembly=None)
    with pytest.raises(TypeError, match="does not come from `align`"):
        check_values(alignment, lambda name: np.zeros(1), lambda name: np.zeros(1))


def test_reading_with_a_reader_serves_several_checks() -> None:
    """What was read once is not read again; a tensor of another norm is not projected."""
    net = FAMILIES["plain"]()
    left, right = render(net), render(net, KERAS)
    alignment = align(left.graph, right.graph)
    reads: list[str] = []

    def read(name: str) -> Any:
        reads.append(name)
        return left.arrays[name]()

    reader = ValueReader(read)
    other = {name: array() for name, array in right.arrays.items()}.__getitem__
    first = check_values(alignment, reader, other)
    count = len(reads)
    assert check_values(alignment, reader, other) == first
    assert len(reads) == count


@pytest.mark.parametrize("scale", [1.0, 1e25])
def test_a_large_tensor_is_measured_without_overflow(scale: float) -> None:
    values = (scale * np.arange(1.0, 9.0)).astype(np.float32)
    found = ValueReader({"x": values}.__getitem__).measure("x")
    assert found.norm == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-6)
    constant = ValueReader({"x": np.full(8, scale, np.float32)}.__getitem__).measure("x")
    assert constant.norm == 0.0


def _heads(style: str) -> Graph:
    """Two products of one shape that read the same, which only what follows tells apart."""
    axes = {"torch": "", "keras": "I O"}[style]
    shapes = {"x": (1, 4), "a": (1, 3), "b": (1, 3), "c": (1, 3), "d": (1, 3), "y": (1, 3)}
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    kernel = (4, 3) if axes else (3, 4)
    names = "ab" if style == "torch" else "ba"
    nodes = [
        Node(name, "dense", "dense", ("x",), (name,),
             (Parameter(f"{name}w", "kernel", kernel, "float32", axes),), {"in": 4, "out": 3})
        for name in names
    ]  # fmt: skip
    # Neither has a kind, as a product with a constant in a function of the user's own.
    nodes += [Node(f"{n}2", OPAQUE, "f", (n,), (m,)) for n, m in (("a", "c"), ("b", "d"))]
    nodes.append(Node("y", "sub", "sub", ("c", "d"), ("y",)))
    return Graph(style, tuple(nodes), tensors, (Port("x", "x"),), (Port("y", "y"),))


def _run(kernels: dict[str, Any]) -> dict[str, Any]:
    x = np.arange(1.0, 5.0)[None]
    found = {"x": x, "a": x @ kernels["a"], "b": x @ kernels["b"]}
    found |= {"c": 2.0 * found["a"], "d": 3.0 * found["b"] ** 2}
    return {**found, "y": found["c"] - found["d"]}


def test_what_follows_tells_apart_two_layers_that_read_the_same() -> None:
    first, second = _heads("torch"), _heads("keras")
    alignment = align(first, second)
    random = np.random.default_rng(0)
    own = {name: random.standard_normal((4, 3)) for name in "ab"}

    def run(found: Alignment) -> frozenset[str]:
        partners = {pair.other[0]: pair.reference[0] for pair in found.pairs}
        copied = {name: own[partners[name]] for name in "ab"}
        return find_agreeing(found, _run(own).__getitem__, _run(copied).__getitem__)

    agreeing = run(alignment)
    wrong = alignment
    if "y" in agreeing:
        # The other way round is the wrong one.
        assert not list(list_exchanges(alignment, agreeing))
        (wrong,) = list_exchanges(alignment, agreeing - {"c", "d", "y"})
        agreeing = run(wrong)
    assert agreeing == {"a", "b"}
    (right,) = list_exchanges(wrong, agreeing)
    assert run(right) >= {"a", "b", "y"}
    assert {pair.reference: pair.other for pair in right.pairs}[("a",)] == ("a",)
    # What the layers read differs: no exchange is asked for.
    assert not list(list_exchanges(right, run(right)))
