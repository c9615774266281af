"""How one table of constants became another: each relation on tables of several sizes."""

from __future__ import annotations

import numpy as np
import pytest

from parity.explain.proof.tables import Change, compare

SIZES = [(16, 8), (32, 24), (64, 128)]


def table(width, length, *, base=1e4, offset=0, scale=1.0, form="halves"):
    frequencies = base ** (-np.arange(0, width, 2) / width)
    angles = ((np.arange(length) + offset) * scale)[:, None] * frequencies
    found = {
        "halves": np.concatenate([np.cos(angles), np.cos(angles)], 1),
        "pairs": np.repeat(np.cos(angles), 2, 1),
        "sines": np.concatenate([np.sin(angles), np.cos(angles)], 1),
    }[form]
    return found.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize(("width", "length"), SIZES)
@pytest.mark.parametrize("form", ["halves", "pairs", "sines"])
@pytest.mark.parametrize(
    ("change", "kind", "found", "wanted"),
    [
        ({"base": 5e5}, Change.BASE, "500000", "10000"),
        ({"base": 1e3}, Change.BASE, "1000", "10000"),
        ({"offset": 1}, Change.OFFSET, "1 after", ""),
        ({"offset": -2}, Change.OFFSET, "2 before", ""),
        ({"scale": 0.25}, Change.SCALE, "0.25", ""),
    ],
)
def test_another_table_of_positions(width, length, form, change, kind, found, wanted):
    before, after = table(width, length, form=form), table(width, length, form=form, **change)
    relation = compare(before=before, after=after)
    assert (relation.kind, relation.found, relation.wanted) == (kind, found, wanted)
    # The same for heads that share it: what does not vary is no axis of the table.
    shared = [np.broadcast_to(each, (2, 3, *each.shape)) for each in (before, after)]
    assert compare(before=shared[0], after=shared[1]) == relation


@pytest.mark.parametrize(("width", "length"), SIZES)
def test_pairs_for_halves(width, length):
    before, after = (table(width, length, form=form) for form in ("halves", "pairs"))
    relation = compare(before=before, after=after)
    assert relation.kind is Change.ORDER
    assert relation.wanted == "with equal frequencies in both halves"
    assert relation.found == "with equal frequencies side by side"


def test_tables_that_are_no_sines():
    rng = np.random.default_rng(0)
    own = rng.standard_normal((12, 7))
    assert compare(before=own, after=own * -0.5).found == "-0.5"
    assert compare(before=own, after=own * -0.5).kind is Change.FACTOR
    assert compare(before=own[:-1], after=own[1:]).kind is Change.OFFSET
    assert compare(before=own, after=own[:, rng.permutation(7)]).kind is Change.ORDER
    other = own.copy()
    other[3, 2] += 1.0
    relation = compare(before=own, after=other)
    assert (relation.kind, relation.found) == (Change.OTHER, "1% of 12×7, up to 1 apart")
    # Too few positions say nothing of frequencies.
    assert compare(before=table(8, 3), after=table(8, 3, base=10.0)).kind is Change.OTHER


def test_a_table_of_one_position_more_is_told_from_one_that_repeats_itself():
    own = np.tile(np.array([[1.0], [2.0]]), (6, 4))
    assert compare(before=own, after=own + np.array([0, 0, 0, 1.0])).kind is Change.OTHER
