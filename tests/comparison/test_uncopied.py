"""Weights without a partner where a difference begins are said in the verdict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from parity.comparison.graphs.points import GraphRow, GraphTable
from parity.comparison.graphs.uncopied import describe_uncopied
from parity.comparison.results import KEPT
from parity.network.alignment import Alignment
from parity.network.graph import Graph, Node, Parameter, Port, Tensor
from parity.numerics.verdict import FirstDivergence


def graph(framework: str, *, between: str = "reshape") -> Graph:
    """A dense layer, a cell without a partner, what is between, and a dense layer behind it."""
    cell = tuple(Parameter(f"{framework}.{n}", "", (2, 2), "float32") for n in "abcd")
    heads = [
        (Parameter(f"{framework}.{name}", "kernel", (2, 2), "float32"),) for name in ("k", "w")
    ]
    nodes = (
        Node("first", "dense", "linear", ("x",), ("f",), heads[0]),
        Node("cell", "gru_cell", "cell", ("f",), ("c",), cell),
        Node("between", between, between, ("c",), ("r",)),
        Node("last", "dense", "linear", ("r",), ("y",), heads[1]),
    )
    tensors = {name: Tensor(name, (1, 2), "float32") for name in "xfcry"}
    return Graph(framework, nodes, tensors, (Port("x", "x"),), (Port("y", "y"),))


def state(*notes: str, unpaired: bool = True, between: str = "reshape") -> Any:
    first, second = graph("torch", between=between), graph("keras", between=between)
    names = [tuple(f"{each.framework}.{n}" for n in "abcd") for each in (first, second)]
    alignment = Alignment(
        (), ("cell",), ("cell",), missing_parameters=names[0],
        surplus_parameters=names[1] if unpaired else (),
    )  # fmt: skip
    rows = tuple(
        GraphRow(node, "stage1", "", "dense", node, (1, 2), nodes={"keras": (node,)})
        for node in ("first", "last")
    )
    return cast(
        Any,
        SimpleNamespace(
            reference=SimpleNamespace(subject=SimpleNamespace(name="torch"), graph=first),
            models={"keras": SimpleNamespace(graph=second)},
            alignments={"keras": alignment},
            table=GraphTable(rows, frozenset()),
            notes=notes,
        ),
    )


def divergence(layer: str | None) -> list[FirstDivergence]:
    return [FirstDivergence("keras", "stage1", layer, "stage1", ("keras",))]


INTO_KERAS = f"keras: 4 of 6{KEPT}torch and keep their values: keras.a"
INTO_TORCH = f"torch: 4 of 6{KEPT}keras and keep their values: torch.a"
SENTENCE = (
    "4 weights of torch were not copied into keras (torch.a, torch.b, torch.c and 1 more), and the "
    "difference begins where they are read"
)


@pytest.mark.parametrize("layer", ["last", None])
def test_a_difference_that_begins_behind_weights_that_were_not_copied(layer):
    assert describe_uncopied(state(INTO_KERAS), divergence(layer)) == [SENTENCE]


def test_the_model_whose_weights_are_copied_may_be_the_other_one():
    (line,) = describe_uncopied(state(INTO_TORCH), divergence("last"))
    assert line.startswith("4 weights of keras were not copied into torch (keras.a, ")


@pytest.mark.parametrize(
    ("made", "layer"),
    [
        (state(INTO_KERAS), "first"),
        (state(INTO_KERAS, unpaired=False), "last"),
        (state(INTO_KERAS, between="relu"), "last"),
        (state("keras: its note"), "last"),
        (state(), None),
    ],
    ids=["before the cell", "one model has more", "behind a pair", "own weights", "no note"],
)
def test_a_difference_elsewhere_is_no_matter_of_weights(made, layer):
    assert describe_uncopied(made, divergence(layer)) == []


def test_a_cause_explains_more():
    explained = {("keras", "last")}
    assert describe_uncopied(state(INTO_KERAS), divergence("last"), explained) == []
