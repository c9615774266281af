"""Rotary positions that are measured on what they turn."""

from __future__ import annotations

import numpy as np
import pytest

from parity.explain.proof import rotations
from parity.explain.proof.rotations import HALVES, NEIGHBOURS, describe_difference, find_rotation

POSITIONS, WIDTH = 9, 8


def turn(
    data, *, base=10000.0, first=0, count=WIDTH, pairing=HALVES, sign=1.0, start=0, factor=1.0
):
    """Return (N, heads, T, C) with `count` features turned, written without complex numbers."""
    angles = np.arange(start, start + data.shape[-2])[:, None] * base ** (
        -np.arange(0, count, 2) / count
    )
    cos, sin = factor * np.cos(angles), factor * sign * np.sin(angles)
    place = slice(first, first + count)
    part, output = data[..., place], data.copy()
    if pairing == HALVES:
        a, b = np.split(part, 2, -1)
        output[..., place] = np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
    else:
        a, b = part[..., ::2], part[..., 1::2]
        turned = np.stack([a * cos - b * sin, a * sin + b * cos], -1)
        output[..., place] = turned.reshape(part.shape)
    return output


@pytest.fixture
def data():
    return np.random.default_rng(0).standard_normal((2, 3, POSITIONS, WIDTH))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"count": 4}, "turns the features 0 to 3 of 8 by their positions, not 0 to 7 of 8"),
        ({"count": 4, "first": 4}, "turns the features 4 to 7 of 8"),
        ({"pairing": NEIGHBOURS}, "turns pairs of neighbours, not of halves"),
        ({"sign": -1.0}, "turns by the negative angles"),
        ({"base": 500.0}, "are 500^(-i/4), not 10000^(-i/4)"),
        ({"start": 1}, "turns each position as the reference turns the one that is 1 after it"),
        ({"factor": 1.25}, "multiplies by 1.25 as well"),
    ],
)
def test_another_rotation_is_described(data, change, text):
    wanted, found = find_rotation(data, turn(data)), find_rotation(data, turn(data, **change))
    described = describe_difference(wanted, found)
    assert described is not None
    assert text in described[0]
    assert np.allclose(found.apply(data), turn(data, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"pairing": NEIGHBOURS, "base": 500.0},
        {"count": 4, "base": 500.0, "start": 2},
        {"count": 4, "base": 500.0},
        {"count": 2},
        {"sign": -1.0, "base": 500.0},
        {"start": 1, "base": 500.0},
        {"factor": 1.25, "base": 500.0},
    ],
)
def test_what_is_not_all_that_differs_is_not_said(data, change):
    wanted, found = find_rotation(data, turn(data)), find_rotation(data, turn(data, **change))
    assert describe_difference(wanted, found) is None


def test_sines_for_cosines_are_no_offset(data):
    angles = np.arange(POSITIONS)[:, None] * 10000.0 ** (-np.arange(0, WIDTH, 2) / WIDTH)
    a, b = np.split(data, 2, -1)
    cos, sin = np.sin(angles), np.cos(angles)
    swapped = np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
    text, _ = describe_difference(find_rotation(data, turn(data)), find_rotation(data, swapped))
    assert text == "It has sines where the reference has cosines"


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 0, 1, 2)])
def test_a_rotation_is_found_in_any_order_of_the_axes(data, axes):
    before, after = data.transpose(axes), turn(data).transpose(axes)
    found = find_rotation(before, after)
    assert found is not None
    assert (found.first, found.last, found.pairing) == (0, WIDTH - 1, HALVES)
    assert found.apply(before) == pytest.approx(after)
    assert describe_difference(found, find_rotation(before, after)) is None


def test_what_is_no_rotation_is_none(data):
    noise = np.random.default_rng(1).standard_normal(data.shape)
    assert find_rotation(data, noise) is None
    assert find_rotation(data, data) is None
    assert find_rotation(data, turn(data) + 0.01 * noise) is None
    assert find_rotation(data, turn(data)[..., :-1]) is None
    assert find_rotation(data[:1, :1], turn(data[:1, :1])) is None, "one row proves nothing"
    assert find_rotation(data, 0.9 * data) is None, "a factor turns nothing"
    assert find_rotation(data, np.concatenate([-data[..., :4], data[..., 4:]], -1)) is None
    scale = 1.0 + 0.5 * np.arange(WIDTH)
    assert find_rotation(data, data * scale) is None
    alike = np.broadcast_to(data[:1, :1], data.shape)
    assert find_rotation(alike, alike + alike * scale) is None, "equal rows fit any factors"
    assert find_rotation(alike, turn(alike)) is None
    angles = np.random.default_rng(2).uniform(0.0, 6.0, (POSITIONS, 1))
    a, b = np.split(data, 2, -1)
    moved = np.concatenate(
        [a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)], -1
    )
    assert find_rotation(data, moved) is None, "its angles do not grow with the position"
    assert find_rotation(0 * data, 0 * data) is None
    assert rotations.find_rotation(data * np.nan, turn(data)) is None
