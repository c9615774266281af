"""The floor of a row is that of the precision that a model computes it in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.isolation import criteria
from parity.comparison.graphs.points import GraphRow, GraphTable
from parity.comparison.graphs.precisions import describe_row_precisions, find_row_precisions
from parity.comparison.graphs.request import GraphRequest, GraphSubject
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState, SubjectModel
from parity.network.graph import Graph, Node, Port, Tensor
from parity.processes.graph_requests import TensorPoint


def chain(framework, dtypes):
    """A graph of one ReLU after another, whose outputs have these dtypes."""
    names = ["x", *(f"t{number}" for number in range(len(dtypes)))]
    types = ["float32", *dtypes]
    return Graph(
        framework,
        tuple(
            Node(f"n{number}", "relu", "relu", (names[number],), (names[number + 1],))
            for number in range(len(dtypes))
        ),
        {n: Tensor(n, (1, 3), t) for n, t in zip(names, types, strict=True)},
        (Port("x", "x"),),
        (Port("y", names[-1]),),
    )


def model(name, framework, *dtypes):
    return SubjectModel(
        subject=GraphSubject(name, framework, framework),
        graph=chain(framework, dtypes),
        inputs=InputArrays({}, ""),
        input_file=Path("x.npz"),
        brings_weights=True,
        versions={},
        seconds=0.0,
    )


def table(*names):
    def row(number):
        tensors = {name: TensorPoint(f"row{number}", f"t{number}") for name in names}
        return GraphRow(f"row{number}", "s", "b", "relu", f"n{number}", (1, 3), tensors)

    return GraphTable(tuple(map(row, range(3))), frozenset({"row2"}))


HALF = ("float32", "float16", "float32")


@pytest.mark.parametrize(
    ("reference", "other", "requested", "found"),
    [
        (("torch", "float32", "float32", "float32"), HALF, "float32", ["row1", "row2"]),
        (("torch", "float32", "float32", "float32"), ("float32",) * 3, "float32", []),
        # The replicates of a model that casts by itself round as it does.
        (("torch", *HALF), HALF, "float32", []),
        # Those of a file are evaluated in float32, whatever it casts to.
        (("onnx", *HALF), HALF, "float32", ["row1", "row2"]),
        (("torch", "float32", "float32", "float32"), HALF, "bfloat16", []),
    ],
)
def test_rows_behind_a_lower_precision(reference, other, requested, found):
    rows = find_row_precisions(
        table("right", "other"),
        model("right", *reference),
        model("other", "keras", *other),
        requested=requested,
    )
    assert rows == dict.fromkeys(found, "float16")


def state(**fields):
    right, other = model("right", "torch", *["float32"] * 3), model("other", "keras", *HALF)
    return GraphState(
        request=GraphRequest(("right=a.py:b", "other=c.py:d"), **fields),
        folder=Path(),
        reference=right,
        models={"right": right, "other": other},
        alignments={},
        table=table("right", "other"),
        weights={},
        weight_source="own",
    )


def test_the_criteria_have_the_precision_of_the_row():
    judged = criteria(state())
    assert [judged.precision("other", f"row{n}") for n in range(3)] == [
        *("float32", "float16", "float16")
    ]
    assert judged.precision("right", "row1") == "float32"


def test_judge_as_overrules_it():
    judged = criteria(state(judge_as="float32"))
    assert {judged.precision("other", f"row{n}") for n in range(3)} == {"float32"}


def test_the_report_says_so():
    text = describe_row_precisions("other", criteria(state()).row_precisions["other"])
    assert text == (
        "other computes in float16 by itself: 2 layers from row1 on are judged by the floor of "
        "float16; --judge-as float32 judges them by that of float32"
    )


def test_a_file_is_read_in_float64_by_a_child_that_holds_no_model():
    models = [GraphSubject(name, "torch", name) for name in ("torch", "torch#2")]
    files = [GraphSubject("file", "onnx", "onnx#4")]
    runner = GraphRunner(replace(state(), subjects=(*models, *files)), None, Path(), print)
    assert runner._free_child("torch") == "torch#3"
