"""What the children that hold a trainable model share: weights, captures and the reference."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError
from parity import files
from parity.errors import DeviceMemoryError, FlagError, InputError, ModelExportError
from parity.network import weights
from parity.network.architectures import from_json
from parity.network.table import LOGITS, LayerTable, Row
from parity.numerics import capture
from parity.processes.requests import RunRequest
from parity.runtimes.devices import batch_too_large, require_output_on, survey
from parity.runtimes.floors import FloorStudy, Sink, fed
from parity.runtimes.framework import Framework
from parity.version import __version__

Array = NDArray[Any]


class ModelRuntime(Framework):
    """One model of one framework, loaded once, run as often as asked.

    `Framework` says what a subclass provides; everything that must be the same for all of them is
    here.
    """

    def hello(self) -> dict[str, Any]:
        return hello(self.versions())

    def survey(self, *, device: str) -> dict[str, Any]:
        """The devices, and the flags of a float32 run; see `survey`."""
        return survey(self, device)

    def load(
        self, *, spec: dict[str, Any] | None = None, reference: str | None = None
    ) -> dict[str, Any]:
        """Build the registered twin of `spec`, or call `reference`."""
        started = time.perf_counter()
        self.spec = None if spec is None else from_json(spec)
        if reference is not None:
            self.model = self.call_reference(reference)
        else:
            assert self.spec is not None
            self.model = self.build(self.spec)
            self.table = self.spec.table()
        return {"seconds": time.perf_counter() - started}

    def use_table(self, *, table: dict[str, Any]) -> None:
        """Read layers by `table` from now on."""
        self.table = LayerTable.from_json(table)

    def assign(self, *, path: str, own: bool = False) -> dict[str, Any]:
        """Copy the canonical weights of `path` into the model and read every bit back.

        `path` has those of the whole table, or if they are the model's `own`, what `dump` wrote.
        """
        started = time.perf_counter()
        table = self.table.held_by(self.name) if own else self.table
        values = weights.load(Path(path), table)
        self.write_weights(values)
        return {"seconds": time.perf_counter() - started}

    def complete(self, *, table: dict[str, Any], input_shape: list[int]) -> dict[str, Any]:
        """Fill in the shapes and weights that a table written by hand leaves out."""
        self.table = LayerTable.from_json(table)
        shapes = {layer["row"]: tuple(layer["shape"]) for layer in self.layers(input_shape)}
        rows = [
            replace(
                row,
                shape=row.shape or shapes.get(row.name, ()),
                weights=row.weights or tuple(self.weights_of(row)),
            )
            for row in self.table.rows
        ]
        self.table = LayerTable(tuple(rows))
        return {"table": self.table.to_json()}

    def dump(self, *, path: str) -> dict[str, Any]:
        """Write the model's own weights, in canonical form."""
        values = self.read_weights()
        held = self.table.held_by(self.name)
        weights.check(values, held, source=f"the {self.name} model")
        weights.save(Path(path), values)
        return {"sha256": weights.digest(values)}

    def dump_rows(self, *, rows: list[dict[str, Any]], path: str) -> dict[str, Any]:
        """Write what layers of no table hold; the table of `rows`, completed, says what it is."""
        held = self.table
        try:
            asked = LayerTable.from_json({"rows": rows}).rows
            named = (replace(row, weights=tuple(self.weights_of(row))) for row in asked)
            self.table = LayerTable(tuple(named))
            weights.save(Path(path), self.read_weights())
            return {"table": self.table.to_json()}
        finally:
            self.table = held

    def read_checkpoint(self, *, spec: dict[str, Any], path: str, out: str) -> dict[str, Any]:
        """Bring a checkpoint of this framework into canonical form, complete or not at all."""
        table = from_json(spec).table()
        values, notes = self.checkpoint(Path(path), table)
        weights.check(values, table, source=path)
        weights.save(Path(out), values)
        return {"notes": list(notes)}

    def write_checkpoint(self, *, spec: dict[str, Any], source: str, path: str) -> dict[str, Any]:
        """Write canonical weights as a checkpoint of this framework."""
        self.load(spec=spec)
        values = weights.load(Path(source), self.table)
        self.write_weights(values)
        with files.atomic_write(path) as temporary:
            self.save_checkpoint(values, temporary)
        return {}

    def calibrate(self, *, source: str, target: str, data: str) -> dict[str, Any]:
        """Give `source`'s weights the batch-norm statistics of `data`, and save as `target`.

        The statistics are taken in float64 and rounded to a few bits, so that they do not depend
        on the framework or the machine that measured them.
        """
        values = weights.load(Path(source), self.table)
        model, set_weights = self.replica("float64")
        set_weights(values)
        for row, mean, variance in self.statistics(model, np.load(data)):
            by_role = {weight.role: weight.name for weight in row.weights}
            values[by_role["mean"]] = weights.round_statistics(mean)
            values[by_role["variance"]] = weights.round_statistics(variance)
        weights.save(Path(target), values)
        return {"sha256": weights.digest(values)}

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Capture rows in a precision, on a device; `arguments` are the fields of `RunRequest`.

        "flags" in the answer are those that were in force, "proof" shows where the work was done.
        """
        request = RunRequest.from_json(arguments)
        device, precision = request.device, request.precision
        flags = self.pin(precision, device, xla=request.xla)
        data = read_input(request.x)
        wanted = self.rows(request.rows)
        with self._on(precision, device) as model:

            def forward(batch: Array, sink: Sink, on: Sequence[Row]) -> float:
                return self.forward(batch, on, sink, model=model, device=device, xla=request.xla)

            with (
                capture.CaptureWriter(Path(request.out), request.manifest) as writer,
                fed(request.feed) as replacement,
            ):

                def sink(row: Row, array: Array) -> Array | None:
                    writer.add(row.name, array)
                    return replacement(row, array)

                try:
                    seconds = forward(data, sink, wanted)
                except Exception as error:
                    if not self.is_out_of_memory(error):
                        raise
                    raise batch_too_large(
                        self,
                        len(data),
                        device,
                        lambda count: forward(data[:count], lambda row, array: None, ()),
                    ) from error
            proof = require_output_on(self.name, device, self.where)
        return {"seconds": seconds, "flags": flags, "proof": proof}

    @contextmanager
    def _on(self, precision: str, device: str) -> Iterator[Any]:
        """The model for one run; what it took on the device is given back afterwards."""
        if device == "cpu" and precision == "float32":
            yield self.model
            return
        try:
            try:
                model = self.placed(precision, device)
            except Exception as error:
                if not self.is_out_of_memory(error):
                    raise
                raise DeviceMemoryError(
                    f"{self.name}: the {device} has too little memory for the model itself"
                ) from error
            yield model
            del model
        finally:
            self.release()

    def run_float64(
        self,
        *,
        x: str,
        rows: list[str],
        out: str,
        manifest: dict[str, Any],
        feed: str | None = None,
    ) -> dict[str, Any]:
        """Capture the rows of the model in float64, where rounding cannot hide a difference.

        `feed` is the reference's capture, as in `run`.
        """
        model = self.copied("float64")
        data = read_input(x).astype(np.float64)
        with capture.CaptureWriter(Path(out), manifest) as writer, fed(feed) as replacement:

            def sink(row: Row, array: Array) -> Array | None:
                writer.add(row.name, _wide(row, array))
                return replacement(row, array)

            seconds = self.forward(data, self.rows(rows), sink, model=model)
        return {"seconds": seconds}

    def reference(
        self,
        *,
        x: str,
        rows: list[str],
        out: str,
        manifest: dict[str, Any],
        replicates: int,
        seed: int,
        isolate: bool = False,
        accumulate: bool = True,
        plain: str | None = None,
        given: bool = False,
    ) -> dict[str, Any]:
        """Capture the rows in float64, and measure how far float32 rounding alone moves them.

        The first replicate is the model as it is; in the others every weight and the input are
        moved by up to one ulp (docs/design.md, "The verdict"). With `isolate`, "isolated" in the
        answer is the floor of each part between two rows that is given the reference's input;
        without `accumulate` it is the only one. Without `replicates` nothing is measured.
        `plain` is a capture of the same run as the first replicate, if there is one already, and
        `out` that of the rows in float64, if it is `given`.
        """
        started = time.perf_counter()
        data = read_input(x)
        wanted = self.rows(rows)
        values = self.read_weights()
        if not given:
            self._capture_float64(data, wanted, values, Path(out), manifest)
        if not replicates:
            return {"floors": {}, "isolated": {}, "seconds": time.perf_counter() - started}
        study = FloorStudy(self, data, wanted, values, Path(out), self.table)
        floors, isolated = study.measure(
            replicates,
            seed,
            isolate=isolate,
            plain=None if plain is None else Path(plain),
            accumulate=accumulate,
        )
        return {
            "floors": floors,
            "isolated": isolated,
            "seconds": time.perf_counter() - started,
        }

    def _capture_float64(
        self,
        data: Array,
        rows: Sequence[Row],
        values: Mapping[str, Array],
        out: Path,
        manifest: dict[str, Any],
    ) -> None:
        model, set_weights = self.replica("float64")
        set_weights(values)
        with capture.CaptureWriter(out, manifest) as writer:
            self.forward(
                data.astype(np.float64),
                rows,
                lambda row, array: writer.add(row.name, _wide(row, array)),
                model=model,
            )

    def export(
        self, *, path: str, opset: int | None, input_shape: list[int], names: dict[str, str]
    ) -> dict[str, Any]:
        """Trace the graph's structure, its weights named placeholders, into the file `path`."""
        started = time.perf_counter()
        with exporting(self.name):
            self.trace(opset=opset, input_shape=input_shape, names=names).save(Path(path))
        return {"seconds": time.perf_counter() - started}

    def export_model(
        self, *, path: str, opset: int | None, input_shape: list[int], names: dict[str, str]
    ) -> dict[str, Any]:
        """Export somebody's own model with the weights it has, unverified: a comparison follows."""
        from exporters import graph as onnx_graph

        started = time.perf_counter()
        with exporting(self.name):
            structure = self.trace(opset=opset, input_shape=input_shape, names=names)
            onnx_graph.write(onnx_graph.inject(structure, self.placeholders()), Path(path))
        return {"seconds": time.perf_counter() - started}

    def export_file(
        self,
        *,
        path: str,
        structure: str,
        opset: int | None,
        input_shape: list[int],
        names: dict[str, str],
        outputs: list[str],
        metadata: dict[str, str],
    ) -> dict[str, Any]:
        """Write the model as an ONNX file, verified; trace into `structure` if it is not there."""
        from exporters import graph as onnx_graph

        started = time.perf_counter()
        with exporting(self.name):
            if not Path(structure).exists():
                traced = self.trace(opset=opset, input_shape=input_shape, names=names)
                traced.save(Path(structure))
            tracing = time.perf_counter() - started
            done = self.export_to(
                Path(path),
                structure=onnx_graph.Structure.load(Path(structure)),
                input_shape=input_shape,
                tap_outputs=outputs,
                metadata=metadata,
            )
        return {
            "opset": done.opset,
            "seconds": {**done.seconds, "trace": tracing},
            "outputs": [LOGITS, *outputs],
            "checks": [asdict(check) for check in done.checks],
        }

    def describe(self, *, input_shape: list[int]) -> dict[str, Any]:
        """The model's layers and parameter count; `input_shape` is (C, H, W)."""
        layers = self.layers(input_shape)
        return {"layers": layers, "parameters": self.parameters()}

    def rows(self, names: Sequence[str]) -> list[Row]:
        return [self.table.by_name(name) for name in names]


def _wide(row: Row, array: Array) -> Array:
    """A tensor of a float64 run; raises `FlagError` if it was computed in less."""
    if array.dtype != np.float64:
        raise FlagError(f"{row.name}: asked for float64, computed in {array.dtype}")
    return array


@contextmanager
def exporting(side: str) -> Iterator[None]:
    """Say an exporter's errors as the user's."""
    try:
        yield
    except ExportError as error:
        raise ModelExportError(f"{side}: {error}") from error


def hello(versions: Mapping[str, str]) -> dict[str, Any]:
    """Who answers: versions of Python, of `parity` and of the runtime's packages."""
    return {
        "parity": __version__,
        "python": platform.python_version(),
        "versions": dict(versions),
    }


def read_input(path: str) -> Array:
    """The input array (N, C, H, W) that the parent has written."""
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    return array
