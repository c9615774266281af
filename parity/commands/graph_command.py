"""The command line that repeats a comparison of any models, made of its request."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity.comparison.graphs.request import GraphRequest

_FLAGS = {"isolate": "--isolate", "semantics": "--semantics", "stress": "--stress"}
_NEGATED_FLAGS = {"cache": "--no-cache", "explain": "--no-explain", "export": "--no-export"}


def format_graph_command(request: GraphRequest) -> tuple[str, ...]:
    """Return the words of the `parity compare` that repeats a comparison.

    There are none where an input is an array, which no command line holds.
    """
    if not all(isinstance(each, str | Path) for each in _inputs(request)):
        return ()
    words = ["parity", "compare", *request.references]
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if field.name not in ("references", "environments") and value != _default(field):
            words += _format_option(field.name, value)
    return tuple(words)


def _inputs(request: GraphRequest) -> Iterator[Any]:
    if request.input is not None:
        yield request.input
    yield from request.inputs.values()


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _format_option(name: str, value: Any) -> Iterator[str]:
    """Yield the words of one option; those that take several values are repeated."""
    if name in _FLAGS or name in _NEGATED_FLAGS:
        yield _FLAGS.get(name) or _NEGATED_FLAGS[name]
        return
    option = {"inputs": "--input", "shapes": "--shape"}.get(name, f"--{name.replace('_', '-')}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            text = "x".join(map(str, item)) if name == "shapes" else str(item)
            yield from (option, f"{key}={text}")
    elif name == "subjects":
        yield from (option, ",".join(value))
    elif name == "image_size":
        yield from (option, "x".join(map(str, value)))
    elif isinstance(value, tuple):
        for item in value:
            yield from (option, str(item))
    else:
        yield from (option, str(value))
