"""Weight maps: every number of a canonical weight is in one place of another model's variables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from parity.errors import WeightError
from parity.network.alignment import WeightPair
from parity.network.alignment.transform import Slice, WeightTransform
from parity.network.rearrangement import Rearrangement
from parity.network.trained_layout import (
    ChoicePoint,
    TrainedLayout,
    WeightMap,
    number_weights,
    pairs_from_json,
    pairs_to_json,
)

SHAPES = {"conv.weight": (4, 3, 2, 2), "attention.in_proj_weight": (6, 2), "bias": (4,)}

PAIRS = (
    WeightPair("conv.weight", "conv/kernel", WeightTransform(order=(2, 3, 1, 0))),
    *(
        WeightPair(
            "attention.in_proj_weight",
            f"{name}/kernel",
            WeightTransform(order=(1, 0), take=(Slice(0, 2 * at, 2 * at + 2),)),
        )
        for at, name in enumerate(("query", "key", "value"))
    ),
    WeightPair("bias", "conv/bias", WeightTransform()),
)

VARIABLES = {
    "conv/kernel": (2, 2, 3, 4),
    "conv/bias": (4,),
    **{f"{name}/kernel": (2, 2) for name in ("query", "key", "value")},
}

LAYOUT = TrainedLayout(SHAPES, 10, PAIRS)


def values(seed=0):
    random = np.random.default_rng(seed)
    return {name: random.random(shape, np.float32) for name, shape in SHAPES.items()}


def test_numbers_move_there_and_back():
    found = LAYOUT.build_map(VARIABLES, source="keras")
    given = values()
    own = {name: found.to_variable(name, given) for name in VARIABLES}
    assert np.array_equal(own["conv/kernel"], given["conv.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(own["key/kernel"], given["attention.in_proj_weight"][2:4].T)
    back = found.to_canonical(own)
    assert back.keys() == given.keys()
    assert all(np.array_equal(back[name], given[name]) for name in given)
    assert found.names_of("key/kernel") == ("attention.in_proj_weight",)
    assert found.names_of("other") == ()


def test_turned_axes_are_kept_as_an_order_of_axes_and_not_as_places():
    """Copying by places costs many times more. Axes of length 1, as of 1×1 kernels, turn too."""
    shapes = {"a": (4, 3, 2, 2), "b": (5, 1), "c": (4, 3, 1, 1), "d": (2, 3)}
    numbers = number_weights(shapes)
    orders = {"a": (2, 3, 1, 0), "b": (1, 0), "c": (2, 3, 1, 0)}
    held = {name: numbers[name].transpose(order) for name, order in orders.items()}
    held["d"] = numbers["d"].reshape(3, 2).T.reshape(2, 3)
    found = WeightMap.from_numbers(shapes, held, source="keras")
    assert found.segments["a"][0].axes == (2, 3, 1, 0)
    assert all(found.segments[name][0].places is None for name in ("a", "b", "c"))
    # No order of axes: its numbers are in places of their own.
    assert found.segments["d"][0].axes is None
    assert found.segments["d"][0].places is not None
    for name in shapes:
        assert np.array_equal(found.to_variable(name, numbers), held[name]), name
        assert np.array_equal(found.to_canonical({name: held[name]})[name], numbers[name]), name


def test_what_is_given_in_part_is_zero_elsewhere_and_nothing_is_left_out():
    found = LAYOUT.build_map(VARIABLES, source="keras")
    part = found.to_canonical({"query/kernel": np.ones((2, 2))})
    assert list(part) == ["attention.in_proj_weight"]
    assert part["attention.in_proj_weight"].sum() == 4
    assert found.to_canonical({}) == {}


def test_one_variable_may_hold_several_weights():
    shapes = {"q": (2, 3), "k": (2, 3)}
    numbers = number_weights(shapes)
    packed = np.concatenate([numbers["q"], numbers["k"]]).T
    found = WeightMap.from_numbers(shapes, {"qk": packed}, source="keras")
    given = {"q": np.arange(6.0).reshape(2, 3), "k": -np.ones((2, 3))}
    own = found.to_variable("qk", given)
    assert np.array_equal(own, np.concatenate([given["q"], given["k"]]).T)
    assert np.array_equal(found.to_canonical({"qk": own})["q"], given["q"])
    assert found.names_of("qk") == ("q", "k")
    renamed = found.with_names({"qk": "qk_2"})
    assert np.array_equal(renamed.to_variable("qk_2", given), own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: {"a": n["a"]}, "no variable holds b: it has no partner"),
        (lambda n: {"a": n["a"], "b": n["a"]}, "b holds numbers that another variable holds too"),
        (lambda n: {"a": n["a"], "b": n["b"] * 0}, "b is computed from its partners"),
        (lambda n: {"a": n["a"] + n["b"], "b": n["b"]}, "a is computed|holds numbers"),
    ],
)
def test_a_copy_that_is_no_permutation_is_refused(change, message):
    shapes = {"a": (2,), "b": (2,)}
    with pytest.raises(WeightError, match=message) as error:
        WeightMap.from_numbers(shapes, change(number_weights(shapes)), source="the Keras model")
    assert "\n" not in str(error.value)


def test_a_layout_is_read_as_it_was_written():
    point = ChoicePoint("relu", "relu", 2, Rearrangement(order=(0, 3, 1, 2)), (1, 0, 1, 0))
    layout = TrainedLayout(SHAPES, 10, PAIRS, (point,), {"relu": 3, "max_pool": 0})
    assert TrainedLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    assert pairs_from_json(json.loads(json.dumps(pairs_to_json(PAIRS)))) == PAIRS


def test_a_model_without_pairs_has_the_canonical_names():
    found = TrainedLayout(SHAPES, 10).build_map(SHAPES, source="torch")
    given = values()
    assert all(np.array_equal(found.to_variable(name, given), given[name]) for name in SHAPES)
