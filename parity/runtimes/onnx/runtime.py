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

from exporters import graph as onnx_graph
from exporters.errors import ExportError
from exporters.graph import precision as onnx_precision
from parity.errors import ModelExportError, TableError
from parity.network import kinds, layouts, weights
from parity.network.table import LOGITS, LayerTable, Row
from parity.numerics import capture
from parity.numerics.distance import measure
from parity.processes.requests import RunRequest
from parity.runtimes.base import hello, read_input
from parity.runtimes.devices import batch_too_large, survey
from parity.runtimes.onnx import batches as onnx_batches
from parity.runtimes.onnx import device as onnx_device
from parity.runtimes.onnx import node_weights
from parity.runtimes.onnx.feeds import SUFFIX, add_feeds

Array = NDArray[Any]


@dataclass(frozen=True)
class Setting:
    """How a session is made."""

    device: str = "cpu"
    precision: str = "float32"
    optimise: bool = True
    items_per_run: int | None = None


class Graph(Protocol):
    """One exported graph with its weights, and the table that its tensors are named by."""

    @property
    def table(self) -> LayerTable: ...

    def model(self, outputs: Sequence[str] = ()) -> onnx_graph.WeightedModel:
        """The model as it is deployed; with `outputs`, those tensors are outputs too."""
        ...


@dataclass(frozen=True)
class TracedGraph:
    """A structure and its weights, under the structure's own names."""

    structure: onnx_graph.Structure
    values: Mapping[str, Array]
    table: LayerTable

    def model(self, outputs: Sequence[str] = ()) -> onnx_graph.WeightedModel:
        return onnx_graph.inject(self.structure, self.values, outputs=outputs)


@dataclass(frozen=True)
class FinishedGraph:
    """A complete ONNX file."""

    proto: onnx.ModelProto
    table: LayerTable

    def model(self, outputs: Sequence[str] = ()) -> onnx_graph.WeightedModel:
        model = onnx_graph.add_outputs(self.proto, outputs) if outputs else self.proto
        return onnx_graph.WeightedModel(model, {})


