"""NumPy: measure captures beside another process that measures other rows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parity.numerics.capture import CaptureReader
from parity.numerics.measurement import measure_row


class Runtime:
    """The child process's operations."""

    def open(self, *, reference: str, subjects: dict[str, str]) -> None:
        """Open the captures that the rows are read from."""
        self.reference = CaptureReader(Path(reference))
        self.subjects = {name: CaptureReader(Path(path)) for name, path in subjects.items()}

    def measure(self, *, row: str) -> dict[str, Any]:
        """Measure one row."""
        return measure_row(row, self.reference, self.subjects).to_json()
