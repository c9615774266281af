"""The inputs of an operation have its constants at their places."""

from __future__ import annotations

import numpy as np
import pytest

from parity.explain.graph_inputs import with_constants
from parity.network.graph import Graph, Node, Port, Tensor


@pytest.mark.parametrize("value", [0.5, [0.5], [[0.5]]])
@pytest.mark.parametrize("place", [0, 1])
def test_a_number_of_any_shape(value, place):
    node = Node("1", "sub", "sub", ("x",), ("y",), constants={str(place): value})
    tensors = {name: Tensor(name, (1, 1), "float32") for name in "xy"}
    graph = Graph("torch", (node,), tensors, (Port("x", "x"),), (Port("y", "y"),))
    data = np.full((1, 1), 3.0)
    _, inputs, places = with_constants(graph, node, {"x": data})
    assert places == {place}
    assert inputs[place].shape == ()
    assert inputs[place] == 0.5
    assert inputs[1 - place] is data


def test_several_values_are_no_number():
    node = Node("1", "sub", "sub", ("x",), ("y",), constants={"1": [0.5, 0.6]})
    tensors = {name: Tensor(name, (1, 2), "float32") for name in "xy"}
    graph = Graph("torch", (node,), tensors, (Port("x", "x"),), (Port("y", "y"),))
    _, inputs, places = with_constants(graph, node, {"x": np.ones((1, 2))})
    assert len(inputs) == 1
    assert not places
