"""The outputs of the subjects' ONNX graphs in float64, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison.runner import Runner
from parity.errors import ParityError
from parity.explain.proof.layer import Array
from parity.network.table import LayerTable
from parity.numerics.capture import CaptureReader


class Float64Graphs:
    """The graphs' outputs at each row, evaluated in float64 on the reference's inputs.

    Each graph is run once, at the first `read_output` of its subject.
    """

    def __init__(self, runner: Runner, table: LayerTable, reference: Path, rows: list[str]) -> None:
        self.runner = runner
        self.table = table
        self.reference = reference
        self.rows = rows
        self._captures: dict[str, Path | None] = {}

    def read_output(self, subject: str, row: str) -> Array | None:
        """Return one row's output in float64; None where the graph could not be evaluated."""
        if subject not in self._captures:
            self._captures[subject] = self._run(subject)
        path = self._captures[subject]
        if path is None:
            return None
        with CaptureReader(path) as reader:
            tensor: Any = reader.read(row) if row in reader else None
            return None if tensor is None else np.array(tensor, np.float64)

    def _run(self, subject: str) -> Path | None:
        try:
            return self.runner.run_float64(
                subject, self.rows, "graph-float64", self.table, feed=self.reference
            ).path
        except ParityError:
            # PyTorch cannot evaluate one of its operators: there is no float64 value.
            return None
