"""A user's file of pairs: rows that the alignment of two models keeps, while it derives the rest.

It is CSV as `parity align --out` writes it. Of its columns, `reference` and `other` are read; a
column with the name of a compared model stands for `other` where there are several. A cell is the
path of an operation, with its source line in parentheses or without, as `parity align` prints it;
several that are one pair are joined by ` + `. A path that stands for several operations means the
first of them in the first row, and so on. An empty cell says that the operation on the other side
has no partner.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity import files
from parity.comparison.graphs.structure import locate
from parity.errors import TableError
from parity.network.alignment import GivenPair
from parity.network.graph import Graph
from parity.text import quote, suggest

REFERENCE, OTHER = "reference", "other"
"""The columns that are read."""

_DERIVED = ("kind", "shape", "weights", "confidence", "reason")
"""The other columns that `parity align --out` writes."""


@dataclass(frozen=True)
class GivenTable:
    """The rows of a file: the cells by column, with the number of the row."""

    path: Path
    columns: tuple[str, ...]
    """Those beside `reference`: `other`, or names of models."""
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    only_other: str = ""
    """The model that `other` stands for."""

    def name_other(self, models: Sequence[str]) -> GivenTable:
        """Return the table of a comparison with these models beside the reference.

        Raises `TableError` for a column that names none of them, and for `other` where there are
        several.
        """
        for column in self.columns:
            if column != OTHER and column not in models:
                raise TableError(
                    f"{self.path}: header: no model is called {quote(column)}"
                    f"{suggest(column, [OTHER, *models])}"
                )
        if OTHER in self.columns and len(models) > 1:
            raise TableError(
                f"{self.path}: header: {OTHER!r} may be any of {', '.join(models)}; name the "
                "column as the model that it is meant for"
            )
        return replace(self, only_other=next(iter(models), ""))

    def find_column(self, model: str) -> str | None:
        """Return the column of a model, if the table has one."""
        if model in self.columns:
            return model
        return OTHER if OTHER in self.columns and model == self.only_other else None

    def find_pairs(
        self, column: str, reference: Graph, other: Graph, names: tuple[str, str]
    ) -> list[GivenPair]:
        """Return the pairs of a column; `names` are the models', for messages.

        Raises `TableError` for a cell that names no operation.
        """
        finders = [
            _Finder(graph, name) for graph, name in zip((reference, other), names, strict=True)
        ]
        found = []
        for number, cells in self.rows:
            label = f"{self.path}: row {number}"
            sides = [
                finder.find(cells.get(key, ""), label)
                for finder, key in zip(finders, (REFERENCE, column), strict=True)
            ]
            if any(sides):
                found.append(GivenPair(sides[0], sides[1], label))
        return found


def is_pairs_file(path: str | Path) -> bool:
    """Return whether a table is a file of pairs, and no layer table of `parity.network.table`."""
    path = Path(path)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    return REFERENCE in _read_header(_read_text(path))


def read_given_pairs(path: str | Path) -> GivenTable:
    """Read a file of pairs; raises `TableError`, with the row, for one that is none."""
    path = Path(path)
    text = _read_text(path)
    header = _read_header(text)
    if REFERENCE not in header:
        raise TableError(f"{path}: header: the column {REFERENCE!r} is missing")
    columns = tuple(name for name in header if name not in (REFERENCE, *_DERIVED))
    if not columns:
        raise TableError(f"{path}: header: the column {OTHER!r} is missing")
    if len(set(header)) < len(header):
        raise TableError(f"{path}: header: a column is given twice")
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise TableError(f"{path}: no CSV: {error}") from None
    rows = []
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(header):
            raise TableError(
                f"{path}: row {number}: expected {len(header)} cells, found {len(line)}"
            )
        cells = {name: cell.strip() for name, cell in zip(header, line, strict=True)}
        rows.append((number, cells))
    return GivenTable(path, columns, tuple(rows))


def _read_text(path: Path) -> str:
    try:
        return files.read_text(path)
    except UnicodeDecodeError:
        raise TableError(f"{path}: no CSV: it is not UTF-8 text") from None


def _read_header(text: str) -> list[str]:
    line = text.removeprefix("\ufeff").partition("\n")[0]
    return [cell.strip() for cell in next(csv.reader([line]), [])]


class _Finder:
    """Finds the operations of a graph by their texts; each that is found is used up."""

    def __init__(self, graph: Graph, name: str) -> None:
        self._name = name
        self._used: Counter[str] = Counter()
        self._by_text: dict[str, list[str]] = {}
        for node in graph.nodes:
            for text in dict.fromkeys((locate(node), node.path)):
                if text:
                    self._by_text.setdefault(text, []).append(node.id)

    def find(self, cell: str, label: str) -> tuple[str, ...]:
        """Return the nodes of a cell; raises `TableError` for a text that names none."""
        found = []
        for text in filter(None, (part.strip() for part in cell.split(" + "))):
            nodes = self._by_text.get(text)
            if nodes is None:
                hint = suggest(text, self._by_text)
                raise TableError(f"{label}: {self._name} has no operation {quote(text)}{hint}")
            at = self._used[text]
            if at >= len(nodes):
                raise TableError(
                    f"{label}: {quote(text)} is given {at + 1} times, {self._name} has it "
                    f"{len(nodes)} times"
                )
            self._used[text] += 1
            found.append(nodes[at])
        return tuple(found)
