"""An ONNX file of a user, run in the caller's process: its input in either layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from exporters import graph as onnx_graph
from parity.errors import UsageError
from parity.network import layouts
from parity.network.table import LayerTable, Row
from parity.runtimes.floors import TensorHook

Array = NDArray[Any]


class InProcessModel:
    """Runs the file with ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        try:
            self.proto = onnx.load(path)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{path}: cannot be read as an ONNX file: {reason}") from error
        weights = {tensor.name for tensor in self.proto.graph.initializer}
        inputs = [value for value in self.proto.graph.input if value.name not in weights]
        if len(inputs) != 1 or len(self.proto.graph.output) != 1:
            raise UsageError(
                f"{path}: has {len(inputs)} inputs and {len(self.proto.graph.output)} outputs; "
                "one of each can be compared"
            )
        self.input = inputs[0]

    def find_rows(self, rows: Sequence[Row], table: LayerTable) -> list[Row]:
        """Return the rows whose tensors the graph has by name, and the last, its output."""
        names = {name for node in self.proto.graph.node for name in node.output}
        return [row for row in rows if row is rows[-1] or table.tensor_name(row) in names]

    def forward(
        self, x: Array, rows: Sequence[Row], hook: TensorHook, *, table: LayerTable | None = None
    ) -> None:
        """Run once on `x` (N, C, H, W), and call `hook` with each row's tensor.

        The last row is the graph's output.
        """
        *inner, last = rows
        names = [table.tensor_name(row) for row in inner] if table is not None else []
        model = onnx_graph.add_outputs(self.proto, names) if names else self.proto
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        channels_last = _is_channels_last(self.input, x.shape)
        data = np.ascontiguousarray(layouts.to_nhwc(x) if channels_last else x)
        outputs = session.run([*names, self.proto.graph.output[0].name], {self.input.name: data})
        for row, output in zip((*inner, last), outputs, strict=True):
            hook(row, layouts.to_nchw(output) if channels_last else output)


def _is_channels_last(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> bool:
    """Return whether an image input's fixed sizes fit (N, H, W, C) and not (N, C, H, W)."""
    axes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if len(axes) != 4 or len(shape) != 4:
        return False

    def fits(sizes: Sequence[int]) -> bool:
        return all(a in (0, n) for a, n in zip(axes[1:], sizes, strict=True))

    _, channels, height, width = shape
    return fits((height, width, channels)) and not fits((channels, height, width))
