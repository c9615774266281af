"""The operations that read any model into a graph and run it at the tensors of that graph."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError
from parity.errors import GraphError, PrecisionError
from parity.network.onnx_metadata import AXES
from parity.numerics import capture, floor
from parity.numerics.npz import load_npz, save_npz
from parity.processes.graph_requests import (
    ExportRequest,
    FloorRequest,
    GraphRunRequest,
    TensorPoint,
)
from parity.runtimes.constants import use_constants
from parity.runtimes.devices import require_output_on
from parity.runtimes.export import (
    convert_export_errors,
    describe_export,
    load_exporter,
    write_graph,
)
from parity.runtimes.floors import FloorHelper, Perturbation, open_floor_helper
from parity.runtimes.graph_framework import GraphFramework, GraphHook

Array = NDArray[Any]


MAX_WIDE = 2**29
"""Bytes of weights up to which a copy in float64 is kept."""


class GraphOperations(GraphFramework):
    """Reads, runs and measures the child's model as a graph."""

    name: str
    """The runtime's name."""

    _wide: Any = None
    """A copy of the model in float64, with the weights that it has now."""
    _traced: tuple[Any, Any] | None = None
    """What `trace_graph` was given, and the exporter's `Structure` or `ExportError`."""

    def read_inputs(self, *, example: str | None = None) -> dict[str, Any]:
        """Return the model's inputs; write its example inputs to the `.npz` file `example`."""
        arrays: dict[str, Any] | None = self.example_inputs()
        if example is not None and arrays is not None:
            save_npz(example, arrays)
        specs = [spec.to_json() for spec in self.describe_inputs()]
        return {"inputs": specs, "has_example": arrays is not None}

    def read_graph(self, *, inputs: str, out: str) -> dict[str, Any]:
        """Record one run on the arrays of the `.npz` file `inputs`; write the graph to `out`."""
        started = time.perf_counter()
        graph = self.record(load_npz(inputs))
        graph.validate(graph.framework)
        Path(out).write_text(json.dumps(graph.to_json()), encoding="utf-8")
        return {
            "seconds": time.perf_counter() - started,
            "nodes": len(graph.nodes),
            "record": self.describe_record(),
        }

    def list_module_files(self) -> dict[str, Any]:
        """Return "files": by the file of each loaded module, its time in ns and its size."""
        files = {}
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and os.path.isabs(path):
                with suppress(OSError):
                    found = os.stat(path)
                    files[path] = [found.st_mtime_ns, found.st_size]
        return {"files": files}

    def restore_graph(self, *, inputs: str, record: Any) -> None:
        """Be as after `read_graph` on the file `inputs`, without a run.

        `record` is from that operation's answer, for the same model and inputs.
        """
        self.restore_record(load_npz(inputs), record)

    def trace_graph(self, *, inputs: str, opset: int | None = None) -> None:
        """Trace the model for an `export_graph` on inputs of these shapes, which is then faster.

        The weights may change until then, but not what the model itself reads of them as numbers.
        A refusal is raised by `export_graph`.
        """
        load_exporter()
        given = (_read_shapes(inputs), opset)
        try:
            self._traced = given, self.trace_export(inputs, opset)
        except ExportError as error:
            self._traced = given, error
        except Exception:  # noqa: BLE001 - it is tried again, and then it is an error
            self._traced = None

    def export_graph(self, *, path: str, inputs: str, opset: int | None = None) -> None:
        """Write the model to `path` as an ONNX file; not verified, since a comparison follows.

        `inputs` is an `.npz` file, for a module that states no shapes. Raises `ModelExportError`.
        """
        traced, self._traced = self._traced, None
        with convert_export_errors(self.name):
            if traced is not None and traced[0] == (_read_shapes(inputs), opset):
                structure = traced[1]
                if isinstance(structure, ExportError):
                    raise structure
            else:
                structure = self.trace_export(inputs, opset)
            write_graph(structure, self.read_export_weights(), Path(path))

    def export_reference(self, **arguments: Any) -> dict[str, Any]:
        """Write the model as a verified ONNX file; `arguments` are the fields of `ExportRequest`.

        The answer describes the file and every check. Raises `ModelExportError`.
        """
        request = ExportRequest.from_json(arguments)
        axes = self._name_axes(request)
        if axes:
            metadata = {**request.metadata, AXES: json.dumps(axes)}
            request = replace(request, metadata=metadata)
        load_exporter()
        with convert_export_errors(self.name):
            export = self.export_file(request)
        checksum = hashlib.sha256()
        for name, array in sorted(self.read_parameters().items()):
            checksum.update(f"{name} {array.shape} {array.dtype}\0".encode())
            checksum.update(np.ascontiguousarray(array).data)
        return {**describe_export(export), "weights_sha256": checksum.hexdigest()}

    def _name_axes(self, request: ExportRequest) -> dict[str, str]:
        """Return the order of the axes of inputs that are images, by name: NCHW or NHWC.

        Where the second and the last axis may both be channels, nothing is said.
        """
        shapes: dict[str, Sequence[int | None]] = {
            spec.name: spec.shape for spec in self.describe_inputs() if spec.shape
        }
        given = {} if request.inputs is None else load_npz(Path(request.inputs))
        for arrays in (self.example_inputs() or {}, given):
            shapes |= {name: tuple(array.shape) for name, array in arrays.items()}
        shapes |= dict(request.shapes)
        found = {}
        for name, shape in shapes.items():
            if len(shape) == 4 and (shape[1] in (1, 3)) != (shape[3] in (1, 3)):
                found[name] = "NCHW" if shape[1] in (1, 3) else "NHWC"
        return found

    def save_parameters(self, *, path: str) -> None:
        """Write the floating weights to an `.npz` file, by name, in the framework's own axes."""
        save_npz(path, self.read_parameters())

    def load_parameters(self, *, path: str) -> None:
        """Set the weights of an `.npz` file of `save_parameters`; every bit is read back."""
        self.note_new_weights()
        self.write_parameters(load_npz(path))

    def note_new_weights(self) -> None:
        """Forget the copy of the model, which has the weights from before."""
        self._wide = None

    def run_graph(self, **arguments: Any) -> dict[str, Any]:
        """Capture the points of a run; `arguments` are the fields of `GraphRunRequest`.

        Raises `RequirementError` if the last output is on another device than was asked for.
        """
        request = GraphRunRequest.from_json(arguments)
        inputs = load_npz(request.inputs)
        model = self._find_copy(request.precision, request.device)
        if request.precision == "float64":
            inputs = {name: _widen(array) for name, array in inputs.items()}
        constants = None if request.constants is None else load_npz(request.constants)["values"]
        with (
            use_constants(constants),
            capture.CaptureWriter(Path(request.out), request.manifest) as writer,
            _open_feed(request.feed) as feed,
        ):

            def receive(point: TensorPoint, array: Array, canonical: Array) -> Array | None:
                if request.precision == "float64" and array.dtype.kind == "f":
                    _require_float64(point, array)
                writer.add(point.name, to_floating(canonical))
                return None if point.name in request.unfed else feed(point.name)

            result = self.run_tensors(
                inputs,
                {point.tensor for point in request.points},
                _make_hook(request.points, receive),
                model=model,
                device=request.device,
            )
        details = dict(result.details)
        proof = require_output_on(self.name, request.device, result.device)
        proof = {**proof, **details.pop("proof", {})}
        return {"seconds": result.seconds, **details, "proof": proof}

    def _find_copy(self, precision: str, device: str) -> Any:
        """Return the copy of the model for a run; None for the model itself.

        That in float64 on the CPU, which several runs use, is kept until the weights change, if its
        weights are no more than `MAX_WIDE` bytes in float32.
        """
        if (precision, device) == ("float32", "cpu"):
            return None
        if (precision, device) != ("float64", "cpu"):
            return self.copy_to_precision(precision, device)
        if self._wide is not None:
            return self._wide
        copy = self.copy_to_precision(precision, device)
        if sum(value.nbytes for value in self.read_parameters().values()) <= MAX_WIDE:
            self._wide = copy
        return copy

    def calibrate_norms(self, *, inputs: str, norms: list[dict[str, Any]], out: str) -> None:
        """Write the mean and variance of each batch norm's input to `out`, by parameter name.

        Each of `norms` has the ids "input" and "output", the channels' "axis", "epsilon", and the
        names of its weights: "mean" and "variance", and "gamma" and "beta" where it has them. All
        are measured in one run: the output of a norm is replaced by what it is with its new
        statistics, which the next one reads.
        """
        values = self.read_parameters()
        by_input = {norm["input"]: norm for norm in norms}
        by_output = {norm["output"]: norm for norm in norms}
        statistics: dict[str, Array] = {}
        seen: dict[str, Array] = {}

        def hook(tensor: str, array: Array) -> Array | None:
            replacement = None
            if tensor in by_output:
                norm = by_output[tensor]
                replacement = _normalise(seen.pop(norm["input"]), norm, values, statistics)
                replacement = replacement.astype(array.dtype).reshape(array.shape)
            if tensor in by_input:
                seen[tensor] = array if replacement is None else replacement
            return replacement

        model_inputs = load_npz(inputs)
        tensors = {norm["input"] for norm in norms} | {norm["output"] for norm in norms}
        self.run_tensors(model_inputs, tensors, hook)
        save_npz(out, statistics)

    def measure_floors(self, **arguments: Any) -> dict[str, Any]:
        """Return the float32 floors at the points; `arguments` are the fields of `FloorRequest`.

        With `whole`, "floors" are those of whole runs; with `isolate`, "isolated" are those of each
        part between two points that is given the reference's input.
        """
        request = FloorRequest.from_json(arguments)
        started = time.perf_counter()
        model = self.copy_to_precision("float32")
        values = {
            name: value
            for name, value in self.read_parameters(model=model).items()
            if request.weights is None or name in request.weights
        }
        inputs = load_npz(request.inputs)
        whole, isolated = floor.FloorAccumulator(), floor.FloorAccumulator()

        def perturb_all(replicate: int) -> tuple[Perturbation, dict[str, Array], dict[str, Array]]:
            perturbation = Perturbation.of_replicate(replicate, seed=request.seed)
            # The arrays are perturbed in one fixed order: they share a random generator.
            weights = {name: _perturb(perturbation, value) for name, value in values.items()}
            moved = {name: _perturb(perturbation, array) for name, array in inputs.items()}
            return perturbation, weights, moved

        with (
            capture.CaptureReader(Path(request.reference)) as expected,
            open_floor_helper() as helper,
        ):
            kept = _KeptTensors(expected)
            size = sum(value.nbytes for value in values.values())
            for perturbation, weights, moved in helper.prepare(
                perturb_all, range(request.replicates), size=size
            ):
                self.write_parameters(weights, model=model)
                if request.whole:
                    self._measure_replicate(request, moved, kept, helper, whole, model, None)
                if request.isolate:
                    self._measure_replicate(
                        request, moved, kept, helper, isolated, model, perturbation
                    )
            helper.finish()
        return {
            "floors": floor.to_json(whole.floors(request.terms)),
            "isolated": floor.to_json(isolated.floors(request.isolated_terms)),
            "seconds": time.perf_counter() - started,
        }

    def _measure_replicate(
        self,
        request: FloorRequest,
        inputs: Mapping[str, Array],
        expected: _KeptTensors,
        helper: FloorHelper,
        meter: floor.FloorAccumulator,
        model: Any,
        perturbation: Perturbation | None,
    ) -> None:
        """Run one replicate; with a perturbation each part reads the reference's input, moved."""

        def receive(point: TensorPoint, array: Array, canonical: Array) -> Array | None:
            reference = expected.read(point.name)
            if request.measured is None or point.name in request.measured:
                actual = to_floating(canonical)
                helper.measure(meter, point.name, actual=actual, expected=reference)
            if perturbation is None:
                return None
            if array.dtype.kind != "f":
                return reference
            return perturbation(reference.astype(np.float32))

        tensors = {point.tensor for point in request.points}
        self.run_tensors(inputs, tensors, _make_hook(request.points, receive), model=model)


