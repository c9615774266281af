"""Which differences of paired operations can change a number, and which are only written so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.comparison.graphs.calibration import find_norms
from parity.comparison.graphs.layout import channels_first, is_signal
from parity.comparison.graphs.structure import (
    PairDifference,
    find_differences,
    fold_padding,
    is_same_function,
    leave_out_shared,
)
from parity.comparison.graphs.weights import transfer_group
from parity.network.alignment import Alignment, NodePair, TensorPair, WeightPair, WeightTransform
from parity.network.alignment.result import Confidence
from parity.network.graph import OPAQUE, Graph, Node, Parameter, Port, Tensor
from parity.network.rearrangement import Rearrangement


def one_node(
    kind: str,
    shape: tuple[int, ...],
    output: tuple[int, ...],
    *,
    axes: str = "",
    framework: str = "torch",
    parameters: tuple[Parameter, ...] = (),
    **hyper: Any,
) -> Graph:
    tensors = {
        "x": Tensor("x", shape, "float32", axes),
        "y": Tensor("y", output, "float32", axes),
    }
    node = Node("n", kind, kind, ("x",), ("y",), parameters, hyper)
    return Graph(framework, (node,), tensors, (Port("x", "x"),), (Port("y", "y"),))


class Stub:
    """A model of a comparison: its graph and its name."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.subject = self
        self.name = graph.framework


def differ(first: Graph, second: Graph, *, other: tuple[str, ...] = ("n",)) -> list[PairDifference]:
    tensor = TensorPair("y", "y", Rearrangement())
    pair = NodePair(("n",), other, (tensor,), (), Confidence.SURE, "", first.nodes[0].kind)
    alignment = Alignment((pair,))
    return find_differences(Stub(first), Stub(second), alignment)  # type: ignore[arg-type]


def settings(padding: list[list[int]], dilation: list[int], kernel: list[int]) -> dict[str, Any]:
    return {"padding": padding, "dilation": dilation, "kernel": kernel, "stride": [1] * len(kernel)}


SIGNAL = settings([[2, 0]], [2], [2])


def test_a_convolution_of_a_signal_may_be_one_of_an_image_of_height_1():
    first = one_node("conv", (1, 3, 9), (1, 4, 9), **SIGNAL)
    shape = (1, 3, 1, 9), (1, 4, 1, 9)
    second = one_node("conv", *shape, **settings([[0, 0], [2, 0]], [1, 2], [1, 2]))
    assert differ(first, second) == differ(second, first) == []
    wrong = one_node("conv", *shape, **settings([[0, 0], [3, 0]], [1, 3], [1, 2]))
    assert [each.field for each in differ(first, wrong)] == ["dilation", "padding"]
    # Which axis is the added one is not known: the settings are compared as they are.
    square = one_node("conv", *shape, **settings([[1, 0], [2, 0]], [1, 2], [2, 2]))
    assert {each.field for each in differ(first, square)} == {"dilation", "padding", "stride"}
    plain = one_node("conv", (1, 3, 9), (1, 4, 9), **settings([[0, 0]], [1], [1]))
    point = one_node("conv", *shape, **settings([[0, 0], [0, 0]], [1, 1], [1, 1]))
    assert differ(plain, point) == []


def test_the_settings_of_another_kind_are_not_completed_with_those_of_the_first():
    """A GLU has an axis, and the sigmoid of the three operations that another model has none."""
    first = one_node("glu", (1, 6, 4), (1, 3, 4), axis=1)
    second = one_node("sigmoid", (1, 3, 4), (1, 3, 4))
    assert differ(first, second, other=("n", "m")) == []


GRAPH = one_node(
    "conv_transpose",
    (1, 2, 4, 4),
    (1, 3, 8, 8),
    parameters=(Parameter("k", "kernel", (2, 3, 3, 3), "float32"),),
    stride=[2, 2],
    padding=[[1, 0], [1, 0]],
    dilation=[1, 1],
    groups=1,
)
TENSORS = {"x": np.random.default_rng(0).standard_normal((1, 2, 4, 4))}
VALUES = {"k": np.random.default_rng(1).standard_normal((2, 3, 3, 3))}


def test_a_step_and_its_layer_differ_in_their_settings_alone():
    first = one_node("gru_cell", (1, 3), (1, 4), units=4)
    second = one_node("gru", (1, 5, 3), (1, 4), units=4, last=True, gates="zrn", reset_after=False)
    (found,) = differ(first, second)
    assert (found.field, found.expected, found.value) == ("reset_after", True, False)


def difference(field: str, expected: Any, value: Any, **hyper: Any) -> PairDifference:
    return PairDifference("keras", "n", "n", field, expected, value, "", hyper=hyper)


def test_what_gives_another_shape_is_judged_by_the_numbers_that_agree():
    """A transposed convolution may be cropped later; while nothing agrees, it stands."""
    cropped = difference("padding", [[1, 0], [1, 0]], [[0, 0], [0, 0]])
    assert is_same_function(GRAPH, cropped, TENSORS, VALUES, outputs_agree=True) is None
    assert is_same_function(GRAPH, cropped, TENSORS, VALUES) is False


def test_another_number_of_the_same_shape_stands_though_the_outputs_agree():
    """What a branch of zeros hides."""
    moved = difference("padding", [[1, 0], [1, 0]], [[0, 1], [0, 1]])
    assert is_same_function(GRAPH, moved, TENSORS, VALUES, outputs_agree=True) is False


