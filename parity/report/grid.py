"""The result of a sweep as data: a cell for each comparison, the grid of its floors, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.comparison.results import Verdict, find_worst_verdict
from parity.report import wording
from parity.report.codec import to_json
from parity.report.model import Report

SCHEMA = "parity.sweep/1"
CELL_SCHEMA = "parity.sweep-cell/1"

AXES = ("model", "environment", "device", "precision", "input")
"""The axes of a grid; the first is that of its rows."""


@dataclass(frozen=True)
class CellResult:
    """One cell of a sweep: its place in the grid, and its report, or else why it was not run."""

    model: str
    environment: str
    device: str
    precision: str
    input: str
    report: Report | None = None
    problem: str | None = None
    """Why the cell has no report, on one line."""
    regressions: tuple[str, ...] = ()
    """Sentences on figures that exceed the locked ones."""
    is_locked: bool = False
    """Whether the lock decides on it: `regressions` are then what fails."""
    address: str = ""
    seconds: float = 0.0
    """The time of the comparison, when it was run."""
    is_stored: bool = False
    """Whether the result was there before the sweep."""
    place: str = ""
    """The machine that ran it in this sweep."""

    @property
    def name(self) -> str:
        """The cell's name, unique in its sweep."""
        return " | ".join(self.labels.values())

    @property
    def labels(self) -> dict[str, str]:
        """The cell's place by axis."""
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def verdict(self) -> Verdict:
        """The report's verdict; a cell without a report could not be decided."""
        return Verdict.UNKNOWN if self.report is None else self.report.verdict

    @property
    def worst(self) -> tuple[float, str, str] | None:
        """The largest error in floors, its subject and its point; None if nothing was compared."""
        return None if self.report is None else wording.find_worst(self.report)

    @property
    def symbol(self) -> str:
        """The symbol of the verdict."""
        return wording.SYMBOLS[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the cell as plain data, without its report."""
        worst = self.worst
        return {
            **self.labels,
            "verdict": self.verdict.value,
            "problem": self.problem,
            "regressions": list(self.regressions),
            "worst": None
            if worst is None
            else {"x_floor": _finite(worst[0]), "subject": worst[1], "point": worst[2]},
            "address": self.address,
            "seconds": self.seconds,
            "stored": self.is_stored,
            "place": self.place,
        }


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep; `installing` are the seconds that each environment took to make."""

    cells: tuple[CellResult, ...]
    seconds: float
    installing: Mapping[str, float] = field(default_factory=dict)
    folder: str = ""
    lock_file: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the cells.

        A cell of the lock is at fault only if it is worse than its locked figures: one that differs
        as it did when it was locked is not.
        """
        return find_worst_verdict(map(_judge, self.cells))

    @property
    def ok(self) -> bool:
        """Whether every cell agrees; with a lock, whether no cell is worse than its locked one."""
        return self.verdict is Verdict.PARITY

    @property
    def exit_code(self) -> int:
        """The exit code of `parity sweep`: 0 parity, 1 divergence, 3 could not tell."""
        return self.verdict.exit_code

    def __bool__(self) -> bool:
        """Return `ok`."""
        return self.ok

    def __iter__(self) -> Iterator[CellResult]:
        """Iterate over the cells, in the order of the file."""
        return iter(self.cells)

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.cells)

    def to_json(self) -> dict[str, Any]:
        """Return the whole result as JSON data, with every report."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "installing": dict(self.installing),
            "folder": self.folder,
            "lock_file": self.lock_file,
            "notes": list(self.notes),
            "cells": [
                {**cell.to_json(), "report": None if cell.report is None else to_json(cell.report)}
                for cell in self.cells
            ],
        }


def render_json(result: SweepResult) -> str:
    """Return the whole result as indented JSON."""
    return json.dumps(result.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def render_lines(result: SweepResult) -> str:
    """Return a line of JSON for each cell, without its report."""
    lines = ({"schema": CELL_SCHEMA, **cell.to_json()} for cell in result.cells)
    return "".join(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n" for line in lines)


@dataclass(frozen=True)
class Grid:
    """A sweep as a table: a row for each model, a column for each combination of the other axes."""

    axes: tuple[str, ...]
    """The axes of the columns: those on which the cells differ, at least one."""
    columns: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[str, tuple[CellResult | None, ...]], ...]
    common: Mapping[str, str]
    """The axes on which all cells are the same, and their one value."""


def arrange_grid(cells: Sequence[CellResult]) -> Grid:
    """Arrange the cells of a sweep in rows and columns, in the order of the cells."""
    varying = [axis for axis in AXES[1:] if len({cell.labels[axis] for cell in cells}) > 1]
    axes = tuple(varying or AXES[1:2])
    columns = tuple(dict.fromkeys(tuple(cell.labels[axis] for axis in axes) for cell in cells))
    by_place = {(cell.model, tuple(cell.labels[axis] for axis in axes)): cell for cell in cells}
    rows = tuple(
        (model, tuple(by_place.get((model, column)) for column in columns))
        for model in dict.fromkeys(cell.model for cell in cells)
    )
    common = {axis: cells[0].labels[axis] for axis in AXES[1:] if axis not in axes}
    return Grid(axes, columns, rows, common)


def describe_cell(cell: CellResult | None) -> str:
    """Return a cell's symbol and its largest error in floors."""
    if cell is None:
        return ""
    if cell.report is None:
        return f"{cell.symbol} not run"
    worst = cell.worst
    return cell.symbol if worst is None else f"{cell.symbol} {wording.format_ratio(worst[0])}"


def describe_problem(cell: CellResult) -> list[str]:
    """Return the sentences on a cell that is not at parity, or exceeds its locked figures."""
    if cell.problem is not None:
        return [f"not run: {cell.problem}"]
    if cell.report is None:
        return ["not run"]
    found = list(cell.regressions)
    if cell.verdict is not Verdict.PARITY:
        found.append(wording.describe_verdict(cell.report))
        found += [f"{name} {text}" for name, text in wording.describe_first_failures(cell.report)]
        found += list(cell.report.attribution)
    return found


def _judge(cell: CellResult) -> Verdict:
    """Return a cell's verdict; one that is locked fails if it is worse than it was."""
    if cell.regressions:
        return Verdict.DIVERGENCE
    is_decided = cell.verdict is not Verdict.UNKNOWN
    return Verdict.PARITY if cell.is_locked and is_decided else cell.verdict


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
