"""An ONNX file of a user, run in the caller's process: its input in either layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

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
        self.path = path
        self.inputs = [value for value in self.proto.graph.input if value.name not in weights]

    @property
    def input(self) -> onnx.ValueInfoProto:
        """The one input; raises `UsageError` where there are several, or several outputs."""
        if len(self.inputs) != 1 or len(self.proto.graph.output) != 1:
            raise UsageError(
                f"{self.path}: has {len(self.inputs)} inputs and {len(self.proto.graph.output)} "
                "outputs; with table= there is one of each"
            )
        return self.inputs[0]

    def compute_outputs(
        self, inputs: Mapping[str, Array], *, model: None = None
    ) -> dict[str, Array]:
        """Run once and return the outputs by name, images as (N, C, H, W).

        `inputs` are by the names of the graph's inputs, or in their order. Raises `UsageError` for
        another number of inputs.
        """
        names = [value.name for value in self.inputs]
        if len(inputs) != len(names):
            raise UsageError(f"{self.path}: takes {len(names)} inputs, found {len(inputs)}")
        by_name = set(names) == set(inputs)
        feeds, turned = {}, False
        for value, (given, array) in zip(self.inputs, inputs.items(), strict=True):
            own = inputs[value.name] if by_name else array
            channels_last = _is_channels_last(value, own.shape)
            turned |= channels_last
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            if own.dtype.kind != np.dtype(dtype).kind:
                raise UsageError(f"{self.path}: {given}: takes {dtype}, found {own.dtype}")
            own = layouts.to_nhwc(own) if channels_last else own
            feeds[value.name] = np.ascontiguousarray(own.astype(dtype))
        outputs = [value.name for value in self.proto.graph.output]
        found = _open_session(self.proto).run(outputs, feeds)
        return {
            name: layouts.to_nchw(array) if turned else array
            for name, array in zip(outputs, found, strict=True)
        }

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
        session = _open_session(model)
        channels_last = _is_channels_last(self.input, x.shape)
        data = np.ascontiguousarray(layouts.to_nhwc(x) if channels_last else x)
        outputs = session.run([*names, self.proto.graph.output[0].name], {self.input.name: data})
        for row, output in zip((*inner, last), outputs, strict=True):
            hook(row, layouts.to_nchw(output) if channels_last else output)


def _open_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _is_channels_last(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> bool:
    """Return whether an image input's fixed sizes fit (N, H, W, C) and not (N, C, H, W)."""
    axes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if len(axes) != 4 or len(shape) != 4:
        return False

    def fits(sizes: Sequence[int]) -> bool:
        return all(a in (0, n) for a, n in zip(axes[1:], sizes, strict=True))

    _, channels, height, width = shape
    return fits((height, width, channels)) and not fits((channels, height, width))
