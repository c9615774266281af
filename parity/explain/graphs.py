"""Asking an ONNX graph about one of its layers: the weights that it holds, what it says exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison.flow import Flow
from parity.errors import ParityError
from parity.explain.proof.layer import Array
from parity.network.table import Row
from parity.numerics.capture import CaptureReader


def held(flow: Flow, subject: str, row: Row) -> tuple[dict[str, Array], Mapping[str, str]]:
    """The weights of the row by role, in canonical layouts, and the names of their tensors."""
    path = flow.folder / f"held-{subject}-{row.name}.npz"
    child = flow.children[flow.request.child(subject)]
    try:
        answer = child.call("held", handle=subject, row=row.name, path=str(path))
    except ParityError:
        # A graph that cannot be read so is asked nothing more.
        return {}, {}
    with np.load(path) as arrays:
        return {role: arrays[role] for role in arrays.files}, answer["names"]


class Exact:
    """What the graph of a subject says of each row, in float64, given the reference's tensors."""

    def __init__(self, flow: Flow, reference: Path, rows: list[str]) -> None:
        self.flow = flow
        self.reference = reference
        self.rows = rows
        self._captures: dict[str, Path | None] = {}

    def read(self, subject: str, row: str) -> Array | None:
        """One row's tensor; None where the graph could not be evaluated."""
        if subject not in self._captures:
            self._captures[subject] = self._made(subject)
        path = self._captures[subject]
        if path is None:
            return None
        with CaptureReader(path) as reader:
            tensor: Any = reader.read(row) if row in reader else None
            return None if tensor is None else np.array(tensor, np.float64)

    def _made(self, subject: str) -> Path | None:
        flow = self.flow
        try:
            return flow.captures.in_float64(
                subject, self.rows, "exact", flow.table.result(), feed=self.reference
            ).path
        except ParityError:
            # An operator that PyTorch cannot evaluate: the graph stays unheard.
            return None
