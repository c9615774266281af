"""Rearrangements: every one is a bijection that `undo` inverts."""

from __future__ import annotations

import numpy as np
import pytest

from parity.network.rearrangement import IDENTITY, Rearrangement
from parity.processes.graph_requests import TensorPoint

SHAPES = [
    (Rearrangement(order=(0, 3, 1, 2)), (2, 5, 6, 3)),
    (Rearrangement(split=(-1, 4, 5, 3), order=(0, 3, 1, 2), merged=(-1, 60)), (2, 60)),
    (Rearrangement(merged=(-1, 7)), (2, 7, 1, 1)),
    (Rearrangement(split=(-1, 7, 1, 1)), (2, 7)),
    (IDENTITY, (3, 4)),
]


@pytest.mark.parametrize(("rearrangement", "shape"), SHAPES)
def test_invert_inverts_apply(rearrangement: Rearrangement, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    result = rearrangement.apply(array)
    assert result.shape == rearrangement.infer_shape(shape)
    np.testing.assert_array_equal(rearrangement.invert(result, shape), array)


def test_a_point_applies_its_rearrangements_in_order() -> None:
    point = TensorPoint(
        "p", "1", (Rearrangement(merged=(-1, 4, 5, 3)), Rearrangement(order=(0, 3, 1, 2)))
    )
    array = np.arange(120).reshape(2, 60)
    result = point.apply(array)
    np.testing.assert_array_equal(result, array.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(point.invert(result, array.shape), array)
    assert TensorPoint.from_json(point.to_json()) == point


def test_a_rearrangement_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="reshape"):
        Rearrangement(split=(-1, 4, 4)).apply(np.zeros((2, 15)))
