"""All weights of one model as another model has them: complete, or named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.comparison.graphs.conversion import ConvertedWeights, convert_weights
from parity.network.alignment import align
from parity.network.graph import Graph, Node, Parameter, Port, Tensor
from tests.network.alignment import architectures
from tests.network.alignment.networks import KERAS, render

Values = dict[str, Any]


def test_every_weight_is_read_once_and_written_once() -> None:
    net = architectures.plain()
    left, right = render(net), render(net, KERAS, seed=1)
    values = {p.name: np.asarray(left.parameters[p.name]()) for p in left.graph.parameters}
    own = {p.name: np.zeros(p.shape, np.float32) for p in right.graph.parameters}
    found = convert_weights(align(left.graph, right.graph), left.graph, right.graph, values, own)
    assert not found.missing
    assert not found.surplus
    assert not found.notes
    for name, array in found.values.items():
        assert np.array_equal(array, right.parameters[name]()), name


def _mlp(*roles: str, prefix: str, second: str = "w2") -> Graph:
    """Two dense layers; the first has weights of these roles beside its kernel."""
    shapes = {"bias": (4,), "surprise": (7,)}
    first = [Parameter(f"{prefix}w1", "kernel", (4, 3), "float32")]
    first += [Parameter(f"{prefix}{role}", role, shapes[role], "float32") for role in roles]
    kernel = Parameter(f"{prefix}{second}", "kernel", (4, 4), "float32")
    nodes = (
        Node("a", "dense", "linear", ("x",), ("h",), tuple(first)),
        Node("r", "relu", "relu", ("h",), ("g",)),
        Node("b", "dense", "linear", ("g",), ("y",), (kernel,)),
    )
    tensors = {n: Tensor(n, (2, 3 if n == "x" else 4), "float32") for n in "xhgy"}
    return Graph("torch", nodes, tensors, (Port("x", "x"),), (Port("y", "y"),))


def _draw(graph: Graph, seed: int) -> Values:
    rng = np.random.default_rng(seed)
    return {p.name: rng.standard_normal(p.shape).astype(np.float32) for p in graph.parameters}


def _convert(left: Graph, right: Graph, values: Values, own: Values) -> ConvertedWeights:
    return convert_weights(align(left, right), left, right, values, own)


def test_a_bias_that_the_source_lacks_is_zero() -> None:
    left, right = _mlp(prefix="a."), _mlp("bias", prefix="b.")
    found = _convert(left, right, _draw(left, 0), _draw(right, 1))
    assert not found.missing
    assert np.array_equal(found.values["b.bias"], np.zeros(4))
    assert found.notes == ("added with the value that changes nothing: b.bias",)


@pytest.mark.parametrize("is_zero", [True, False])
def test_a_bias_that_the_target_lacks_is_left_out_only_if_it_is_zero(is_zero: bool) -> None:
    left, right = _mlp("bias", prefix="a."), _mlp(prefix="b.")
    values = _draw(left, 0)
    if is_zero:
        values["a.bias"][:] = 0
    found = _convert(left, right, values, _draw(right, 1))
    assert found.surplus == (() if is_zero else ("a.bias (4,)",))
    assert bool(found.notes) == is_zero


def test_what_has_no_partner_is_named_on_both_sides() -> None:
    left, right = _mlp(prefix="a."), _mlp("surprise", prefix="b.")
    there = _convert(left, right, _draw(left, 0), _draw(right, 1))
    assert there.missing == ("b.surprise (7,)",)
    back = _convert(right, left, _draw(right, 0), _draw(left, 1))
    assert back.surplus == ("b.surprise (7,)",)


def test_a_weight_that_no_operation_reads_is_named() -> None:
    left, right = _mlp(prefix="a."), _mlp(prefix="b.")
    unread = Parameter("a.aux", "", (9,), "float32")
    left = replace(left, unused_parameters=(unread,))
    found = _convert(left, right, _draw(left, 0), _draw(right, 1))
    assert found.surplus == ("a.aux (9,), which no operation of this run reads",)


def test_two_weights_do_not_become_one() -> None:
    """The target shares one kernel between the layers for which the source has two."""
    left = _square(("a.w1", "a.w2"))
    right = _square(("b.w", "b.w"))
    values = _draw(left, 0)
    found = _convert(left, right, values, _draw(right, 1))
    assert len(found.surplus) == 1
    assert "has the values of another weight" in found.surplus[0]
    values["a.w2"] = values["a.w1"]
    assert not _convert(left, right, values, _draw(right, 1)).surplus


def _square(names: tuple[str, str]) -> Graph:
    kernels = [Parameter(name, "kernel", (4, 4), "float32") for name in names]
    nodes = (
        Node("a", "dense", "linear", ("x",), ("h",), (kernels[0],)),
        Node("r", "relu", "relu", ("h",), ("g",)),
        Node("b", "dense", "linear", ("g",), ("y",), (kernels[1],)),
    )
    tensors = {n: Tensor(n, (2, 4), "float32") for n in "xhgy"}
    return Graph("torch", nodes, tensors, (Port("x", "x"),), (Port("y", "y"),))


def test_rounding_to_a_narrower_dtype_is_noted() -> None:
    left, right = _mlp(prefix="a."), _mlp(prefix="b.")
    own = {name: value.astype(np.float16) for name, value in _draw(right, 1).items()}
    found = _convert(left, right, _draw(left, 0), own)
    assert not found.surplus
    assert found.notes == ("rounded to the dtype of their partner: a.w1, a.w2",)
