"""Dtypes and axis orders that are tried on a module that states no inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from parity.errors import InputError
from parity.runtimes.torch.guesses import guess_inputs, try_image_shapes
from tests.runtimes.torch_models import Residual, Tokens, TwoInputs

pytestmark = pytest.mark.framework


def only(model, *shapes):
    (found,) = guess_inputs(model.eval(), shapes)
    return found


def test_an_image_of_another_framework_is_permuted():
    (image,) = guess_inputs(Residual().eval(), [(1, 8, 6, 3)])[0]
    assert (image.name, image.dtype, image.consumer) == ("x", "float32", "conv")
    assert (image.shape, image.order) == ((1, 3, 8, 6), (0, 3, 1, 2))


def test_several_orders_may_run():
    """The height and the width of an image: the one as it is comes first."""
    found = guess_inputs(Residual().eval(), [(1, 3, 8, 6)])
    assert [guess[0].shape for guess in found] == [(1, 3, 8, 6), (1, 3, 6, 8)]


def test_an_embedding_means_integers_below_its_size():
    (ids,) = only(Tokens(), (2, 5))
    assert (ids.dtype, ids.below, ids.consumer) == ("int64", 11, "embedding")


def test_each_of_several_inputs_is_tried():
    left, right = only(TwoInputs(), (2, 4), (2, 3))
    assert (left.name, right.name, right.dtype) == ("left", "right", "float32")


def test_none_that_runs_is_an_error():
    with pytest.raises(InputError, match=r"none of \d+ dtypes.*\(1, 5, 5, 5\).*RuntimeError"):
        guess_inputs(Residual().eval(), [(1, 5, 5, 5)])
    with pytest.raises(InputError, match="takes left, right: expected 2 shapes, found 1"):
        guess_inputs(TwoInputs().eval(), [(1, 4)])


def test_time_first_is_tried():
    model = nn.RNN(3, 4).eval()
    orders = [guess[0].order for guess in guess_inputs(model, [(2, 5, 3)])]
    assert orders[0] == (0, 1, 2)
    assert (1, 0, 2) in orders
    assert torch.is_inference_mode_enabled() is False


def fixed_head(channels=1, size=28):
    return nn.Sequential(nn.Conv2d(channels, 2, 1), nn.Flatten(), nn.Linear(2 * size**2, 3)).eval()


def test_images_are_tried_until_enough_run():
    shapes = [(3, 28, 28), (1, 32, 32), (1, 28, 28), (1, 56, 14)]
    assert try_image_shapes(fixed_head(), shapes, enough=1)[0] == [[1, 28, 28]]
    # As many pixels: it runs, too.
    assert try_image_shapes(fixed_head(), shapes, enough=9)[0] == [[1, 28, 28], [1, 56, 14]]


def test_the_error_is_that_of_the_images_with_the_right_channels():
    for shapes in ([(3, 32, 32), (1, 32, 32)], [(1, 32, 32), (3, 32, 32)]):
        found, error = try_image_shapes(fixed_head(), shapes, enough=1)
        assert not found
        assert error.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
