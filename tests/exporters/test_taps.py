"""Places of taps, parsed."""

from __future__ import annotations

import pytest

from exporters.errors import ExportError
from exporters.taps import group_by_layer


def test_places_are_parsed():
    taps = group_by_layer(
        {"a": "layer1.0.relu#2@input", "b": "layer1.0.relu", "c": "outer/inner@input"}
    )
    assert [(t.name, t.call, t.of_input) for t in taps["layer1.0.relu"]] == [
        ("a", 2, True),
        ("b", 0, False),
    ]
    assert taps["outer/inner"][0].of_input
    for wrong in ("", "a#", "a#x", "a@output", "#1"):
        with pytest.raises(ExportError):
            group_by_layer({"t": wrong})
