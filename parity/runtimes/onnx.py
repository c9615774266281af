"""ONNX Runtime: put weights into exported graphs, run them as deployed and instrumented."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from exporters import onnx_graph
from exporters.errors import ExportError
from parity import capture, layouts, weights
from parity.distance import measure
from parity.errors import RuntimeMissing, TableError
from parity.runtimes.base import hello, read_input
from parity.table import LOGITS, LayerTable, Row

Array = NDArray[Any]

PROVIDERS = {"cpu": ["CPUExecutionProvider"], "gpu": ["CUDAExecutionProvider"]}


class Graph(Protocol):
    """One exported graph with its weights, and the table that its tensors are named by."""

    table: LayerTable

    def plain(self) -> bytes:
        """The model as it is deployed."""
        ...

    def instrumented(self, names: Sequence[str]) -> bytes:
        """The model with the named tensors as outputs too, after its own."""
        ...


@dataclass(frozen=True)
class TracedGraph:
    """A structure and its weights, under the structure's own names."""

    structure: onnx_graph.Structure
    values: Mapping[str, Array]
    table: LayerTable

    def plain(self) -> bytes:
        return onnx_graph.to_bytes(onnx_graph.inject(self.structure, self.values))

    def instrumented(self, names: Sequence[str]) -> bytes:
        return onnx_graph.to_bytes(
            onnx_graph.inject(self.structure, self.values, outputs=names)
        )


@dataclass(frozen=True)
class FinishedGraph:
    """A complete ONNX file."""

    model: onnx.ModelProto
    table: LayerTable

    def plain(self) -> bytes:
        return bytes(self.model.SerializeToString())

    def instrumented(self, names: Sequence[str]) -> bytes:
        return bytes(onnx_graph.add_outputs(self.model, names).SerializeToString())


class Runtime:
    """The child process's ONNX Runtime operations; a handle names one graph."""

    def __init__(self) -> None:
        # ONNX Runtime warns about every machine it cannot read the topology of.
        ort.set_default_logger_severity(3)
        self.graphs: dict[str, Graph] = {}

    def hello(self) -> dict[str, Any]:
        return hello({"onnxruntime": ort.__version__, "onnx": onnx.__version__})

    def load(
        self, *, handle: str, table: dict[str, Any], structure: str, path: str, side: str
    ) -> dict[str, Any]:
        """Put the canonical weights of `path` into a cached structure traced from `side`."""
        started = time.perf_counter()
        layer_table = LayerTable.from_json(table)
        values = weights.load(Path(path), layer_table)
        held = onnx_graph.Structure.load(Path(structure))
        named = placeholders(layer_table, values, side)
        self.graphs[handle] = TracedGraph(
            held, {name: named[name] for name in held.weights}, layer_table
        )
        return {"seconds": time.perf_counter() - started}

    def read(self, *, handle: str, table: dict[str, Any], path: str) -> dict[str, Any]:
        """Take a finished ONNX file."""
        started = time.perf_counter()
        self.graphs[handle] = FinishedGraph(onnx.load(path), LayerTable.from_json(table))
        return {"seconds": time.perf_counter() - started}

    def run(
        self,
        *,
        handle: str,
        x: str,
        rows: list[str],
        out: str,
        manifest: dict[str, Any],
        device: str = "cpu",
    ) -> dict[str, Any]:
        """Capture the named rows from an instrumented graph, and the logits from the plain one.

        The plain graph is the one that is deployed; extra outputs keep the optimiser from fusing
        across them, so both are run. "instrumented" in the answer is how far the final output of
        the instrumented graph is from the plain one's.
        """
        graph = self.graphs[handle]
        data = read_input(x)
        wanted = [graph.table.by_name(name) for name in rows]
        inner = [row for row in wanted if graph.table.tensor_name(row) != LOGITS]
        last = graph.table.cuts("stage")[-1].row
        started = time.perf_counter()
        plain = session(graph.plain(), device)
        built = time.perf_counter() - started
        started = time.perf_counter()
        (logits,) = plain.run([LOGITS], {plain.get_inputs()[0].name: data})
        seconds = time.perf_counter() - started
        providers = plain.get_providers()
        del plain
        tapped, final = self._instrumented(graph, inner, data, device)
        error = measure(actual=final, expected=logits)
        with capture.CaptureWriter(Path(out), manifest) as writer:
            for row, tensor in zip(inner, tapped, strict=True):
                writer.add(row.name, canonical(tensor, row))
            if last in wanted:
                writer.add(last.name, canonical(logits, last))
        return {
            "seconds": seconds,
            "session_seconds": built,
            "providers": providers,
            "instrumented": {"max_abs": error.max_abs, "rel_l2": error.rel_l2},
        }

    def _instrumented(
        self, graph: Graph, rows: Sequence[Row], data: Array, device: str
    ) -> tuple[list[Array], Array]:
        names = [graph.table.tensor_name(row) for row in rows]
        try:
            model = graph.instrumented(names)
        except ExportError as error:
            raise TableError(f"the exported graph does not hold every layer: {error}") from error
        tapped = session(model, device)
        *tensors, final = tapped.run([*names, LOGITS], {tapped.get_inputs()[0].name: data})
        return tensors, final


def session(model: bytes, device: str) -> ort.InferenceSession:
    """A session on `device`; raises `RuntimeMissing` if it would run elsewhere."""
    providers = PROVIDERS[device]
    missing = [name for name in providers if name not in ort.get_available_providers()]
    if missing:
        raise RuntimeMissing(
            f"onnxruntime: this build has no {missing[0]}; pip install onnxruntime-gpu"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    made = ort.InferenceSession(model, options, providers=providers)
    # get_available_providers() says what was built; only the session knows what was loaded.
    if made.get_providers()[0] != providers[0]:
        raise RuntimeMissing(f"onnxruntime: {providers[0]} did not load; the session fell back")
    return made


def placeholders(table: LayerTable, values: Mapping[str, Array], side: str) -> dict[str, Array]:
    """Canonical weights under the names and in the layouts of the framework `side`."""
    if side == "torch":
        return dict(values)
    return {
        f"{row.keras}/{weight.keras}": np.ascontiguousarray(
            layouts.to_keras(values[weight.name], kind=row.kind, role=weight.role)
        )
        for row, weight in table.weights()
        if row.keras
    }


def canonical(tensor: Array, row: Row) -> Array:
    """A graph's tensor (N, C, H, W) without the axes of length 1 that its row leaves out."""
    return layouts.drop_axes(tensor, len(row.shape) + 1) if row.shape else tensor
