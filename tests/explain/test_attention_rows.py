"""Attention that is written out is read as one layer, however a model writes it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from parity.explain.attention_rows import read_attention
from parity.explain.proof.masks import describe_hidden, read_added, split_added
from parity.network import kinds
from parity.network.graph import Graph, Node, Port, Tensor

RNG = np.random.default_rng(0)
QUERY, KEY, VALUE = (RNG.standard_normal((2, 3, 7, 4)) for _ in range(3))
"""(N, heads, T, width)."""


def softmax(scores, axis=-1):
    return kinds.evaluate("softmax", (scores,), {}, {"axis": axis})


def written_out(mask=0.0, *, scale=0.5, axis=3):
    """Return the graph and the tensors of matrix products with something added to the scores."""
    scores = QUERY @ KEY.swapaxes(-1, -2)
    raised = scores * scale + mask
    weights = softmax(raised, axis)
    values = {"q": QUERY, "k": KEY.swapaxes(-1, -2), "v": VALUE, "s": scores, "r": raised,
              "w": weights, "y": weights @ VALUE}  # fmt: skip
    nodes = (
        Node("1", "matmul", "matmul", ("q", "k"), ("s",)),
        Node("2", "add", "add", ("s",), ("r",)),
        Node("3", "softmax", "softmax", ("r",), ("w",), hyper={"axis": axis}),
        Node("4", "matmul", "matmul", ("w", "v"), ("y",)),
    )
    return make_graph(nodes, values), values


def make_graph(nodes, values):
    tensors = {name: Tensor(name, value.shape, "float32") for name, value in values.items()}
    ports = tuple(Port(name, name) for name in "qkv")
    return Graph("torch", nodes, tensors, ports, (Port("y", "y"),))


def read(graph, values):
    return read_attention(graph, graph.nodes, values)


def test_products_of_matrices():
    layer, axes = read(*written_out())
    assert axes == (0, 1, 2, 3)
    assert layer.hyper == {"causal": False, "grouped": False}
    for found, given in zip(layer.inputs, (QUERY, KEY, VALUE), strict=True):
        np.testing.assert_array_equal(found, given)


def test_the_last_axis_of_a_softmax_from_the_end():
    assert read(*written_out(axis=-1)) is not None


def test_another_scale_is_stated():
    layer, _ = read(*written_out(scale=0.3))
    assert layer.hyper["scale"] == pytest.approx(0.3)


def test_a_causal_mask():
    later = np.triu(np.ones((7, 7)), 1)
    layer, _ = read(*written_out(np.where(later, -np.inf, 0.0)))
    assert layer.hyper["causal"]
    assert len(layer.inputs) == 3


@pytest.mark.parametrize("hidden", [-np.inf, -1e9])
def test_a_mask_of_keys(hidden):
    mask = np.zeros((2, 1, 1, 7))
    mask[1, ..., 5:] = hidden
    layer, _ = read(*written_out(mask))
    assert layer.hyper["boolean_mask"]
    np.testing.assert_array_equal(layer.inputs[3], mask == 0.0)


@pytest.mark.parametrize("scale", [200.0, 1e6])
def test_weights_that_a_large_scale_makes_0_are_hidden_by_no_mask(scale):
    graph, values = written_out(scale=scale)
    values = {name: np.float64(np.float32(value)) for name, value in values.items()}
    assert (values["w"] == 0.0).any()
    layer, _ = read(graph, values)
    assert layer.hyper["scale"] == pytest.approx(scale)
    assert len(layer.inputs) == 3


def test_a_query_that_sees_no_key_is_not_read():
    mask = np.zeros((2, 1, 7, 7))
    mask[0, 0, 3] = -np.inf
    with np.errstate(invalid="ignore"):
        assert read(*written_out(mask)) is None


HIDDEN = {
    "no key": (0.0,),
    "later keys": (np.where(np.triu(np.ones((7, 7)), 1), -1e9, 0.0),),
    "2 of 7 keys from every query": (np.where(np.arange(7.0) > 4.0, -1e9, 0.0),),
    "up to 3 of 7 keys from every query": (
        np.where(np.arange(7.0) > np.array([6.0, 3.0])[:, None, None, None], -1e9, 0.0),
    ),
    "15 of 49 pairs of query and key": (np.where(np.triu(np.ones((7, 7)), 2), -1e9, 0.0),),
}


@pytest.mark.parametrize("text", HIDDEN)
def test_what_a_mask_hides_in_words(text):
    layer, _ = read(*written_out(*HIDDEN[text]))
    assert describe_hidden(read_added(layer).visible) == text


def test_what_a_causal_mask_and_one_of_keys_hide_in_words():
    layer, _ = read(*written_out(np.where(np.arange(7.0) > 4.0, -1e9, 0.0)))
    both = read_added(layer.with_hyper(causal=True)).visible
    assert describe_hidden(both) == "24 of 49 pairs of query and key"


PLACES = np.arange(7.0)
SLOPE = -np.abs(PLACES[:, None] - PLACES) * np.array([0.5, 0.25, 2.0])[:, None, None]
"""A bias (heads, T, T) that grows steadily."""


@pytest.mark.parametrize("hidden", [-np.inf, -1e4, -100.0])
def test_a_bias_and_a_mask_that_are_added(hidden):
    later = np.triu(np.ones((7, 7)), 1) > 0
    added = split_added(SLOPE + np.where(later, hidden, 0.0))
    np.testing.assert_array_equal(added.visible, np.broadcast_to(~later, (3, 7, 7)))
    np.testing.assert_array_equal(added.bias, np.where(later, 0.0, SLOPE))


@pytest.mark.parametrize("slope", [1.0, 30.0, 300.0])
def test_a_bias_that_falls_far_is_no_mask(slope):
    added = split_added(slope * SLOPE)
    assert added.visible.all()
    np.testing.assert_array_equal(added.bias, slope * SLOPE)


def test_a_mask_that_is_added_is_in_words():
    layer, _ = read(*written_out())
    for mask, text in ((np.zeros((7, 7)), "no key"), (-100.0 * np.eye(7), "7 of 49 pairs")):
        given = replace(layer, inputs=(*layer.inputs, mask))
        assert describe_hidden(read_added(given).visible).startswith(text)
        assert not read_added(given).has_bias


def test_sums_of_products_with_time_before_heads():
    query, key, value = (each.swapaxes(1, 2) for each in (QUERY, KEY, VALUE))
    scores = np.einsum("bqhd,bkhd->bhqk", query, key)
    weights = softmax(scores * 0.5)
    output = np.einsum("bkhd,bhqk->bqhd", value, weights)
    values = {"q": query, "k": key, "v": value, "s": scores, "r": scores * 0.5, "w": weights,
              "y": output}  # fmt: skip
    nodes = (
        Node("1", "einsum", "einsum", ("q", "k"), ("s",), hyper={"equation": "bqhd,bkhd->bhqk"}),
        Node("2", "multiply", "mul", ("s",), ("r",)),
        Node("3", "softmax", "softmax", ("r",), ("w",), hyper={"axis": 3}),
        Node("4", "einsum", "einsum", ("v", "w"), ("y",), hyper={"equation": "bkhd,bhqk->bqhd"}),
    )
    layer, axes = read(make_graph(nodes, values), values)
    assert axes == (0, 2, 1, 3)
    for found, given in zip(layer.inputs, (QUERY, KEY, VALUE), strict=True):
        np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize("kind", ["dropout", "relu"])
def test_what_is_between_the_softmax_and_the_product_may_only_be_passive(kind):
    """Of a dropout no row tells: it has no place among a row's operations."""
    graph, values = written_out()
    *before, last = graph.nodes
    after = Node("5", kind, kind, ("w",), ("d",))
    nodes = (*before, after, replace(last, inputs=("d", "v")))
    values = {**values, "d": values["w"]}
    row = [each for each in nodes if each is not after]
    found = read_attention(make_graph(nodes, values), row, values)
    assert (found is not None) == (kind == "dropout")


