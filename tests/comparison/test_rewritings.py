"""What shows that a row is right although it differs, and what hides it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from parity.comparison.graphs import rewritings
from parity.comparison.graphs.points import GraphRow, GraphTable
from parity.network.graph import Graph, Node, Tensor


def evidence(
    reader: str,
    *,
    row: str = "float32",
    read: str = "float32",
    shapes: Any = (),
    error: float = 1.0,
) -> Any:
    """A row, what reads it, and the errors of both where the row keeps the subject's tensor."""
    nodes = (
        Node("row", "multiply", "multiply", ("x",), ("a",), source="net.py:1"),
        Node("reader", reader, reader, ("a",), ("b",), source="net.py:2"),
        Node("again", "multiply", "multiply", ("b",), ("c",), source="net.py:1"),
        Node("wrong", "dense", "dense", ("c",), ("d",), source="net.py:3"),
    )
    types = {"x": "float32", "a": row, "b": read, "c": row, "d": "float32"}
    tensors = {name: Tensor(name, (2, 3), dtype) for name, dtype in types.items()}
    rows = tuple(GraphRow(n.id, "stage1", "", n.kind, n.id, (2, 3)) for n in nodes)
    state = SimpleNamespace(
        reference=SimpleNamespace(graph=Graph("torch", nodes, tensors, (), ())),
        table=GraphTable(rows, frozenset()),
    )
    readers = {"row": {"reader"}, "reader": {"again"}, "again": {"wrong"}, "wrong": set[str]()}
    return rewritings._Evidence(
        cast(Any, state), readers, {"row", "again", "wrong"}, shapes,
        {"row": 1e6, "reader": error, "again": 1e6, "wrong": 1e6},
    )  # fmt: skip


ORDER = ("row", "reader", "again", "wrong")


@pytest.mark.parametrize(
    ("reader", "more", "expected"),
    [
        ("dense", {}, {"row"}),
        ("dense", {"error": 1e3}, set()),
        ("max_pool", {}, set()),
        ("relu", {}, set()),
        ("relu", {"shapes": {"row"}}, {"row"}),
        ("greater", {"read": "bool"}, set()),
        ("where", {"row": "bool"}, {"row"}),
        ("logical_not", {"row": "bool", "read": "bool"}, {"row"}),
    ],
)
def test_a_reader_that_is_right_shows_that_the_row_is(reader, more, expected):
    assert evidence(reader, **more).select(["row"], ORDER) == expected


def test_what_one_line_writes_otherwise_is_known_before_a_layer_that_is_wrong():
    """Of a row of another shape that is not known, since it was never given the right tensor."""
    both = ["row", "again"]
    assert evidence("dense").select(both, ORDER) == {"row", "again"}
    assert evidence("dense").select(["again"], ORDER) == set()
    assert evidence("dense", shapes={"again"}).select(both, ORDER) == {"row"}
