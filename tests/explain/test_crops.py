"""A crop behind a layer of the reference is a part of its padding."""

from __future__ import annotations

import numpy as np
import pytest

from parity.explain.crops import fold_crop
from parity.explain.proof.layer import Layer, evaluate
from parity.network.graph import Graph, Node, Port, Tensor

RNG = np.random.default_rng(0)
CONV = {"stride": (1,), "dilation": (2,), "groups": 1, "kernel": (3,)}


def make(*, hyper, start=0, end=-4, more=(), outputs=()):
    """Return a graph of a convolution that is cropped, its layer, and the layer's output."""
    data, kernel = RNG.standard_normal((2, 3, 12)), RNG.standard_normal((5, 3, 3))
    layer = Layer("conv", (data,), hyper, {"kernel": kernel})
    output = evaluate(layer)
    crop = {"axes": [2], "starts": [start], "ends": [end], "steps": [1], "squeeze": []}
    nodes = (
        Node("conv", "conv", "conv", ("x",), ("y",), (), hyper, ""),
        Node("crop", "slice", "slice", ("y",), ("z",), (), crop, ""),
        *more,
    )
    shapes = {"x": data.shape, "y": output.shape, "z": output[:, :, start:end].shape, "w": (1,)}
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    return Graph("torch", nodes, tensors, (), outputs), layer, output


def test_padding_on_both_sides_and_a_crop_is_causal_padding():
    graph, layer, output = make(hyper={**CONV, "padding": [[4, 4]]})
    folded, read = fold_crop(graph, graph.nodes[0], layer, output)
    assert folded.hyper["padding"] == [[4, 0]]
    np.testing.assert_allclose(evaluate(folded), read)
    assert read.shape == (2, 5, 12)


def test_a_crop_at_the_start_takes_the_padding_there():
    graph, layer, output = make(hyper={**CONV, "padding": [[4, 4]]}, start=3, end=17)
    folded, read = fold_crop(graph, graph.nodes[0], layer, output)
    assert folded.hyper["padding"] == [[1, 4]]
    np.testing.assert_allclose(evaluate(folded), read)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({"hyper": {**CONV, "padding": [[4, 2]]}}, id="more than the padding"),
        pytest.param({"hyper": {**CONV, "padding": [[4, 4]], "stride": (2,)}}, id="strided"),
        pytest.param(
            {
                "hyper": {**CONV, "padding": [[4, 4]]},
                "more": (Node("relu", "relu", "relu", ("y",), ("w",), (), {}, ""),),
            },
            id="something else reads all of it",
        ),
        pytest.param(
            {"hyper": {**CONV, "padding": [[4, 4]]}, "outputs": (Port("out", "y"),)},
            id="an output of the model",
        ),
    ],
)
def test_what_is_no_padding_is_left(case):
    graph, layer, output = make(**case)
    folded, read = fold_crop(graph, graph.nodes[0], layer, output)
    assert folded is layer
    assert read is output


def test_a_transposed_convolution_is_left():
    hyper = {**CONV, "padding": [[4, 4]], "output_padding": (0,)}
    graph, layer, _ = make(hyper=hyper)
    kernel = RNG.standard_normal((3, 5, 3))
    layer = Layer("conv_transpose", layer.inputs, hyper, {"kernel": kernel})
    output = evaluate(layer)
    folded, read = fold_crop(graph, graph.nodes[0], layer, output)
    assert folded is layer
    assert read is output
