"""The ONNX Runtime child's operations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from exporters import graph as onnx_graph
from parity.network import weights
from parity.network.table import LOGITS, LayerTable
from parity.processes.requests import RunRequest
from parity.runtimes.devices import inspect_device, report_batch_memory
from parity.runtimes.load import hello_answer
from parity.runtimes.onnx import device as onnx_device
from parity.runtimes.onnx import graphs, repair, run, sessions
from parity.runtimes.onnx.graphs import Graph
from parity.runtimes.onnx.node_weights import read_node_weights
from parity.runtimes.onnx.pieces import OnnxPieces
from parity.runtimes.onnx.sessions import SessionSettings
from parity.runtimes.predict import save_outputs
from parity.runtimes.run import read_input


class Runtime(OnnxPieces):
    """The graphs of one child; a handle names each of them.

    Beside them a child may have one model that was read from any file: see `OnnxPieces`.
    """

    name = "onnx"

    def __init__(self) -> None:
        # ONNX Runtime warns about every machine it cannot read the topology of.
        ort.set_default_logger_severity(3)
        self.graphs: dict[str, Graph] = {}
        self._predictors: dict[tuple[str, str, str], ort.InferenceSession] = {}
        self._threads = 0

    def hello(self) -> dict[str, Any]:
        """Return the versions; see `hello_answer`."""
        return hello_answer({"onnxruntime": ort.__version__, "onnx": onnx.__version__})

    # Devices -------------------------------------------------------------------------------------

    def inspect_device(self, *, device: str) -> dict[str, Any]:
        """Return the providers and the flags of a float32 run; see `devices.inspect_device`."""
        return inspect_device(self, device)

    def list_devices(self) -> list[str]:
        """Return the execution providers of this build that are devices of parity."""
        return onnx_device.list_built_providers()

    def release_memory(self) -> None:
        """Do nothing: a session frees all its memory when it ends."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether an error means that a device has too little memory."""
        return onnx_device.is_out_of_memory(error)

    def pin_flags(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        """Return the flags of a session with one node."""
        session = onnx_device.create_probe_session(device, precision)
        return onnx_device.require_provider(session, device, precision)

    def require_device(self, *, device: str) -> dict[str, Any]:
        """Raise `RequirementError` with what `device` lacks."""
        onnx_device.require_device(device)
        self.pin_flags("float32", device)
        return {}

    # Graphs --------------------------------------------------------------------------------------

    def load_structure(
        self, *, handle: str, table: dict[str, Any], structure: str, path: str, side: str
    ) -> dict[str, Any]:
        """Combine the canonical weights of `path` with a structure traced from `side`."""
        started = time.perf_counter()
        layer_table = LayerTable.from_json(table)
        values = weights.load(Path(path), layer_table)
        self.graphs[handle] = graphs.load_structure(Path(structure), layer_table, values, side)
        return {"seconds": time.perf_counter() - started}

    def load_file(self, *, handle: str, table: dict[str, Any], path: str) -> dict[str, Any]:
        """Load a complete ONNX file."""
        started = time.perf_counter()
        self.graphs[handle] = graphs.FileGraph(onnx.load(path), LayerTable.from_json(table))
        return {"seconds": time.perf_counter() - started}

    def save_graph(self, *, handle: str, rows: list[str], path: str) -> dict[str, Any]:
        """Write the graph as a file, in which the tensors of the named rows are outputs."""
        graph = self.graphs[handle]
        names = [graph.table.tensor_name(graph.table.by_name(name)) for name in rows]
        model = graph.model([name for name in names if name != LOGITS])
        onnx_graph.write(model, Path(path))
        return {}

    def save_node_weights(self, *, handle: str, row: str, path: str) -> dict[str, Any]:
        """Write a row's weights in the graph by role (`.npz`); the answer has their tensors' names.

        A weight that was folded into another, or is not an input of its kind's node, is left out.
        """
        graph = self.graphs[handle]
        layer = graph.table.by_name(row)
        found = read_node_weights(graph.model(), graph.table.tensor_name(layer), layer.kind)
        arrays: dict[str, Any] = {role: weight.value for role, weight in found.items()}
        np.savez(path, **arrays)
        return {"names": {role: weight.name for role, weight in found.items()}}

    # Runs ----------------------------------------------------------------------------------------

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Capture rows; `arguments` are the fields of `RunRequest`. See `run.capture_graph`."""
        request = RunRequest.from_json(arguments)
        settings = SessionSettings(
            request.device, request.precision, request.optimise, request.chunk_size
        )
        if request.device == "gpu":
            onnx_device.require_device(request.device)
        data = read_input(request.x)
        graph = self.graph_for(request.handle, settings)

        def attempt(count: int) -> None:
            run.run_plain(graph, data[:count], settings)

        with report_batch_memory(self, len(data), request.device, attempt):
            return run.capture_graph(graph, data, request, settings)

    def set_threads(self, *, count: int) -> dict[str, Any]:
        """Create the sessions of predictions with `count` threads."""
        self._threads = count
        return {"threads": count}

    def predict(
        self,
        *,
        images: str,
        out: str,
        handle: str = "",
        precision: str = "float32",
        device: str = "cpu",
    ) -> dict[str, Any]:
        """Write the outputs (N, classes) of a graph, or of the model file without a handle.

        See `parity.runtimes.predict`.
        """
        data = read_input(images)
        if (handle, precision, device) not in self._predictors:
            settings = SessionSettings(device, precision, threads=self._threads)
            if device == "gpu":
                onnx_device.require_device(device)
            if handle:
                session, _ = sessions.create_session(self.graphs[handle].model(), settings)
            else:
                session = self.open_whole_session(settings)
            self._predictors[handle, precision, device] = session
        session = self._predictors[handle, precision, device]
        started = time.perf_counter()
        outputs = run.predict(session, data)
        seconds = time.perf_counter() - started
        save_outputs(self.name, outputs, Path(out), count=len(data))
        return {"seconds": seconds}

    def graph_for(self, handle: str, settings: SessionSettings) -> Graph:
        """Return the graph that a session with these settings runs."""
        return self.graphs[handle]

    def write_repaired(
        self,
        *,
        source: str,
        path: str,
        edits: list[dict[str, Any]],
        weights: str | None = None,
    ) -> None:
        """Write a file with edits of single nodes; see `repair.write_repaired`."""
        repair.write_repaired(source, path, edits=edits, weights=weights)

    def read_batch_size(self, *, handle: str) -> dict[str, Any]:
        """Return the batch size that the graph's input declares, None for any."""
        value = self.graphs[handle].model().skeleton.graph.input[0]
        return {"declared": value.type.tensor_type.shape.dim[0].dim_value or None}

    def check_batch_sizes(self, *, handle: str, x: str, counts: list[int]) -> dict[str, Any]:
        """Return "problems", a line for each batch size of `counts` that the graph cannot run.

        Its samples must be the same as when they are run `counts[0]` at a time.
        """
        session, _ = sessions.create_session(self.graphs[handle].model(), SessionSettings())
        data = read_input(x)
        return {"problems": sessions.find_batch_problems(session, LOGITS, data, counts)}
