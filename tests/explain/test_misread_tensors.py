"""What a subject reads of a tensor that the reference has only in part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.explain import misread_tensors
from parity.explain.misread_tensors import find_other_place
from parity.network.graph import Graph, Node, Port, Tensor

STEPS = np.random.default_rng(0).standard_normal((2, 7, 3))


def sliced(start: int, *, squeeze: bool = True) -> Graph:
    """Return a graph that takes one of seven steps."""
    hyper = {"axes": [1], "starts": [start], "ends": [start + 1], "steps": [1]}
    shape = (2, 3) if squeeze else (2, 1, 3)
    return Graph(
        "torch",
        (Node("s", "slice", "select", ("x",), ("y",), hyper={**hyper, "squeeze": [1] * squeeze}),),
        {"x": Tensor("x", (2, 7, 3), "float32"), "y": Tensor("y", shape, "float32")},
        (Port("x", "x"),),
        (Port("y", "y"),),
    )


def test_another_step_is_found():
    source, misread = find_other_place(sliced(0), "y", {"x": STEPS}, STEPS[:, -1])
    assert source == "x"
    assert misread.description == "0 of axis 1 of {}, where the reference has 6"
    assert misread.remedy == "read 6 of axis 1 of {}"
    np.testing.assert_array_equal(misread.values, STEPS[:, 0])


def test_the_same_step_is_no_finding():
    assert find_other_place(sliced(6), "y", {"x": STEPS}, STEPS[:, -1]) is None


@pytest.mark.parametrize("wanted", [STEPS[:, 3] + 1.0, STEPS[:, 3:4]])
def test_values_or_shapes_that_no_step_has_are_no_finding(wanted):
    assert find_other_place(sliced(0), "y", {"x": STEPS}, wanted) is None


def test_two_steps_with_the_wanted_values_are_no_finding():
    steps = STEPS.copy()
    steps[:, 4] = steps[:, 2]
    assert find_other_place(sliced(0), "y", {"x": steps}, steps[:, 2]) is None
    assert find_other_place(sliced(0), "y", {"x": steps}, steps[:, 3]) is not None


@pytest.mark.parametrize(("steps", "values"), [(7, 1), (7, 4), (2, 10), (1000, 2)])
def test_too_few_values_to_be_of_a_place_are_no_finding(steps, values):
    """A maximum takes a few values from one step by chance."""
    own = np.random.default_rng(1).standard_normal((1, steps, values))
    graph = sliced(0)
    shapes = {"x": own.shape, "y": (1, values)}
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    graph = replace(graph, tensors=tensors)
    assert find_other_place(graph, "y", {"x": own}, own[:, -1]) is None


def test_a_large_tensor_is_not_searched(monkeypatch):
    monkeypatch.setattr(misread_tensors, "MOST_VALUES", STEPS.size - 1)
    assert find_other_place(sliced(0), "y", {"x": STEPS}, STEPS[:, -1]) is None


def test_an_empty_part_is_no_finding():
    graph = sliced(0)
    hyper = {**graph.nodes[0].hyper, "ends": [0], "squeeze": []}
    empty = replace(
        graph,
        nodes=(replace(graph.nodes[0], hyper=hyper),),
        tensors={**graph.tensors, "y": Tensor("y", (2, 0, 3), "float32")},
    )
    assert find_other_place(empty, "y", {"x": STEPS}, STEPS[:, :0]) is None
