"""Patterns of several ONNX nodes become one node, and what only looks like one does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

pytest.importorskip("onnxruntime")

from parity.network import kinds
from parity.network.graph import Graph
from parity.runtimes.onnx.model_file import parse_model
from parity.runtimes.onnx.model_sessions import ModelSessions, SessionModel
from tests.runtimes.onnx_models import Array, drawn, model, node

pytestmark = pytest.mark.framework

X = drawn(2, 5, 6)
WEIGHTS: dict[str, Array] = {
    "half": np.float32(0.5), "one": np.float32(1), "root": np.float32(math.sqrt(2)),
    "inverse": np.float32(math.sqrt(0.5)), "two": np.float32(2), "epsilon": np.float32(1e-5),
    "third": np.float32(1 / 3), "gamma": drawn(6), "beta": drawn(6, seed=1),
    "axis": np.array([-1]), "other": np.array([1]),
    "apart": np.array([2, 1, 30]), "back": np.array([2, 5, 6]), "scale": drawn(5, 1),
    "shift": drawn(5, 1, seed=1), "ones": np.ones(1, np.float32), "none": np.zeros(1, np.float32),
    "twos": np.full(1, 2, np.float32), "column": drawn(6, 1), "lone": drawn(1),
}  # fmt: skip


def read(lines: str, *outputs: str) -> tuple[Graph, dict[str, Array]]:
    """The graph of nodes written as `operator inputs > outputs`, and its outputs' values."""
    nodes: list[NodeProto] = []
    for line in lines.strip().splitlines():
        (operator, *inputs), made = (part.split() for part in line.split(">"))
        attributes: dict[str, Any] = {}
        if operator == "HardSigmoid6":
            operator, attributes = "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}
        nodes.append(node(operator, " ".join(inputs), " ".join(made), **attributes))
    read_weights = {n for each in nodes for n in each.input} & set(WEIGHTS)
    proto = model(nodes, {"x": (2, 5, 6)}, outputs or ["y"], {n: WEIGHTS[n] for n in read_weights})
    sessions = ModelSessions()
    sessions.subject = SessionModel(parse_model(proto, "model"))
    graph = sessions.record({"x": X})
    graph.validate("model")
    found: dict[str, Array] = {}
    ends = [port.tensor for port in graph.outputs]
    sessions.run_tensors({"x": X}, ends, lambda name, array: found.update({name: array.copy()}))
    return graph, found


SILU = "Sigmoid x > s\nMul x s > y"
MEAN = "ReduceMean x axis > m\nSub x m > d"
SPREAD = "ReduceMean q axis > v\nAdd v epsilon > e\nSqrt e > r"
AFFINE = "Mul n gamma > g\nAdd g beta > y"

