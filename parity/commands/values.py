"""Parameter values, in the forms that the command line, parity.toml and Python callers write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from parity.errors import UsageError
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
