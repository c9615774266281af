"""The error of a failed export, and helpers for its message."""

from __future__ import annotations

from collections.abc import Sequence


class ExportError(Exception):
    """A model could not be exported; the message names the operator, layer or file."""


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names, with an ellipsis where there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, without its advice and traces."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
