"""The largest magnitude of each tensor of a graph on given inputs, in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exporters.graph.mixed_precision import with_all_outputs
from exporters.graph.model import Array, WeightedModel
from exporters.graph.serialization import write_directly
from exporters.graph.session_process import get_shared_process


def measure_ranges(model: WeightedModel, feeds: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    """Return the largest magnitude of each float32 input and computed tensor, over all feeds.

    It is infinite or NaN where a value is. Raises ExportError where the graph does not run.
    """
    session = get_shared_process()
    largest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranges.onnx"
        write_directly(with_all_outputs(model), path)
        try:
            names = session.load(path)
            for given in feeds:
                arrays = session.run(given, "measuring the ranges of its tensors")
                for name, array in (*given.items(), *zip(names, arrays, strict=True)):
                    if array.dtype.kind == "f" and array.size:
                        magnitude = float(np.abs(array).max())
                        largest[name] = max(magnitude, largest.get(name, 0.0))
        finally:
            session.release()
    return largest