class Runtime:
    """The child process's ONNX Runtime operations; a handle names one graph."""

    name = "onnx"

    def __init__(self) -> None:
        # ONNX Runtime warns about every machine it cannot read the topology of.
        ort.set_default_logger_severity(3)
        self.graphs: dict[str, Graph] = {}

    def hello(self) -> dict[str, Any]:
        return hello({"onnxruntime": ort.__version__, "onnx": onnx.__version__})

    def survey(self, *, device: str) -> dict[str, Any]:
        """The providers, and the options of a float32 run; see `survey`."""
        return survey(self, device)

    def devices(self) -> list[str]:
        return onnx_device.devices()

    def release(self) -> None:
        """A session gives everything back when it ends."""

    def is_out_of_memory(self, error: Exception) -> bool:
        return onnx_device.is_out_of_memory(error)

    def pin(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        """The flags that a session of one node holds."""
        made = onnx_device.smallest(device, precision)
        return onnx_device.prove(made, device, precision)

    def require(self, *, device: str) -> dict[str, Any]:
        """Raise `MissingRuntimeError` with what `device` lacks."""
        onnx_device.check(device)
        onnx_device.prove(onnx_device.smallest(device, "float32"), device, "float32")
        return {}

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

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Capture rows from an instrumented graph, and the logits from the plain one.

        `arguments` are the fields of `RunRequest`. The plain graph is the one that is deployed;
        extra outputs keep the optimiser from fusing across them, so both are run.
        "instrumentation_gap" in the answer is how far the final output of the instrumented graph is
        from the plain one's. With `feed`, only an instrumented graph is run, in which every part is
        given the reference's tensors.
        """
        request = RunRequest.from_json(arguments)
        setting = Setting(
            request.device, request.precision, request.optimise, request.items_per_run
        )
        if request.device == "gpu":
            onnx_device.check(request.device)
        data = read_input(request.x)
        graph = self.graphs[request.handle]
        try:
            return self._run(graph, data, request, setting)
        except Exception as error:
            if not self.is_out_of_memory(error):
                raise
            raise batch_too_large(
                self,
                len(data),
                request.device,
                lambda count: _plain(graph, data[:count], setting),
            ) from error

    def _run(
        self, graph: Graph, data: Array, request: RunRequest, setting: Setting
    ) -> dict[str, Any]:
        wanted = [graph.table.by_name(name) for name in request.rows]
        inner = [row for row in wanted if graph.table.tensor_name(row) != LOGITS]
        last = list(graph.table.ends("stage").values())[-1]
        answer: dict[str, Any] = {}
        tensors, logits = _instrumented(graph, inner, data, request.feed, setting)
        if request.feed is None:
            final = logits
            (logits,), answer = _plain(graph, data, setting)
            error = measure(actual=final, expected=logits)
            answer["instrumentation_gap"] = {"max_abs": error.max_abs, "rel_l2": error.rel_l2}
        with capture.CaptureWriter(Path(request.out), request.manifest) as writer:
            for row, tensor in zip(inner, tensors, strict=True):
                writer.add(row.name, canonical(tensor, row))
            if last in wanted:
                writer.add(last.name, canonical(logits, last))
        return answer

    def held(self, *, handle: str, row: str, path: str) -> dict[str, Any]:
        """Write the weights that the graph has in a row, by role; the answer names their tensors.

        A weight that was folded into another, or is not where its kind has it, is left out.
        """
        graph = self.graphs[handle]
        wanted = graph.table.by_name(row)
        found = node_weights.weights(graph.model(), graph.table.tensor_name(wanted), wanted.kind)
        arrays: dict[str, Any] = {role: weight.value for role, weight in found.items()}
        np.savez(path, **arrays)
        return {"names": {role: weight.name for role, weight in found.items()}}

    def batch(self, *, handle: str) -> dict[str, Any]:
        """The batch that the graph's input declares, None for any."""
        value = self.graphs[handle].model().skeleton.graph.input[0]
        return {"declared": value.type.tensor_type.shape.dim[0].dim_value or None}

    def batches(self, *, handle: str, x: str, counts: list[int]) -> dict[str, Any]:
        """What the graph says of other batch sizes: `refused` has a line for each that it cannot.

        Its samples must be the same as when they are run `counts[0]` at a time.
        """
        plain, _ = session(self.graphs[handle].model(), Setting())
        return {"refused": onnx_batches.refused(plain, LOGITS, read_input(x), counts)}

    def write(self, *, handle: str, rows: list[str], path: str) -> dict[str, Any]:
        """Write the graph, the tensors of the named rows kept alive as outputs, for a reader."""
        graph = self.graphs[handle]
        names = [graph.table.tensor_name(graph.table.by_name(name)) for name in rows]
        model = graph.model([name for name in names if name != LOGITS])
        onnx_graph.write(model, Path(path))
        return {}


def _plain(graph: Graph, data: Array, setting: Setting) -> tuple[list[Array], dict[str, Any]]:
    """The final output of the graph as it is deployed, how long it took, and where it was made."""
    started = time.perf_counter()
    plain, flags = session(graph.model(), setting)
    built = time.perf_counter() - started
    started = time.perf_counter()
    feeds = {plain.get_inputs()[0].name: data}
    outputs = onnx_batches.run(plain, [LOGITS], feeds, setting.items_per_run)
    seconds = time.perf_counter() - started
    proof = {"providers": plain.get_providers()}
    if setting.device == "gpu":
        placed = onnx_device.placement(plain)
        onnx_device.require_placed(placed)
        proof.update(placed)
    facts = {"seconds": seconds, "session_seconds": built, "flags": flags, "proof": proof}
    return outputs, facts


def _instrumented(
    graph: Graph,
    rows: Sequence[Row],
    data: Array,
    feed: str | None,
    setting: Setting,
) -> tuple[list[Array], Array]:
    """The tensors of the rows and the final output, each part fed from `feed` if it is given."""
    names = [graph.table.tensor_name(row) for row in rows]
    try:
        model = graph.model(names)
    except ExportError as error:
        raise TableError(f"the exported graph does not hold every layer: {error}") from error
    feeds: dict[str, Array] = {}
    if feed is not None:
        skeleton, read = add_feeds(model.skeleton, names)
        model = onnx_graph.WeightedModel(skeleton, model.tensors)
        ranks = {value.name: value for value in skeleton.graph.value_info}
        with capture.CaptureReader(Path(feed)) as reader:
            for row, name in zip(rows, names, strict=True):
                if name in read:
                    array = reader.read(row.name).astype(np.float32)
                    feeds[name + SUFFIX] = _as_declared(array, ranks.get(name))
    tapped, _ = session(model, setting)
    inputs = {tapped.get_inputs()[0].name: data, **feeds}
    *tensors, final = onnx_batches.run(tapped, [*names, LOGITS], inputs, setting.items_per_run)
    return tensors, final


def _as_declared(array: Array, value: onnx.ValueInfoProto | None) -> Array:
    """Give an array the trailing axes of length 1 back that a row's shape leaves out."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return array
    missing = len(value.type.tensor_type.shape.dim) - array.ndim
    return array.reshape(array.shape + (1,) * max(missing, 0))


def session(
    model: onnx_graph.WeightedModel, setting: Setting
) -> tuple[ort.InferenceSession, dict[str, Any]]:
    """A session and the flags that it holds; raises `MissingRuntimeError`."""
    if setting.precision in onnx_precision.TYPES:
        try:
            model = onnx_precision.convert(model, setting.precision)
        except ExportError as error:
            raise ModelExportError(f"onnx: {error}") from error
    options = onnx_device.options(setting.device)
    if not setting.optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Idle threads would spin on the cores that the other children compute on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    skeleton, tensors = onnx_graph.detach(model)
    # Weights in the message itself would be copied three times on their way into the session.
    options.add_external_initializers(
        list(tensors), [ort.OrtValue.ortvalue_from_numpy(array) for array in tensors.values()]
    )
    made = onnx_device.start(
        skeleton.SerializeToString(), options, setting.device, setting.precision
    )
    return made, onnx_device.prove(made, setting.device, setting.precision)


def placeholders(table: LayerTable, values: Mapping[str, Array], side: str) -> dict[str, Array]:
    """Canonical weights under the names and in the layouts of the framework `side`."""
    if side == "torch":
        return dict(values)
    return {
        # A view: the graph's own transposes of kernels undo the reordering without a copy.
        f"{row.keras}/{weight.keras}": kinds.get(row.kind)
        .role(weight.role)
        .to_keras(values[weight.name])
        for row, weight in table.weights()
        if row.keras
    }


def canonical(tensor: Array, row: Row) -> Array:
    """A graph's tensor (N, C, H, W) without the axes of length 1 that its row leaves out."""
    return layouts.drop_axes(tensor, len(row.shape) + 1) if row.shape else tensor
