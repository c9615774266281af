"""How one table of constants became another: each relation on tables of several sizes."""

from __future__ import annotations

import numpy as np
import pytest

from parity.explain.proof.tables import Change, Relation, compare, describe

SIZES = [(16, 8), (32, 24), (64, 128)]
FORMS = {
    "halves": lambda a: np.concatenate([np.cos(a), np.cos(a)], 1),
    "pairs": lambda a: np.repeat(np.cos(a), 2, 1),
    "sines": lambda a: np.concatenate([np.sin(a), np.cos(a)], 1),
    "alternating": lambda a: np.stack([np.sin(a), np.cos(a)], -1).reshape(len(a), -1),
    "turned": lambda a: np.concatenate([-np.sin(a), np.sin(a)], 1),
}


def table(width, length, *, base=1e4, offset=0, scale=1.0, form="halves", less=0, slower=0.0):
    powers = scale * base ** (-np.arange(width // 2) / (width // 2 - less))
    powers = np.where(powers < slower, 0.25 * powers, powers)
    angles = (np.arange(length) + offset)[:, None] * powers
    return FORMS[form](angles).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize(("width", "length"), SIZES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"base": 5e5}, "500000^(-i/{n})"),
        ({"base": 1e3}, "1000^(-i/{n})"),
        ({"scale": 0.25}, "0.25·10000^(-i/{n})"),
        ({"less": 1}, "10000^(-i/{less})"),
    ],
    ids=["base", "smaller", "scale", "exponent"],
)
def test_other_frequencies(width, length, form, change, found):
    before, after = table(width, length, form=form), table(width, length, form=form, **change)
    relation = compare(before=before, after=after)
    assert relation.kind is Change.FREQUENCIES
    number = width // 2
    assert relation.found == found.format(n=number, less=number - 1)
    assert relation.wanted == f"10000^(-i/{number})"
    # The same for heads that share it: what does not vary is no axis of the table.
    shared = [np.broadcast_to(each, (2, 3, *each.shape)) for each in (before, after)]
    assert compare(before=shared[0], after=shared[1]) == relation


@pytest.mark.parametrize(("width", "length"), SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_positions_that_are_counted_from_another_one(width, length, form):
    own = table(width, length, form=form)
    for offset, text in ((1, "1 after"), (-2, "2 before")):
        relation = compare(before=own, after=table(width, length, form=form, offset=offset))
        assert (relation.kind, relation.found) == (Change.OFFSET, text)


@pytest.mark.parametrize(("width", "length"), SIZES)
def test_pairs_for_halves(width, length):
    own = table(width, length)
    relation = compare(before=own, after=table(width, length, form="pairs"))
    assert relation.kind is Change.ORDER
    assert relation.wanted == "equal ones in both halves"
    assert relation.found == "equal ones side by side"
    relation = compare(before=own, after=table(width, length, form="pairs", base=1e3))
    assert relation.kind is Change.FREQUENCIES
    assert relation.found == f"1000^(-i/{width // 2}), equal ones side by side"


@pytest.mark.parametrize("change", [{"base": 12000.0, "offset": 1}, {"slower": 0.1}], ids=str)
@pytest.mark.parametrize(("width", "length"), SIZES)
def test_what_a_relation_would_not_give_is_not_named(width, length, change):
    """Only the low frequencies are slower, or two things differ: each alone would be half true."""
    relation = compare(before=table(width, length), after=table(width, length, **change))
    assert relation.kind is Change.OTHER


def test_another_rounding_is_no_relation():
    own = table(32, 160, form="sines")
    noise = 2e-5 * np.random.default_rng(0).uniform(-1, 1, own.shape)
    assert compare(before=own, after=own + noise).kind is Change.OTHER
    assert compare(before=own, after=own * (1 + 1e-5)).kind is Change.OTHER


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
    own = np.tile(np.array([[1.0], [2.0]]), (6, 4))
    assert compare(before=own, after=own + np.array([0, 0, 0, 1.0])).kind is Change.OTHER


def test_masks_of_infinity():
    masks = [np.triu(np.full((16, 16), -np.inf), 1), np.triu(np.full((16, 16), -np.inf), 2)]
    relation = compare(before=masks[0], after=masks[1])
    assert (relation.kind, relation.found) == (Change.OTHER, "6% of 16×16, up to inf apart")


def test_an_axis_is_numbered_as_it_was():
    """What does not vary is left out, and is an axis still."""
    own = np.random.default_rng(0).standard_normal((1, 6, 16))
    other = own[:, [1, 0, 2, 3, 5, 4]]
    assert compare(before=own, after=other).found == "1, 0, 2, 3, 5, 4 of axis 1"
    shared = [np.broadcast_to(each, (4, 6, 16)) for each in (own, other)]
    relation = compare(before=shared[0], after=shared[1], has_own_axes=False)
    assert relation.found == "1, 0, 2, 3, 5, 4 of the axis of length 6"
    own = np.random.default_rng(0).standard_normal((1, 16, 16))
    relation = compare(before=own, after=own[..., np.random.default_rng(1).permutation(16)])
    assert relation.found == "other places of axis 2"


def test_rounded_values_are_not_counted():
    own = np.array([0.229, 0.224, 0.225])
    other = np.float32(1.0) / (np.float32(1.0) / own.astype(np.float32)).astype(np.float64)
    other *= 1 + 1e-7
    other[1] = 0.324
    relation = compare(before=own, after=other)
    assert relation == Relation(Change.OTHER, "33% of 3, up to 0.1 apart")


@pytest.mark.parametrize(
    ("relation", "text", "remedy"),
    [
        (Relation(Change.FACTOR, "2"), "it is 2 times the inverse of the reference's",
         "divide it by 2"),
        (Relation(Change.OTHER, "33% of 3"),
         "it has other values than the inverse of the reference's: 33% of 3", "use both"),
    ],
    ids=["factor", "other"],
)  # fmt: skip
def test_an_inverse_is_said_to_be_one(relation, text, remedy):
    assert describe(relation, "it", inverse="the inverse", constant="both") == (text, remedy)
