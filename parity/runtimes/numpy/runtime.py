"""The NumPy child's operations: measure some rows of captures, while other processes do others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parity.numerics.capture import CaptureReader
from parity.numerics.measurement import measure_row


class Runtime:
    """The captures of one comparison, and measurements of their rows."""

    def open(self, *, reference: str, subjects: dict[str, str]) -> None:
        """Open the reference's capture and those of the subjects, by name."""
        self.reference = CaptureReader(Path(reference))
        self.subjects = {name: CaptureReader(Path(path)) for name, path in subjects.items()}

    def measure(self, *, row: str) -> dict[str, Any]:
        """Return the measurements of one row as plain data."""
        return measure_row(row, self.reference, self.subjects).to_json()
