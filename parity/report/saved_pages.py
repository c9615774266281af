"""Where a report was saved as a page, for the link that a notebook shows."""

from __future__ import annotations

import weakref
from pathlib import Path

_PAGES: dict[int, Path] = {}
"""By the identity of a report: its values can be equal to another's, and are not hashable."""


def remember(report: object, path: Path) -> None:
    """Note that a report was saved as this page; the last one counts."""
    if id(report) not in _PAGES:
        weakref.finalize(report, _PAGES.pop, id(report), None)
    _PAGES[id(report)] = path.resolve()


def find(report: object) -> Path | None:
    """Return the report's page, if one was saved and is still there."""
    path = _PAGES.get(id(report))
    return path if path is not None and path.is_file() else None
