"""The forms that a report is written in: each module here is one, and an option of that name.

A format is a module with ``SUFFIX``, of the files it is known by, and ``text(report)``. One whose
files can hold several cases of `parity check` also has ``combine(reports)``, given them by case.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from parity.errors import UsageError
from parity.files import write_text
from parity.text import quote, suggest

if TYPE_CHECKING:
    from parity.report.model import Report


class Format(Protocol):
    """What a module of this package offers."""

    SUFFIX: str

    def text(self, report: Report) -> str:
        """Return the whole file."""


def names() -> list[str]:
    """Return the formats' names, sorted; imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Format:
    """Import a format."""
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def require_known(name: str) -> None:
    """Raise UsageError for a format that is none, with the closest."""
    known = names()
    if name not in known:
        hint = suggest(name, known, otherwise=f"known: {', '.join(known)}")
        raise UsageError(f"unknown report format {quote(name)}{hint}")


def holds_several(name: str) -> bool:
    """Return whether one file of this format can hold several cases."""
    return hasattr(load(name), "combine")


def combine(reports: Mapping[str, Report], name: str) -> str:
    """Return one file of the reports by case.

    Raises UsageError for several reports in a format that holds one.
    """
    form: Any = load(name)
    if hasattr(form, "combine"):
        return str(form.combine(reports))
    if len(reports) != 1:
        raise UsageError(f"{name} holds one case, and there are {len(reports)}: give a folder")
    (report,) = reports.values()
    return str(form.text(report))


def named_for(path: str | Path) -> str:
    """Return the format of a file of this name. Raises UsageError for an unknown suffix."""
    known = {load(name).SUFFIX: name for name in names()}
    suffix = Path(path).suffix
    if suffix not in known:
        endings = " ".join(known)
        raise UsageError(f"{path}: a report ends in one of {endings}, found '{suffix}'")
    return known[suffix]


def write(report: Report, path: str | Path, name: str | None = None) -> None:
    """Write the report, whole or not at all, in the format named, else that of the suffix.

    Raises OutputError, and UsageError for an unknown suffix.
    """
    write_text(path, load(name or named_for(path)).text(report))
