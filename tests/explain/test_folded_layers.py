"""Two layers of the reference that are one operation of a subject are no difference."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from parity.explain.causes import rewired, wrong_tensor
from parity.explain.folded_layers import describe_folded, find_folded, leave_out_folded
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.search import Attempt, Explanation
from parity.network.graph import Graph, Node, Tensor

ROWS = ("conv", "norm", "out")


def graph(*, kind="batch_norm", read=("conv",), more=()):
    nodes = (
        Node("conv", "conv", "conv", ("x",), ("conv",), (), {}, ""),
        Node("norm", kind, kind, read, ("norm",), (), {}, ""),
        *more,
    )
    tensors = {each: Tensor(each, (1, 2), "float32") for each in ("x", "conv", "norm", "sum")}
    return Graph("torch", nodes, tensors, (), ())


def state(made, *, unpaired=("norm",)):
    rows = {name: SimpleNamespace(node=name) for name in ROWS}
    return SimpleNamespace(
        reference=SimpleNamespace(graph=made),
        table=SimpleNamespace(by_name=rows.__getitem__),
        alignments={"onnx": SimpleNamespace(unpaired_reference=unpaired)},
    )


def explanation(*candidates):
    return Explanation(1e6, Attempt(candidates, 0.5))


def candidate(cause, *rows):
    return Candidate(cause, lambda layer: layer, cause, cause, rows=rows)


CAPTURED = explanation(candidate(wrong_tensor.NAME, "conv", "norm"))
READ = candidate(rewired.NAME, "conv", "norm")
SUM = Node("sum", "add", "add", ("conv", "norm"), ("sum",), (), {}, "")


def test_a_norm_that_is_part_of_the_convolution_is_no_cause():
    folded = find_folded(state(graph()), [("onnx", "conv", CAPTURED)])
    assert folded == {("onnx", "conv", "norm")}
    assert leave_out_folded(CAPTURED, "onnx", folded)[1]
    assert leave_out_folded(explanation(READ), "onnx", folded)[1]
    assert not leave_out_folded(explanation(READ), "keras", folded)[1]
    left, is_right = leave_out_folded(explanation(READ, candidate("offset")), "onnx", folded)
    assert not is_right
    assert [each.cause for each in left.proof.candidates] == ["offset"]
    assert describe_folded(folded, ["keras", "onnx"]) == (
        "onnx has one operation, which is right, for conv and norm",
    )


@pytest.mark.parametrize(
    ("made", "unpaired", "found"),
    [
        (graph(), (), CAPTURED),
        (graph(kind="relu"), ("norm",), CAPTURED),
        (graph(read=("x",)), ("norm",), CAPTURED),
        (graph(more=(SUM,)), ("norm",), CAPTURED),
        (graph(), ("norm",), explanation(READ)),
        (graph(), ("norm",), explanation(candidate(wrong_tensor.NAME, "conv", "out"))),
        (graph(), ("norm",), None),
    ],
    ids=["has a partner", "no norm", "of another tensor", "read twice", "another cause",
         "another row", "unknown"],
)  # fmt: skip
def test_anything_else_is_a_cause(made, unpaired, found):
    rows = {name: SimpleNamespace(node=name if name != "out" else "conv") for name in ROWS}
    given = state(made, unpaired=unpaired)
    given.table.by_name = rows.__getitem__
    assert find_folded(given, [("onnx", "conv", found)]) == frozenset()
