"""The axes of operations of two graphs: one axis has two numbers where the order is another."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from parity.explain.region_search import _Comparison
from parity.network.graph import Graph, Node, Tensor


def compare(*, shapes, axes):
    """Return the settings in which two splits differ, by name."""
    nodes, graphs = [], []
    for shape, axis in zip(shapes, axes, strict=True):
        hyper = {"axis": axis, "sizes": [24, 24]}
        node = Node("split", "split", "split", ("x",), ("y",), (), hyper, "")
        tensors = {name: Tensor(name, shape, "float32") for name in "xy"}
        nodes.append(node)
        graphs.append(Graph("torch", (node,), tensors, (), ()))
    regions = [SimpleNamespace(graph=graph, values=({}, {})) for graph in graphs]
    return [each.name for each in _Comparison(*regions, ({}, {}))(*nodes)]


@pytest.mark.parametrize("axes", [(1, 2), (-2, -1), (1, -1)])
def test_the_channels_of_a_signal_are_one_axis_in_both_orders(axes):
    assert compare(shapes=[(2, 48, 16), (2, 16, 48)], axes=axes) == []


def test_another_axis_of_the_same_order_is_a_difference():
    assert compare(shapes=[(2, 48, 16), (2, 48, 16)], axes=(1, 2)) == ["axis"]


def test_another_axis_of_another_order_is_a_difference():
    assert compare(shapes=[(2, 48, 16), (2, 16, 48)], axes=(0, 2)) == ["axis"]
