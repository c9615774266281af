"""The heat map of a sweep as an HTML page, and a page for each of its cells."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from parity import files
from parity.errors import OutputError
from parity.report import templates
from parity.report.formats import html
from parity.report.grid import CellResult, Grid, SweepResult, arrange_grid, describe_problem

if TYPE_CHECKING:
    from jinja2 import Environment

SHADES = 8
"""The shades of a heat map: four up to the limit, four above it."""

_DECADES = 4.0
"""Powers of ten above the limit at which the darkest shade begins."""


def write_pages(result: SweepResult, path: Path) -> None:
    """Write the page of a sweep to `path`, and the cells' pages to a folder beside it.

    The folder is called like the page, with `-cells`. A page that exists already is not written
    again: its name is the cell's address. Raises `OutputError`.
    """
    folder = path.with_name(f"{path.stem}-cells")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be a folder: {error.strerror}") from error
    for cell in result.cells:
        if cell.report is not None and not (folder / page_name(cell)).exists():
            files.write_text(folder / page_name(cell), html.render(cell.report))
    files.write_text(path, render(result, folder.name))


def page_name(cell: CellResult) -> str:
    """Return the name of a cell's page."""
    return f"{cell.address}.html"


def render(result: SweepResult, folder: str) -> str:
    """Return the page of a sweep; the cells' pages are in `folder`, as seen from it."""
    grid: Grid = arrange_grid(result.cells)
    return _build_environment().get_template("grid.html").render(
        result=result,
        grid=grid,
        folder=folder,
        problems=[(c, found) for c in result.cells if (found := describe_problem(c))],
        verdict=result.verdict.value,
        agree=sum(cell.verdict.value == "parity" for cell in result.cells),
        shades=range(SHADES),
        style=templates.read_resource("report.css"),
    )  # fmt: skip


def select_shade(cell: CellResult) -> int | None:
    """Return the shade of a cell, 0 the lightest; None if it has no figure."""
    if cell.worst is None or cell.report is None:
        return None
    ratio = cell.worst[0] / cell.report.limit
    half = SHADES // 2
    if ratio <= 1.0:
        return min(half - 1, int(half * ratio))
    if not math.isfinite(ratio):
        return SHADES - 1
    return min(SHADES - 1, half + int(half * math.log10(ratio) / _DECADES))


@cache
def _build_environment() -> Environment:
    # Imported late: a sweep without a page needs no Jinja2.
    from parity.report.grid import describe_cell

    environment = templates.build_environment()
    environment.globals |= {
        "describe_cell": describe_cell,
        "select_shade": select_shade,
        "page_name": page_name,
    }
    return environment
