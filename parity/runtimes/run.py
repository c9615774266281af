"""The operations that run a model: in one precision, in float64, and as the reference."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import DeviceMemoryError, InputError, PrecisionError
from parity.network.table import Row
from parity.numerics import capture, floor
from parity.processes.requests import RunRequest
from parity.runtimes.devices import report_batch_memory, require_output_on
from parity.runtimes.floors import FloorStudy, TensorHook, open_feed
from parity.runtimes.framework import ForwardResult
from parity.runtimes.load import LoadOperations

Array = NDArray[Any]


class RunOperations(LoadOperations):
    """Runs the loaded model and writes captures."""

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Capture rows in a precision, on a device; `arguments` are the fields of `RunRequest`.

        "flags" in the answer are the flags in force, "proof" shows the device of the output.
        """
        request = RunRequest.from_json(arguments)
        device, precision = request.device, request.precision
        flags = self.pin_flags(precision, device, xla=request.xla)
        data = read_input(request.x)
        rows = self.find_rows(request.rows)
        with self._model_on(precision, device) as model:

            def forward(batch: Array, hook: TensorHook, rows: Sequence[Row]) -> ForwardResult:
                return self.forward(batch, rows, hook, model=model, device=device, xla=request.xla)

            def attempt(count: int) -> None:
                forward(data[:count], lambda row, array: None, ())

            with (
                capture.CaptureWriter(Path(request.out), request.manifest) as writer,
                open_feed(request.feed) as feed,
                report_batch_memory(self, len(data), device, attempt),
            ):

                def hook(row: Row, array: Array) -> Array | None:
                    writer.add(row.name, array)
                    return feed(row, array)

                result = forward(data, hook, rows)
            proof = require_output_on(self.name, device, result.device)
        return {"seconds": result.seconds, "flags": flags, "proof": proof}

    @contextmanager
    def _model_on(self, precision: str, device: str) -> Iterator[Any]:
        """Yield the model in a precision on a device; free its memory afterwards."""
        if device == "cpu" and precision == "float32":
            yield self.model
            return
        try:
            try:
                model = self.copy_to_device(precision, device)
            except Exception as error:
                if not self.is_out_of_memory(error):
                    raise
                raise DeviceMemoryError(
                    f"{self.name}: the {device} has too little memory for the model itself"
                ) from error
            yield model
            del model
        finally:
            self.release_memory()

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

        `feed` is a capture of the reference, as in `RunRequest`.
        """
        model = self.copy_model("float64")
        data = read_input(x).astype(np.float64)
        with capture.CaptureWriter(Path(out), manifest) as writer, open_feed(feed) as feed_row:

            def hook(row: Row, array: Array) -> Array | None:
                writer.add(row.name, _require_float64(row, array))
                return feed_row(row, array)

            result = self.forward(data, self.find_rows(rows), hook, model=model)
        return {"seconds": result.seconds}

    def run_reference(
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
        plain_capture: str | None = None,
        reuse_float64: bool = False,
    ) -> dict[str, Any]:
        """Capture the rows in float64 to `out`, and measure their float32 rounding floors.

        "floors" in the answer are those of whole runs, absent without `accumulate`; with `isolate`,
        "isolated" are those of each part between two rows that is fed the reference's input.
        Without `replicates` there are none. `plain_capture` is a capture of the same run as the
        first replicate, if there is one. With `reuse_float64`, `out` is there already.
        """
        started = time.perf_counter()
        data = read_input(x)
        points = self.find_rows(rows)
        values = self.read_weights()
        if not reuse_float64:
            self._capture_float64(data, points, values, Path(out), manifest)
        accumulated: Mapping[str, floor.Floor] = {}
        isolated: Mapping[str, floor.Floor] = {}
        if replicates:
            study = FloorStudy(self, data, points, values, Path(out), self.table)
            accumulated, isolated = study.measure(
                replicates,
                seed,
                isolate=isolate,
                plain_capture=None if plain_capture is None else Path(plain_capture),
                accumulate=accumulate,
            )
        return {
            "floors": floor.to_json(accumulated),
            "isolated": floor.to_json(isolated),
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
        model, set_weights = self.build_replica("float64")
        set_weights(values)
        with capture.CaptureWriter(out, manifest) as writer:
            self.forward(
                data.astype(np.float64),
                rows,
                lambda row, array: writer.add(row.name, _require_float64(row, array)),
                model=model,
            )


def _require_float64(row: Row, array: Array) -> Array:
    """Return a tensor of a float64 run; raises `PrecisionError` for one of another dtype."""
    if array.dtype != np.float64:
        raise PrecisionError(f"{row.name}: expected float64, computed in {array.dtype}")
    return array


def read_input(path: str) -> Array:
    """Read the input (N, C, H, W) that the parent has written; raises `InputError`."""
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    return array
