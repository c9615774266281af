"""Taps: tensors inside a network that become named, by a layer's call and its input or output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from exporters.errors import ExportError

_LOCATION = re.compile(r"(?P<layer>[^#@]+)(#(?P<call>\d+))?(?P<input>@input)?")


@dataclass(frozen=True)
class Tap:
    """A tensor to name: the result, or the first input, of one call of a layer."""

    name: str
    call: int
    of_input: bool


def group_by_layer(taps: Mapping[str, str]) -> dict[str, list[Tap]]:
    """Parse {tensor name: "layer#k@input"} into taps by layer. Raises ExportError."""
    found: dict[str, list[Tap]] = {}
    for name, location in taps.items():
        match = _LOCATION.fullmatch(location)
        if match is None:
            raise ExportError(f"{name}: {location!r} is not of the form layer#k@input")
        tap = Tap(name, int(match["call"] or 0), bool(match["input"]))
        found.setdefault(match["layer"], []).append(tap)
    return found


def check_tapped_calls(taps: Mapping[str, str], recorded: Mapping[str, object]) -> None:
    """Raise ExportError when a tapped call never happened."""
    for name, location in taps.items():
        if name not in recorded:
            raise ExportError(f"{name}: the model never called {location!r}")
