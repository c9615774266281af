"""Names and values in a one-line message, and that what they look like is written once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parity.text import (
    LONGEST,
    abbreviate,
    closest,
    describe_remaining,
    did_you_mean,
    format_size,
    printable,
    quote,
    suggest,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "'plain'"),
        ("two\nlines", r"'two\nlines'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        ("right\u202eto left", r"'right\u202eto left'"),
        (None, "None"),
        ([1, "a"], "[1, 'a']"),
    ],
)
def test_a_value_is_quoted_on_one_line(value: object, expected: str) -> None:
    assert quote(value) == expected


@pytest.mark.parametrize("value", ["a" * 10**6, "\n" * 100, ["x" * 50] * 50, "a" * LONGEST])
def test_a_long_value_is_cut(value: object) -> None:
    quoted = quote(value)
    assert len(quoted) == LONGEST
    assert quoted.endswith("...")


def test_a_value_that_just_fits_is_whole() -> None:
    assert quote("a" * (LONGEST - 2)) == f"'{'a' * (LONGEST - 2)}'"


def test_a_name_is_quoted_only_where_it_must_be() -> None:
    assert printable("layer1.0.conv1/größe") == "layer1.0.conv1/größe"
    assert printable("a\nb") == r"'a\nb'"
    assert printable("a" * (LONGEST + 1)).endswith("...")


def test_a_digest_is_abbreviated_and_nothing_else() -> None:
    assert abbreviate("ab" * 32) == "ab" * 8
    assert abbreviate("resnet50") == "'resnet50'"
    assert abbreviate(None) == "'None'"
    assert "\n" not in abbreviate("\n" * 64)


def test_the_time_left_is_in_proportion() -> None:
    assert describe_remaining(1, 4, 10.0) == ", 0:30 left"
    assert describe_remaining(2, 10, 1800.0) == ", 2:00:00 left"
    assert describe_remaining(0, 4, 10.0) == ""
    assert describe_remaining(4, 4, 10.0) == ""


def test_a_similar_word_is_suggested_and_no_other() -> None:
    assert suggest("kears", ("torch", "keras")) == "; did you mean 'keras'?"
    assert suggest("zzz", ("torch", "keras")) == ""
    assert suggest("zzz", ("keras",), otherwise="known: keras") == "; known: keras"
    assert closest("conv", {"conv1": 0, "conv2": 1, "bn": 2}, count=3) == ["conv2", "conv1"]
    assert did_you_mean(["a", "b"]) == "; did you mean 'a', 'b'?"
    # Matching is quadratic: this would take minutes if all of it were compared.
    assert suggest("k" * 10**6, ["keras" * 10**4]) == ""


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        # structure.py pairs layers by the likeness of their names; it suggests nothing.
        (r"get_close_matches", {"text.py", "structure.py"}),
        (r"did you mean ", {"text.py"}),
        (r"Status\.DIVERGED, (verdict\.)?Status\.NON_FINITE", {"verdict.py"}),
        (r"(list|tuple)\(Status\)", {"verdict.py"}),
        (r'label="PyTorch"', {"about.py"}),
    ],
)
def test_a_fact_is_written_in_one_place(pattern: str, homes: set[str]) -> None:
    found = {
        path.name
        for path in (ROOT / "parity").rglob("*.py")
        if re.search(pattern, path.read_text())
    }
    assert found == homes


@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["large", "small"])
def test_a_number_that_cannot_be_printed_is_named(value: int) -> None:
    assert quote(value) == "a int that cannot be printed"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (96_400, "96 kB"), (999_499, "999 kB"),
     (999_500, "1.0 MB"), (2_440_000, "2.4 MB"), (2_000_000_000, "2,000.0 MB")],
)  # fmt: skip
def test_a_size_of_a_file(size, text):
    assert format_size(size) == text