def test_a_softmax_over_the_queries_is_no_attention():
    assert read(*written_out(axis=2)) is None


BETWEEN = {
    "multiply": lambda scores: 0.5 * scores,
    "reshape": lambda scores: (0.5 * scores).reshape(1, 6, 7, 7),
    "tanh": lambda scores: 0.5 * np.tanh(scores),
}


@pytest.mark.parametrize("hidden", [0.0, -100.0, -np.inf])
@pytest.mark.parametrize("kind", BETWEEN)
def test_a_bias_of_positions(kind, hidden):
    """What multiplies is told from what is added by the tensors of each operation."""
    mask = np.where(np.arange(7) > 4, hidden, 0.0)
    scores = QUERY @ KEY.swapaxes(-1, -2)
    scaled = BETWEEN[kind](scores)
    raised = scaled.reshape(scores.shape) + SLOPE + mask
    weights = softmax(raised)
    values = {"q": QUERY, "k": KEY.swapaxes(-1, -2), "v": VALUE, "s": scores, "c": scaled,
              "r": raised, "w": weights, "y": weights @ VALUE}  # fmt: skip
    nodes = (
        Node("1", "matmul", "matmul", ("q", "k"), ("s",)),
        Node("2", kind, kind, ("s",), ("c",)),
        Node("3", "add", "add", ("c",), ("r",)),
        Node("4", "softmax", "softmax", ("r",), ("w",), hyper={"axis": 3}),
        Node("5", "matmul", "matmul", ("w", "v"), ("y",)),
    )
    found = read(make_graph(nodes, values), values)
    if kind == "tanh":
        assert found is None
        return
    layer, _ = found
    assert layer.hyper == {"causal": False, "grouped": False, "boolean_mask": False}
    assert layer.inputs[3].shape == (1, 3, 7, 7)
    added = read_added(layer)
    np.testing.assert_array_equal(added.visible, np.broadcast_to(mask == 0, (1, 3, 7, 7)))
    np.testing.assert_allclose(added.bias[0], np.where(mask == 0, SLOPE, 0.0), atol=1e-12)


def test_another_product_than_the_softmaxs_is_no_attention():
    graph, values = written_out()
    assert read(graph, {**values, "y": values["y"] * 1.01}) is None
    assert read(graph, {**values, "y": values["y"] * (1.0 + math.ulp(1.0))}) is not None
