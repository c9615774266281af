"""The formats of a report: each module here is a format, and a command-line option of that name.

A format is a module with ``SUFFIX``, the suffix of its files, and ``render(report)``. A format
whose files can hold several cases of `parity check` also has ``combine(reports)``, the reports by
case.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from parity.errors import UsageError
from parity.text import quote, suggest

if TYPE_CHECKING:
    from parity.report.model import Report


class Format(Protocol):
    """The interface of a format module."""

    SUFFIX: str

    def render(self, report: Report) -> str:
        """Return the whole file as text."""


def list_formats() -> list[str]:
    """Return the names of all formats, sorted, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_format(name: str) -> Format:
    """Import a format by its name."""
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def find_suffix(name: str) -> str:
    """Return the suffix of a report's files; of what is no format, such as jsonl, its name."""
    return load_format(name).SUFFIX if name in list_formats() else f".{name}"


def require_known(name: str) -> None:
    """Raise UsageError for an unknown format, with the closest name."""
    known = list_formats()
    if name not in known:
        hint = suggest(name, known, otherwise=f"known: {', '.join(known)}")
        raise UsageError(f"unknown report format {quote(name)}{hint}")


def holds_several(name: str) -> bool:
    """Return whether one file of this format can hold several cases."""
    return hasattr(load_format(name), "combine")


def combine(reports: Mapping[str, Report], name: str) -> str:
    """Return one file of the reports by case.

    Raises UsageError for several reports in a format that holds one.
    """
    form: Any = load_format(name)
    if hasattr(form, "combine"):
        return str(form.combine(reports))
    if len(reports) != 1:
        raise UsageError(f"{name} holds one case, found {len(reports)}; give a folder")
    (report,) = reports.values()
    return str(form.render(report))


def format_of_path(path: str | Path) -> str:
    """Return the format of a path by its suffix. Raises UsageError for an unknown suffix."""
    known = {load_format(name).SUFFIX: name for name in list_formats()}
    suffix = Path(path).suffix
    if suffix not in known:
        endings = " ".join(known)
        raise UsageError(f"{path}: expected a name that ends in one of {endings}, found '{suffix}'")
    return known[suffix]


def write_report(report: Report, path: str | Path, name: str | None = None) -> None:
    """Write the report atomically, in format `name`, by default that of the suffix.

    Raises OutputError, and UsageError for an unknown suffix.
    """
    # Not at the top: the command line imports this module for the formats' names alone.
    from parity.files import write_text

    write_text(path, load_format(name or format_of_path(path)).render(report))
