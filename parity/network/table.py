"""The layer table: the one list that pairs the layers of a network's two models.

A table is generated from a `ModelSpec`, or read from a file that the author of two models wrote.
Such a file is CSV, TOML or JSON (by its suffix), one row a layer, in execution order, a row after
all its inputs:

    name,stage,kind,keras,torch                     [[rows]]
    stem.conv,stem,conv,conv1_conv,conv1            name = "stem.conv"
    stem.pad,stem,pad,pool1_pad,                    stage = "stem"
    stem.pool,stem,max_pool,pool1_pool,maxpool      kind = "conv"
    body.add,body,add,block1_add,block1.relu#1@input   keras = "conv1_conv"
    head,head,dense,predictions,fc                  torch = "conv1"

`name`   neutral and unique: letters, digits, `_`, `-` and `.`. A row called `STAGE.BLOCK.LAYER`
         belongs to the block `STAGE.BLOCK`.
`stage`  the part of the network that the row belongs to; the rows of a stage stand together, and
         it ends at its last row that both models have.
`kind`   one of those in `parity.network.kinds`.
`keras`  the layer's name. Empty where only the PyTorch model has such a layer.
`torch`  the module's path, `layer1.0.conv1`; then `#1` for its second call in a forward pass
         (`#0`, the first, need not be written), and `@input` for what that call is given instead
         of what it returns: the way to name a sum that no module owns. Empty where only the Keras
         model has such a layer.

Three more columns may be given. Files that `parity table` writes have them; by hand they can be
left out; shapes and weights are then read from the models.

`shape`    the output without its batch axis, channels first: `64x112x112`.
`weights`  role, name in PyTorch's state dict, shape there, and (read only to be checked) the shape
           in Keras: `kernel conv1.weight 64x3x7x7 7x7x3x64; bias conv1.bias 64 64`.
`inputs`   the rows that it reads, where that is not the row before it alone: `stem.pool body.bn2`
           of a sum, its shortcut first. Shapes that are added must be one: none is broadcast.

JSON has lists of numbers for shapes and of names for inputs, and for the weights a list of objects
with the keys `role`, `name`, `shape` and `keras_shape`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import tomllib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import tomli_w

from parity import files
from parity.errors import TableError
from parity.network import kinds
from parity.network.rows import (
    COLUMNS,
    INPUT,
    Row,
    TorchPoint,
    Weight,
    canonical_name,
    check_keys,
    check_row,
    format_shape,
    format_weight_shapes,
    keras_shape,
    parse_torch_point,
    row_from_json,
    row_to_cells,
    row_to_json,
    unique_keys,
)
from parity.numerics.points import ComparisonPoint
from parity.text import one_line, quote, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from parity.network.kind import Role

__all__ = [
    "INPUT",
    "Depth",
    "LayerTable",
    "Row",
    "TorchPoint",
    "Weight",
    "canonical_name",
    "keras_shape",
    "parse_torch_point",
]

Depth = Literal["stage", "block", "layer"]

LOGITS = "logits"
"""The name of the last tensor of every ONNX graph; `INPUT` is that of the first."""

SCHEMA = "parity.table/1"
MAX_BYTES = 16 * 2**20
"""No table is this long: ResNet-152's takes 0.2 MB."""


