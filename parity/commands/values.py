"""Parameter values, in the forms that the command line, parity.toml and Python callers write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from parity.errors import UsageError
from parity.network import architectures
from parity.processes.interpreters import resolve_interpreters
from parity.processes.subjects import subject_kinds
from parity.text import quote

ImageSize = int | str | Sequence[int]
"""Pixels: 224, "224", "96x128" or (height, width)."""

Progress = Callable[[str, str], None]
"""A function that is called with a runtime and what it is doing now."""


def no_progress(runtime: str, text: str) -> None:
    """Show no progress."""


def parse_image_size(value: ImageSize | None) -> tuple[int, int] | None:
    """Return (height, width) in pixels, and None for None. Raises UsageError."""
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        sides = [str(side) for side in value]
    else:
        sides = str(value).lower().split("x")
    if len(sides) not in (1, 2) or not all(map(str.isdecimal, sides)):
        raise UsageError(
            f"--image-size: expected N or HxW, such as 224 or 96x128, found {quote(value)}"
        )
    return int(sides[0]), int(sides[-1])


def parse_inputs(texts: Sequence[str]) -> tuple[str | None, list[tuple[str, str]]]:
    """Return the one input without a name, or None, and (name, file) of the others.

    A text with `=` whose first part is a file's path is a file. Raises UsageError for two inputs
    without a name.
    """
    plain, named = [], []
    for text in texts:
        name, equals, file = text.partition("=")
        if equals and name and not Path(text).exists() and "/" not in name:
            named.append((name, file))
        else:
            plain.append(text)
    if len(plain) > 1:
        raise UsageError(f"--input is given twice: {plain[0]} and {plain[1]}; name them NAME=FILE")
    return (plain[0] if plain else None), named


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape by input of texts such as `tokens=1x16`. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, shape = text.rpartition("=")
        sizes = shape.lower().split("x")
        if not (equals and name) or not all(
            size.isascii() and size.isdecimal() and len(size) < 10 and int(size) for size in sizes
        ):
            raise UsageError(f"--shape: expected NAME=1x3x224x224, found {quote(text)}")
        found[name] = tuple(map(int, sizes))
    return found


def parse_dynamic(texts: Sequence[str]) -> dict[str, dict[int, str]]:
    """Return the axes that vary, by input, of texts such as `tokens=1` or `x=2:height,3:width`.

    An axis without a name has "". Raises UsageError.
    """
    found: dict[str, dict[int, str]] = {}
    for text in texts:
        name, equals, axes = text.rpartition("=")
        for item in axes.split(","):
            axis, colon, size = item.partition(":")
            named = bool(size) and size.isidentifier() if colon else True
            if not (equals and name and axis.isascii() and axis.isdecimal() and named):
                raise UsageError(
                    f"--dynamic: expected NAME=AXIS or NAME=AXIS:SIZE, as in x=2,3 or "
                    f"tokens=1:length, found {quote(text)}"
                )
            found.setdefault(name, {})[int(axis)] = size
    return found


def parse_subjects(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the subjects of a comma-separated text or of a sequence; None is all kinds."""
    if value is None:
        return subject_kinds()
    names = value.split(",") if isinstance(value, str) else value
    return tuple(name.strip() for name in names if name.strip())


def find_interpreters(python: Mapping[str, str | Path] | None) -> dict[str, str]:
    """Return {runtime or environment: path of its Python}; see `resolve_interpreters`.

    `python` maps runtimes or environments to an interpreter or an environment's folder. It
    overrides the `[environments]` of parity.toml in the working folder. Raises InterpreterError for
    a path that does not exist.
    """
    return resolve_interpreters([f"{name}={path}" for name, path in (python or {}).items()])


def optional_path(value: str | Path | None) -> Path | None:
    """Return the value as a path; None for None."""
    return None if value is None else Path(value)


def names_any_models(references: Sequence[str]) -> bool:
    """Return whether the arguments name models to be read and aligned.

    One name without a path, a colon or a suffix is a registered architecture, whose twins have a
    layer table.
    """
    if len(references) != 1:
        return bool(references)
    (text,) = references
    name = text.partition(",")[0]
    return name not in architectures.names() and any(mark in text for mark in ":/.=")
