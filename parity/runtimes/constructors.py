"""Where the objects of a model are constructed, as places in the user's files."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass(frozen=True)
class Place:
    """A call in a file: lines from 1, columns in bytes of UTF-8 from 0, the ends excluded."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def describe(self, made: object) -> dict[str, Any]:
        """Return the place, the class of what the call makes, and its parameters, as plain data."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "end_column": self.end_column,
            "class": type(made).__name__,
            "parameters": _list_parameters(type(made)),
        }


def find_construction(
    made: object, frame: FrameType | None, is_library: Callable[[str], bool]
) -> Place | None:
    """Return the innermost call outside a library that constructs `made`, from its `__init__` on.

    `is_library` says of a file's path whether it is the framework's.
    """
    while frame is not None:
        own = frame.f_code.co_name == "__init__" and _first_argument(frame) is made
        if not own and not is_library(frame.f_code.co_filename):
            return _locate(frame)
        frame = frame.f_back
    return None


def _first_argument(frame: FrameType) -> object:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if frame.f_code.co_argcount and names else None


def _locate(frame: FrameType) -> Place | None:
    positions = itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None)
    line, end_line, column, end_column = next(positions, (None,) * 4)
    if line is None or end_line is None or column is None or end_column is None:
        return None
    return Place(frame.f_code.co_filename, line, column, end_line, end_column)


def _list_parameters(made: type) -> list[str]:
    """Return the names of a class's positional parameters; none where Python does not know them."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in parameters if each.kind in kinds]
