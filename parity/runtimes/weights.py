"""The operations on a model's weights: canonical files, checkpoints and calibration."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from parity import files
from parity.network import weights
from parity.network.architectures import from_json
from parity.network.table import LayerTable
from parity.runtimes.load import LoadOperations


class WeightOperations(LoadOperations):
    """Reads and writes the weights of the loaded model, in canonical form."""

    def load_weights(self, *, path: str, own: bool = False) -> dict[str, Any]:
        """Copy the canonical weights of `path` into the model and compare every bit.

        `path` has the weights of the whole table or, with `own`, those that `save_weights` wrote.
        """
        started = time.perf_counter()
        table = self.table.select_side(self.name) if own else self.table
        values = weights.load(Path(path), table)
        self.note_new_weights()
        self.write_weights(values)
        return {"seconds": time.perf_counter() - started}

    def save_weights(self, *, path: str) -> dict[str, Any]:
        """Write the model's own weights, in canonical form."""
        values = self.read_weights()
        weights.check(values, self.table.select_side(self.name), source=f"the {self.name} model")
        weights.save(Path(path), values)
        return {"sha256": weights.digest(values)}

    def save_row_weights(self, *, rows: list[dict[str, Any]], path: str) -> dict[str, Any]:
        """Write the weights of layers that no table lists.

        `rows` are those layers as rows of a table; the answer has them with their weights' names.
        """
        table = self.table
        try:
            partial = LayerTable.from_json({"rows": rows}).rows
            completed = (replace(row, weights=tuple(self.find_weights(row))) for row in partial)
            self.table = LayerTable(tuple(completed))
            weights.save(Path(path), self.read_weights())
            return {"table": self.table.to_json()}
        finally:
            self.table = table

    def complete_table(self, *, table: dict[str, Any], input_shape: list[int]) -> dict[str, Any]:
        """Add the shapes and weights that a table written by hand leaves out, and use it."""
        self.table = LayerTable.from_json(table)
        shapes = {
            layer["row"]: tuple(layer["shape"]) for layer in self.describe_layers(input_shape)
        }
        rows = [
            replace(
                row,
                shape=row.shape or shapes.get(row.name, ()),
                weights=row.weights or tuple(self.find_weights(row)),
            )
            for row in self.table.rows
        ]
        self.table = LayerTable(tuple(rows))
        return {"table": self.table.to_json()}

    def calibrate(self, *, source: str, target: str, data: str) -> dict[str, Any]:
        """Replace the batch-norm statistics of `source` by those of `data`; save as `target`.

        The statistics are computed in float64 and rounded to a few bits, so that they do not
        depend on the framework or the machine that computed them.
        """
        values = weights.load(Path(source), self.table)
        model, set_weights = self.build_replica("float64")
        set_weights(values)
        for row, mean, variance in self.measure_batch_norm_inputs(model, np.load(data)):
            by_role = {weight.role: weight.name for weight in row.weights}
            values[by_role["mean"]] = weights.round_statistics(mean)
            values[by_role["variance"]] = weights.round_statistics(variance)
        weights.save(Path(target), values)
        return {"sha256": weights.digest(values)}

    def read_checkpoint(
        self,
        *,
        spec: dict[str, Any],
        path: str,
        out: str,
        table: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the weights of a checkpoint of this framework to `out`, in canonical form.

        Raises `WeightError` unless they are exactly those of the architecture, or of `table`.
        """
        expected = from_json(spec).table() if table is None else LayerTable.from_json(table)
        values, notes = self.parse_checkpoint(Path(path), expected)
        weights.check(values, expected, source=path)
        weights.save(Path(out), values)
        return {"notes": list(notes)}

    def write_checkpoint(self, *, spec: dict[str, Any], source: str, path: str) -> dict[str, Any]:
        """Write the canonical weights of `source` as a checkpoint of this framework."""
        self.load(spec=spec)
        values = weights.load(Path(source), self.table)
        self.write_weights(values)
        with files.atomic_write(path) as temporary:
            self.save_checkpoint(values, temporary)
        return {}
