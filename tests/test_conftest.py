"""Tests of what every test shares."""

from __future__ import annotations

import gzip

import pytest


@pytest.mark.parametrize("content", [gzip.compress(b"1"), b"\0"])
def test_a_parameter_of_bytes_is_named_after_its_argument(
    content: bytes, request: pytest.FixtureRequest
) -> None:
    """The header of a gzip file holds the second in which it was written."""
    assert content
    assert request.node.callspec.id in ("content0", "content1")
