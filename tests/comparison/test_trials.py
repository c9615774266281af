"""Which other inputs any models are compared on, and what an input cannot show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from parity.comparison.graphs.blind_spots import find_limits
from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.request import GraphSubject
from parity.comparison.graphs.shared_inputs import find_open_axes, resize_inputs
from parity.comparison.graphs.state import SubjectModel
from parity.comparison.graphs.trials import make_stress_inputs, other_length
from parity.network.alignment import Alignment
from parity.network.graph import Graph, Node, Parameter, Port, Tensor
from parity.network.inputs import make_stress_arrays
from parity.network.inputs import make_stress_inputs as stress_images
from parity.network.rearrangement import Rearrangement


def _model(*declared: int | None) -> SubjectModel:
    """A model that reads 11 ids, a mask and noise."""
    table = Parameter("table", "kernel", (11, 4), "float32")
    node = Node("e", "embedding", "embedding", ("ids",), ("y",), (table,))
    shapes = {"ids": ((2, 5), "int64"), "mask": ((2, 5), "int64"), "x": ((2, 5, 3), "float32")}
    tensors = {name: Tensor(name, *each) for name, each in shapes.items()}
    tensors["y"] = Tensor("y", (2, 5, 4), "float32")
    ports = tuple(Port(name, name, declared if name == "x" else ()) for name in shapes)
    graph = Graph("torch", (node,), tensors, ports, (Port("y", "y"),))
    arrays = {name: np.ones(shape, dtype) for name, (shape, dtype) in shapes.items()}
    inputs = InputArrays(arrays, "test")
    subject = GraphSubject("a", "torch", "torch")
    return SubjectModel(subject, graph, inputs, Path("none"), True, {}, 0.0)


def test_stress_inputs_keep_integers_integers_and_ids_in_the_vocabulary() -> None:
    model = _model()
    found = make_stress_inputs(model)
    assert {"zeros", "large", "impulse", "first id", "last id", "ascending ids"} <= set(found)
    for arrays in found.values():
        for name, array in arrays.items():
            own = model.inputs.arrays[name]
            assert (array.dtype, array.shape) == (own.dtype, own.shape)
        assert arrays["ids"].min() >= 0
        assert arrays["ids"].max() <= 10
        # A mask is no id, and nothing says what its values mean.
        assert np.array_equal(arrays["mask"], model.inputs.arrays["mask"])
    assert found["last id"]["ids"].min() == 10
    assert len(np.unique(found["ascending ids"]["ids"])) == 10
    assert found["large"]["x"].max() == 1e4


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 7), (3,), (2, 5, 4, 3, 2)])
def test_stress_patterns_of_any_rank(shape: tuple[int, ...]) -> None:
    found = make_stress_arrays(shape)
    assert set(found) == set(stress_images((3, 8, 8)))
    for name, array in found.items():
        assert (array.shape, array.dtype) == (shape, np.float32), name
        assert np.isfinite(array).all()
    assert np.count_nonzero(found["impulse"]) == shape[0]


@pytest.mark.parametrize(
    ("kind", "hyper", "limits"),
    [
        ("relu", {}, (-math.inf, math.inf)),
        ("relu6", {}, (-math.inf, 6.0)),
        ("bounded_relu", {"max_value": 4}, (-math.inf, 4.0)),
        ("clip", {"low": -1, "high": None}, (-1.0, math.inf)),
        ("hard_sigmoid", {"slope": 0.2, "offset": 0.5}, (-2.5, 2.5)),
        ("hard_swish", {}, (-3.0, 3.0)),
    ],
)
def test_the_limits_of_activations(kind, hyper, limits) -> None:
    assert find_limits(Node("a", kind, kind, ("x",), ("y",), hyper=hyper)) == limits


def test_axes_of_any_length_leave_the_batch_out() -> None:
    assert find_open_axes(_model(None, None, 3)) == {"x": (1,)}
    assert find_open_axes(_model()) == {}


def test_another_length() -> None:
    assert [other_length(n) for n in (1, 5, 16, 64, 224)] == [2, 7, 24, 32, 160]


def test_inputs_at_another_size_have_the_models_own_axes() -> None:
    alignment = Alignment(
        (), inputs={"x": "x"}, input_rearrangements={"x": Rearrangement(order=(0, 2, 1))}
    )
    arrays = {"x": np.zeros((2, 3, 9), np.float32)}
    found = resize_inputs(_model(None, None, 3), alignment, arrays)
    assert found is not None
    assert found["x"].shape == (2, 9, 3)
    # A length that the model states to be fixed is not changed.
    assert resize_inputs(_model(None, 5, 3), alignment, arrays) is None
    split = Alignment(
        (), inputs={"x": "x"}, input_rearrangements={"x": Rearrangement(split=(2, 15))}
    )
    assert resize_inputs(_model(None, None, 3), split, arrays) is None
