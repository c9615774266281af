"""Captures of ONNX graphs that are evaluated in float64 with PyTorch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from parity.network import layouts
from parity.network.table import LayerTable
from parity.numerics import capture
from parity.runtimes.floors import open_feed
from parity.runtimes.run import read_input
from parity.runtimes.torch import onnx_evaluator

Array = NDArray[Any]


def capture_graph(
    graph: Path,
    table: LayerTable,
    *,
    x: str,
    rows: list[str],
    out: Path,
    manifest: dict[str, Any],
    feed: str | None,
) -> dict[str, Any]:
    """Evaluate the ONNX file `graph` in float64 and write the rows' tensors to `out`.

    `feed` is a capture of the reference, as in `RunRequest`. "fallbacks" in the answer are the
    operators that onnx.reference evaluated instead of PyTorch.
    """
    names = {table.tensor_name(table.by_name(name)): name for name in rows}
    model = onnx.load(graph)
    data = read_input(x).astype(np.float64)
    fallbacks: set[str] = set()
    started = time.perf_counter()
    with capture.CaptureWriter(out, manifest) as writer, open_feed(feed) as feed_row:
        replacements: dict[str, Array] = {}

        def sink(tensor: str, array: Array) -> None:
            row = table.by_name(names[tensor])
            rank = len(row.shape) + 1
            canonical = layouts.drop_axes(array, rank) if row.shape else array
            writer.add(row.name, canonical)
            replacement = feed_row(row, canonical)
            if replacement is not None:
                replacements[tensor] = replacement.reshape(array.shape).astype(np.float64)

        onnx_evaluator.evaluate(
            model,
            {model.graph.input[0].name: data},
            sink=sink,
            wanted=list(names),
            replace=replacements.get,
            on_fallback=lambda operator, node: fallbacks.add(operator),
        )
    return {"seconds": time.perf_counter() - started, "fallbacks": sorted(fallbacks)}