def _read_shapes(path: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the shapes and dtypes of the arrays of an `.npz` file."""
    return {name: (array.shape, str(array.dtype)) for name, array in load_npz(path).items()}


class _KeptTensors:
    """Reads the tensors of a capture, of which the first ones are kept: every replicate reads all.

    `MAX_KEPT` bounds their bytes.
    """

    MAX_KEPT = 2**28

    def __init__(self, reader: capture.CaptureReader) -> None:
        self._reader = reader
        self._kept: dict[str, Array] = {}
        self._size = 0

    def read(self, name: str) -> Array:
        """Return a tensor, which must not be changed."""
        if name in self._kept:
            return self._kept[name]
        array = self._reader.read(name)
        if self._size + array.nbytes <= self.MAX_KEPT:
            self._kept[name] = array
            self._size += array.nbytes
        return array


def _normalise(
    array: Array, norm: Mapping[str, Any], values: Mapping[str, Array], statistics: dict[str, Array]
) -> Array:
    """Return a batch norm's output on `array`, by the batch's own statistics, which are kept."""
    axis = norm["axis"] % array.ndim
    others = tuple(other for other in range(array.ndim) if other != axis)
    wide = array.astype(np.float64)
    mean, variance = wide.mean(axis=others), wide.var(axis=others)
    # A constant channel, such as that of a dead ReLU, has no variance to divide by.
    variance = np.where(variance > 1e-12, variance, 1.0)
    statistics[norm["mean"]], statistics[norm["variance"]] = mean, variance
    shape = [1] * array.ndim
    shape[axis] = -1
    result = (wide - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + norm["epsilon"])
    if "gamma" in norm:
        result = result * values[norm["gamma"]].reshape(shape)
    if "beta" in norm:
        result = result + values[norm["beta"]].reshape(shape)
    return np.asarray(result)


def _make_hook(points: tuple[TensorPoint, ...], receive: Any) -> GraphHook:
    """Return the hook that gives each point its tensor in the reference's axes to `receive`.

    What `receive` returns, in the reference's axes, replaces the tensor.
    """
    by_tensor: dict[str, list[TensorPoint]] = {}
    for point in points:
        by_tensor.setdefault(point.tensor, []).append(point)

    def hook(tensor: str, array: Array) -> Array | None:
        replacement = None
        for point in by_tensor[tensor]:
            answer = receive(point, array, _apply(point, array))
            if answer is not None:
                replacement = _undo(point, answer, array)
        return replacement

    return hook


def _apply(point: TensorPoint, array: Array) -> Array:
    try:
        return point.apply(array)
    except ValueError as error:
        raise GraphError(
            f"{point.name}: its tensor of {array.shape} does not fit: {error}"
        ) from error


def _undo(point: TensorPoint, canonical: Array, own: Array) -> Array:
    """Return the reference's values with the shape and the dtype of the subject's own tensor.

    Where the number of values differs, nothing is replaced.
    """
    if canonical.size != own.size:
        return own
    moved = np.asarray(point.invert(canonical, own.shape), own.dtype, order="C")
    return moved.reshape(own.shape)


def to_floating(array: Array) -> Array:
    """Return a tensor in a dtype that captures hold; integers and booleans become float64."""
    if array.dtype in (np.float16, np.float32, np.float64):
        return array
    return array.astype(np.float64)


def _widen(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _perturb(perturbation: Perturbation, array: Array) -> Array:
    """Return a floating array as this replicate has it; integers are never moved."""
    return perturbation(array) if array.dtype == np.float32 else array


def _require_float64(point: TensorPoint, array: Array) -> None:
    if array.dtype != np.float64:
        raise PrecisionError(f"{point.name}: expected float64, computed in {array.dtype}")


@contextmanager
def _open_feed(path: str | None) -> Iterator[Any]:
    """Yield a function of a point's name that returns the reference's tensor there, or None."""
    if path is None:
        yield lambda name: None
        return
    with capture.CaptureReader(Path(path)) as reader:
        yield lambda name: reader.read(name) if name in reader else None
