"""Captures as of naive PyTorch hooks: a layer's tensor is read after it was overwritten.

parity's own hooks read a tensor at once. These captures test the explanation of such a mistake.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from parity.numerics.capture import CaptureReader, CaptureWriter


class StaleCaptures:
    """A mixin of a runtime; `stale` has, by row, the row whose tensor is captured in its place."""

    stale: ClassVar[dict] = {}

    def set_stale(self, changes):
        """Set the stale captures among the changes, and return the other changes."""
        self.stale = {c["row"]: c["later"] for c in changes if c["change"] == "stale"}
        return [change for change in changes if change["change"] != "stale"]

    def run(self, **arguments):
        rows, out = arguments["rows"], arguments["out"]
        answer = super().run(**arguments)
        replacements = {
            row: later for row, later in self.stale.items() if {row, later} <= set(rows)
        }
        if replacements:
            with CaptureReader(Path(out)) as reader:
                manifest = reader.manifest
                tensors = {name: np.array(reader.read(name)) for name in reader.names}
            with CaptureWriter(Path(out), manifest) as writer:
                for name in tensors:
                    writer.add(name, tensors[replacements.get(name, name)])
        return answer
