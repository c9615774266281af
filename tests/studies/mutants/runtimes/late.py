"""Captures as naive PyTorch hooks take them: what was kept of a layer is what became of it later.

This is not what parity's hooks do. It shows what is said of such captures, whoever took them.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from parity.numerics.capture import CaptureReader, CaptureWriter


class Late:
    """Beside a runtime: `late` has, by row, the row whose tensor is found in its place."""

    late: ClassVar[dict] = {}

    def take_late(self, changes):
        """Note the late captures among the changes, and return the others."""
        self.late = {c["row"]: c["later"] for c in changes if c["change"] == "late"}
        return [change for change in changes if change["change"] != "late"]

    def run(self, **arguments):
        rows, out = arguments["rows"], arguments["out"]
        answer = super().run(**arguments)
        swapped = {row: later for row, later in self.late.items() if {row, later} <= set(rows)}
        if swapped:
            with CaptureReader(Path(out)) as reader:
                manifest = reader.manifest
                kept = {name: np.array(reader.read(name)) for name in reader.names}
            with CaptureWriter(Path(out), manifest) as writer:
                for name in kept:
                    writer.add(name, kept[swapped.get(name, name)])
        return answer