def test_another_axis_is_that_of_a_turned_tensor_where_the_outputs_agree():
    """An export's layout may be read otherwise than its model's."""
    graph = one_node("softmax", (2, 3, 3), (2, 3, 3), axis=2)
    tensors = {"x": np.random.default_rng(0).standard_normal((2, 3, 3))}
    turned = difference("axis", 2, 1)
    assert is_same_function(graph, turned, tensors, {}, outputs_agree=True) is None
    assert is_same_function(graph, turned, tensors, {}) is False
    # What does not show on this input may show on another one.
    hidden = {"x": np.zeros((2, 3, 3))}
    assert is_same_function(graph, turned, hidden, {}, outputs_agree=True) is False


@pytest.mark.parametrize(("expected", "value"), [(OPAQUE, "equal"), ("pow", "square")])
def test_what_cannot_be_evaluated_is_judged_by_the_numbers(expected, value):
    graph = one_node(expected, (1, 3), (1, 3))
    tensors = {"x": np.ones((1, 3))}
    found = difference("kind", expected, value)
    assert is_same_function(graph, found, tensors, {}, outputs_agree=True) is None
    assert is_same_function(graph, found, tensors, {}) is False


def test_joined_axes_are_tokens():
    assert channels_first("N (H W) C") == ()
    assert channels_first("N H W C")[0].order == (0, 3, 1, 2)


def test_a_convolution_that_mixes_tokens_reads_them_as_channels():
    hyper = {"out": 4, "kernel": [1]}
    for framework, expected in (("torch", False), ("onnx", False), ("keras", True)):
        graph = one_node("conv", (1, 4, 6), (1, 4, 6), framework=framework, **hyper)
        assert is_signal(graph, graph.nodes[0], {"x": "N T C"}) is expected


def test_a_batch_norm_of_joined_axes_is_calibrated_over_its_channels():
    def make(name: str, kind: str, source: str, *parameters: Parameter, **hyper: Any) -> Node:
        return Node(name, kind, kind, (source,), (f"{name}.0",), parameters, hyper)

    statistics = [
        Parameter(each, each, (3,), "float32") for each in ("gamma", "beta", "mean", "variance")
    ]
    kernel = Parameter("k", "kernel", (3, 3, 1, 1), "float32")
    nodes = (
        make("c", "conv", "x", kernel, out=3),
        make("r", "reshape", "c.0", target=[3, 20]),
        make("t", "transpose", "r.0", perm=[0, 2, 1]),
        make("n", "batch_norm", "t.0", *statistics),
    )
    shapes = {"x": (1, 3, 4, 5), "c.0": (1, 3, 4, 5), "r.0": (1, 3, 20), "t.0": (1, 20, 3)}
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    tensors["n.0"] = Tensor("n.0", (1, 20, 3), "float32")
    graph = Graph("torch", nodes, tensors, (Port("x", "x"),), (Port("y", "n.0"),))
    assert [each["axis"] for each in find_norms(graph)] == [2]


def test_a_scalar_weight_stays_a_scalar():
    pairs = [WeightPair("a", "b", WeightTransform())]
    found = transfer_group(pairs, {"a": np.array(2.0)}, np.array(0.0, np.float32))
    assert found.shape == ()
    assert found == 2.0


def test_what_an_export_has_from_its_model_is_left_out():
    own = PairDifference("torch", "1", "a", "stride", 2, 1, "")
    shared = replace(own, subject="onnx-torch", node="b")
    another = replace(shared, value=3)
    alone = replace(shared, subject="onnx-keras")
    sources = {"torch": "", "onnx-torch": "torch", "onnx-keras": "keras"}
    given = [own, shared, another, alone]
    assert leave_out_shared(given, sources) == [own, another, alone]


@pytest.mark.parametrize(
    ("kind", "hyper", "folded"),
    [
        ("avg_pool", {"padding": [[0, 0], [0, 0]]}, True),
        ("avg_pool", {"padding": [[1, 1], [0, 0]], "count_padding": True}, True),
        # The pool's own padding does not count, and the zeros before it do.
        ("avg_pool", {"padding": [[1, 1], [0, 0]], "count_padding": False}, False),
        # Zeros are no padding of a maximum, which is below every value.
        ("max_pool", {"padding": [[0, 0], [0, 0]]}, False),
    ],
)
def test_zeros_before_a_mean_count_in_it(kind, hyper, folded) -> None:
    window = {"kernel": [3, 3], "stride": [1, 1], "ceil": False}
    pad = Node("p", "pad", "pad", ("x",), ("t",), (), {"padding": [[1, 1], [1, 1]]})
    pool = Node("n", kind, kind, ("t",), ("y",), (), {**window, **hyper})
    tensors = {name: Tensor(name, (1, 2, 6, 6), "float32") for name in ("x", "t", "y")}
    graph = Graph("torch", (pad, pool), tensors, (Port("x", "x"),), (Port("y", "y"),))
    found = fold_padding(graph, pool)
    assert (found.inputs == ("x",)) is folded
    if folded:
        rows = [1 + hyper["padding"][0][0]] * 2
        assert found.hyper["padding"] == [rows, [1, 1]]
        assert found.hyper["count_padding"]