PATTERNS = {
    "silu": ("silu", SILU),
    "silu reversed": ("silu", "Sigmoid x > s\nMul s x > y"),
    "hard swish": ("hard_swish", "HardSigmoid6 x > s\nMul x s > y"),
    "mish": ("mish", "Softplus x > p\nTanh p > t\nMul x t > y"),
    "gelu of torch.onnx": (
        "gelu", "Div x root > a\nErf a > f\nAdd f one > b\nMul x b > c\nMul c half > y"
    ),
    "gelu, half first": (
        "gelu", "Mul x inverse > a\nErf a > f\nAdd one f > b\nMul half x > c\nMul c b > y"
    ),
    "gelu, half inside": (
        "gelu", "Mul x inverse > a\nErf a > f\nMul f half > h\nAdd h half > b\nMul x b > y"
    ),
    "gelu, half on the factor": (
        "gelu", "Div x root > a\nErf a > f\nAdd f one > b\nMul b half > c\nMul c x > y"
    ),
    "layer norm": ("layer_norm", f"{MEAN}\nPow d two > q\n{SPREAD}\nDiv d r > n\n{AFFINE}"),
    "layer norm by its reciprocal": (
        "layer_norm", f"{MEAN}\nMul d d > q\n{SPREAD}\nReciprocal r > i\nMul d i > n\n{AFFINE}"
    ),
    "layer norm without weights": (
        "layer_norm", f"{MEAN}\nMul d d > q\n{SPREAD}\nDiv d r > y"
    ),
    "layer norm of tf2onnx": (
        "layer_norm",
        f"{MEAN}\nMul d d > q\n{SPREAD}\nReciprocal r > i\nMul i gamma > s\nMul x s > a\n"
        "Neg m > k\nMul k s > b\nAdd b beta > c\nAdd a c > y",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_one_node_that_computes_the_same(name: str) -> None:
    kind, lines = PATTERNS[name]
    graph, found = read(lines)
    (only,) = graph.nodes
    assert (only.kind, only.inputs, only.outputs) == (kind, ("x",), ("y",))
    weights = {each.role: WEIGHTS[each.name] for each in only.parameters}
    assert set(weights) <= {"gamma", "beta"}
    expected = kinds.evaluate(kind, [X.astype(np.float64)], weights, only.hyper)
    np.testing.assert_allclose(found["y"], expected, rtol=1e-4, atol=1e-5)


def test_the_epsilon_and_the_axes_are_read() -> None:
    graph, _ = read(PATTERNS["layer norm"][1])
    assert graph.nodes[0].hyper == {"epsilon": 1e-5, "axes": [2]}


NEAR_MISSES = {
    "gate of another tensor": "Neg x > z\nSigmoid z > s\nMul x s > y",
    "gelu of a third": "Mul x inverse > a\nErf a > f\nAdd f one > b\nMul x b > c\nMul c third > y",
    "gelu of another width": "Div x two > a\nErf a > f\nAdd f one > b\nMul x b > c\nMul c half > y",
    "gelu of another argument":
        "Neg x > z\nDiv z root > a\nErf a > f\nAdd f one > b\nMul x b > c\nMul c half > y",
    "variance over another axis":
        "ReduceMean x other > m\nSub x m > d\nMul d d > q\n" + SPREAD + "\nDiv d r > y",
    "cube": f"{MEAN}\nMul d d > p\nMul p d > q\n{SPREAD}\nDiv d r > y",
    "quotient of another tensor": f"{MEAN}\nMul d d > q\n{SPREAD}\nDiv x r > y",
    "product with the root": f"{MEAN}\nMul d d > q\n{SPREAD}\nMul d r > y",
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_only_looks_like_a_pattern_stays(name: str) -> None:
    graph, _ = read(NEAR_MISSES[name])
    assert len(graph.nodes) == len(NEAR_MISSES[name].splitlines())


@pytest.mark.parametrize("last", ["Mul n k > y", "Add n k > y", "Mul n k > g\nAdd g beta > y"])
def test_a_layer_norm_is_not_scaled_by_a_constant_that_the_graph_computes(last: str) -> None:
    graph, _ = read(f"Neg gamma > k\n{MEAN}\nMul d d > q\n{SPREAD}\nDiv d r > n\n{last}")
    assert "layer_norm" in [each.kind for each in graph.nodes]
    assert all(each.parameters or each.constant_ids for each in graph.nodes[1:])


def test_a_pattern_whose_inside_is_read_elsewhere_stays() -> None:
    graph, _ = read(f"{SILU}\nNeg s > z", "y", "z")
    assert [each.kind for each in graph.nodes] == ["sigmoid", "multiply", "neg"]
    graph, _ = read(SILU, "y", "s")
    assert [each.kind for each in graph.nodes] == ["sigmoid", "multiply"]


GROUPS = "Reshape x apart > a\nInstanceNormalization a {} > i\nReshape i back > b\n"
SCALED = "Mul b scale > g\nAdd g shift > y"


def test_groups_as_the_channels_of_an_instance_norm_are_a_group_norm():
    graph, found = read(GROUPS.format("ones none") + SCALED)
    (joined,) = graph.nodes
    assert (joined.kind, joined.hyper["groups"]) == ("group_norm", 1)
    weights = {"gamma": WEIGHTS["scale"].ravel(), "beta": WEIGHTS["shift"].ravel()}
    assert [each.role for each in joined.parameters] == list(weights)
    wanted = kinds.evaluate("group_norm", (np.float64(X),), weights, joined.hyper)
    assert np.abs(found["y"] - wanted).max() < 1e-5


@pytest.mark.parametrize(
    "lines",
    [
        # Weights of the groups themselves, and a tensor inside that is an output.
        GROUPS.format("twos none") + SCALED,
        GROUPS.format("ones twos") + SCALED,
    ],
)
def test_an_instance_norm_with_weights_is_none(lines):
    graph, _ = read(lines)
    assert "instance_norm" in [each.kind for each in graph.nodes]
    graph, _ = read(GROUPS.format("ones none") + SCALED, "y", "i")
    assert "instance_norm" in [each.kind for each in graph.nodes]


@pytest.mark.parametrize("added", ["Add p lone > y", "Add lone p > y"])
def test_the_bias_of_one_output_channel_is_a_weight(added: str) -> None:
    graph, _ = read(f"MatMul x column > p\n{added}")
    (dense,) = graph.nodes
    assert dense.kind == "dense"
    assert [(each.name, each.role) for each in dense.parameters] == [
        ("column", "kernel"), ("lone", "bias")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "lines", ["ReduceMean x axis > p\nAdd p lone > y", "MatMul x column > p\nAdd p half > y"]
)
def test_a_number_that_is_added_elsewhere_is_a_constant(lines: str) -> None:
    graph, _ = read(lines)
    assert graph.nodes[-1].kind == "add"
    assert not graph.nodes[-1].parameters