@dataclass(frozen=True)
class LayerTable:
    """The rows in execution order, a row after all its inputs."""

    rows: tuple[Row, ...]

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.stage for row in self.rows))

    @property
    def parameters(self) -> int:
        """The number of trained parameters; running statistics are not counted."""
        return sum(row.parameters for row in self.rows)

    @property
    def statistics(self) -> int:
        """The number of values of batch-norm's running means and variances."""
        return sum(math.prod(weight.shape) for row in self.rows for weight in row.statistics)

    def points(self, depth: Depth) -> tuple[ComparisonPoint, ...]:
        """Return the comparison points at a depth, in execution order: those of `last_rows`."""
        return tuple(
            ComparisonPoint(name, row.stage, row.name, row.shape)
            for name, row in self.last_rows(depth).items()
        )

    def last_rows(self, depth: Depth) -> dict[str, Row]:
        """Return the last row of each stage or block, or every row, that both models
        have, by name.
        """
        last: dict[str, Row] = {}
        for row in self.rows:
            if row.in_both_models:
                key = {"stage": row.stage, "block": row.block, "layer": row.name}[depth]
                # Taken out first, so that the points come in the order of their own rows.
                last.pop(key, None)
                last[key] = row
        return last

    def by_name(self, name: str) -> Row:
        """Return the row called `name`; raises `TableError` with the closest names."""
        if name not in self._by_name:
            raise TableError(f"no row is called {quote(name)}{suggest(name, self._by_name)}")
        return self._by_name[name]

    def longest_sum_terms(self, ends: Collection[str]) -> dict[str, float]:
        """Return the number of terms of the longest sum in the part of the network before each of
        `ends`.

        A part begins behind the end of the one before.
        """
        found, longest = {}, 1.0
        for row in self.rows:
            longest = max(longest, self._sum_terms(row))
            if row.name in ends:
                found[row.name], longest = longest, 1.0
        return found

    def equivalent_sum_terms(self) -> dict[str, float]:
        """Return, for each row, the terms of the one sum whose rounding error equals the row's.

        A sum's squared error is proportional to its terms. Later layers propagate it, relative to
        their values; a mean of n values divides it by n, for independent errors.
        """
        found = {INPUT: 1.0}
        for row in self.rows:
            own, before = self._sum_terms(row), max(found[name] for name in self._input_rows(row))
            if _averages(row):
                before /= own
            found[row.name] = max(own, before)
        return found

    def _sum_terms(self, row: Row) -> float:
        """Return the terms of the sum in each value of a row: products of a kernel, values of a
        mean.
        """
        if _averages(row):
            read = self._input_rows(row)[0]
            shape = () if read == INPUT else self.by_name(read).shape
            # An adaptive pool may leave more than one mean a channel.
            return max(1.0, math.prod(shape[1:]) / max(math.prod(row.shape[1:]), 1))
        kernels = [w for w in row.weights if w.role == "kernel"]
        # An upper bound for a transposed convolution.
        return max([1.0, *(math.prod(w.shape) / w.shape[_role(row, w).outputs] for w in kernels)])

    def _input_rows(self, row: Row) -> tuple[str, ...]:
        """Return the rows that a row reads: its `inputs`, else the row before it.

        Where branches join and `inputs` is empty, they may be any of the rows before it.
        """
        before = (INPUT, *(other.name for other in self.rows[: self.rows.index(row)]))
        return row.inputs or (before if kinds.joins_branches(row.kind) else before[-1:])

    def weights(self) -> Iterator[tuple[Row, Weight]]:
        """Return every weight with its row, in execution order."""
        return ((row, weight) for row in self.rows for weight in row.weights)

    def select_side(self, side: str) -> Self:
        """Return the table of the rows that the model of `side`, keras or torch, has."""
        return replace(self, rows=tuple(row for row in self.rows if getattr(row, side)))

    def tensor_name(self, row: Row) -> str:
        """Return the name of a row's output in ONNX graphs: `logits`, or its stage
        if it ends one.
        """
        return self._tensor_names.get(row.name, row.name)

    @cached_property
    def _by_name(self) -> dict[str, Row]:
        return {row.name: row for row in self.rows}

    @cached_property
    def _tensor_names(self) -> dict[str, str]:
        ends = {row.name: stage for stage, row in self.last_rows("stage").items()}
        if ends:
            ends[next(reversed(ends))] = LOGITS
        return ends

    def validate(self, source: str = "layer table") -> None:
        """Raise `TableError`, with `source` and the row, if the table is inconsistent."""
        if not self.rows:
            raise TableError(f"{source}: there are no rows")
        seen: dict[tuple[str, object], Row] = {}
        ended: set[str] = set()
        stage = self.rows[0].stage
        for number, row in enumerate(self.rows, start=1):
            where = f"{source}: row {number} ({quote(row.name)})"
            check_row(row, where)
            if row.stage != stage:
                ended.add(stage)
                stage = row.stage
            for key in unique_keys(row):
                if key in seen:
                    raise TableError(f"{where}: {key[0]} is that of {quote(seen[key].name)} too")
                seen[key] = row
            if row.stage in ended:
                raise TableError(
                    f"{where}: stage {quote(row.stage)} has ended already; its rows stand together"
                )
        self._check_tensor_names(source)
        self._check_inputs(source)

    def _check_tensor_names(self, source: str) -> None:
        compared = self.last_rows("stage").keys()
        for stage in self.stages:
            if stage not in compared:
                raise TableError(f"{source}: stage {quote(stage)} has no row in both models")
        owners = {INPUT: "the model's input"}
        for number, row in enumerate(self.rows, start=1):
            tensor = self.tensor_name(row)
            if tensor in owners:
                raise TableError(
                    f"{source}: row {number} ({quote(row.name)}): its tensor would be called "
                    f"{quote(tensor)}, as {owners[tensor]} is; rename the row or its stage"
                )
            owners[tensor] = f"that of row {quote(row.name)}"

    def _check_inputs(self, source: str) -> None:
        """Require that a row follows all its inputs, and that added or multiplied
        shapes are equal.
        """
        before: dict[str, tuple[int, ...]] = {INPUT: ()}
        for number, row in enumerate(self.rows, start=1):
            where = f"{source}: row {number} ({quote(row.name)})"
            for name in row.inputs:
                if name not in before:
                    hint = suggest(name, before)
                    raise TableError(f"{where}: no row before it is called {quote(name)}{hint}")
            known = [(name, before[name]) for name in row.inputs if before[name]]
            # Broadcasting would hide that the shapes differ.
            verb = kinds.properties(row.kind).elementwise
            if verb and len({shape for _, shape in known}) > 1:
                texts = " and ".join(f"{name}, {format_shape(s, by='×')}" for name, s in known)
                raise TableError(f"{where}: the shapes of what is to be {verb} differ: {texts}")
            before[row.name] = row.shape

    def text_rows(self) -> list[dict[str, str]]:
        """Return the rows as text for a terminal, weight shapes in both layouts."""
        return [
            {
                "name": row.name,
                "stage": row.stage,
                "kind": row.kind,
                "keras": row.keras,
                "torch": row.torch,
                "keras_weights": format_weight_shapes(row, in_keras=True),
                "torch_weights": format_weight_shapes(row, in_keras=False),
                "shape": format_shape(row.shape, by="×"),
            }
            for row in self.rows
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the rows as plain data, the content of the JSON file."""
        return {"schema": SCHEMA, "rows": [row_to_json(row) for row in self.rows]}

    @classmethod
    def from_json(cls, data: object, source: str = "layer table") -> Self:
        """Read the data of `to_json`; raises `TableError`, with `source` and the row."""
        if not isinstance(data, dict):
            raise TableError(f"{source}: expected a table with the key 'rows'")
        check_keys(data, {"schema", "rows"}, required={"rows"}, where=source)
        if data.get("schema", SCHEMA) != SCHEMA:
            raise TableError(f"{source}: schema {quote(data['schema'])} is not {SCHEMA!r}")
        if not isinstance(data["rows"], list):
            raise TableError(f"{source}: 'rows' must be a list, one entry a layer")
        table = cls(
            tuple(
                row_from_json(entry, f"{source}: row {number}")
                for number, entry in enumerate(data["rows"], start=1)
            )
        )
        table.validate(source)
        return table

    def to_toml(self) -> str:
        rows = [{key: text for key, text in row_to_cells(row).items() if text} for row in self.rows]
        return tomli_w.dumps({"schema": SCHEMA, "rows": rows})

    @classmethod
    def from_toml(cls, text: str, source: str = "layer table") -> Self:
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{source}: no TOML: {_first_line(error)}") from None
        return cls.from_json(data, source)

    def to_csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row_to_cells(row) for row in self.rows)
        return text.getvalue()

    @classmethod
    def from_csv(cls, text: str, source: str = "layer table") -> Self:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), strict=True)
            lines = [[cell.strip() for cell in line] for line in reader if line]
        except csv.Error as error:
            raise TableError(f"{source}: no CSV: {_first_line(error)}") from None
        if not lines:
            raise TableError(f"{source}: empty; expected the columns {','.join(COLUMNS[:5])}")
        header, *entries = lines
        check_keys(header, COLUMNS, required=COLUMNS[:5], where=f"{source}: header")
        for number, entry in enumerate(entries, start=1):
            if len(entry) != len(header):
                raise TableError(
                    f"{source}: row {number} ({quote(entry[0])}): expected {len(header)} cells, "
                    f"found {len(entry)}"
                )
        rows = [dict(zip(header, entry, strict=True)) for entry in entries]
        return cls.from_json({"rows": rows}, source)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a `.csv`, `.toml` or `.json` file; raises `TableError`."""
        path = Path(path)
        readers = {".csv": cls.from_csv, ".toml": cls.from_toml, ".json": cls._from_json_text}
        if path.suffix.lower() not in readers:
            raise TableError(f"{path}: a layer table is a .csv, .toml or .json file")
        try:
            with files.open_regular(path) as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise TableError(f"{path}: cannot be read: {error.strerror}") from None
        if len(content) > MAX_BYTES:
            raise TableError(f"{path}: more than {MAX_BYTES >> 20} MiB; no layer table is so long")
        try:
            # Spreadsheets begin their CSV files with a byte-order mark.
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise TableError(f"{path}: no UTF-8 text: byte {error.start} is wrong") from None
        return readers[path.suffix.lower()](text, str(path))

    @classmethod
    def _from_json_text(cls, text: str, source: str) -> Self:
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{source}: no JSON: {_first_line(error)}") from None
        return cls.from_json(data, source)


def _averages(row: Row) -> bool:
    kind = kinds.find(row.kind)
    return kind is not None and kind.averages


def _role(row: Row, weight: Weight) -> Role:
    return kinds.get(row.kind).role(weight.role)


def _first_line(error: Exception) -> str:
    return one_line(str(error).partition("\n")[0], longest=200)
