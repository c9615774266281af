"""The inputs that models are given where the options and the models disagree."""

from __future__ import annotations

import pytest

from parity.comparison.graphs.inputs import DeclaredInput, choose_inputs
from parity.comparison.graphs.request import GraphRequest
from parity.errors import UsageError


def choose(shape, **fields):
    request = GraphRequest(("a.py:b",), input="random", **fields)
    return choose_inputs(request, [DeclaredInput("x", shape, "float32", "test")], None, seed=0)


def test_the_image_size_fills_free_axes():
    assert choose((None, 3, None, None), image_size=(32, 48)).arrays["x"].shape == (1, 3, 32, 48)
    assert choose((None, None, None, 3), image_size=(32, 48)).arrays["x"].shape == (1, 32, 48, 3)


def test_the_image_size_is_not_ignored_where_the_model_states_its_own():
    assert choose((None, 3, 64, 64), image_size=(64, 64)).arrays["x"].shape == (1, 3, 64, 64)
    with pytest.raises(UsageError, match="--image-size: the model's input is 64x64 pixels"):
        choose((None, 3, 64, 64), image_size=(32, 32))
