"""One comparison of models in the caller's process, from captures in a folder."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parity.errors import InputError, UsageError
from parity.network import layouts
from parity.network.table import Depth, LayerTable, Row
from parity.numerics import floor, verdict
from parity.numerics.capture import CaptureReader, CaptureWriter
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import StageResult
from parity.processes import registry
from parity.runtimes.floors import iterate_replicates

if TYPE_CHECKING:
    from parity.runtimes.floors import TensorHook

Array = NDArray[Any]

# Names no layer: the output of the whole model, whatever it is made of.
_OUTPUT = Row("output", "output", "identity", "", "", (), ())


def read_input(value: ArrayLike) -> Array:
    """Return the input as a float32 array; raises `InputError` unless all numbers are finite."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"input: expected finite numbers, found {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32)


def find_models(**arguments: Any) -> dict[str, Any]:
    """Return the runtimes' `InProcessModel`s of `assert_parity`'s models by name.

    The reference comes first. Raises `UsageError` for too few models.
    """
    models: dict[str, Any] = {}
    for name in registry.reference_candidates():
        if arguments[name] is not None:
            # Whoever has a model has imported its framework.
            module = importlib.import_module(f"parity.runtimes.{name}.in_process")
            models[name] = module.InProcessModel(arguments[name])
    if not models:
        raise UsageError("assert_parity: give a Keras model or a PyTorch module")
    if arguments["onnx"] is not None:
        from parity.runtimes.onnx import in_process as onnx_in_process

        models["onnx"] = onnx_in_process.InProcessModel(Path(arguments["onnx"]))
    if len(models) < 2:
        raise UsageError("assert_parity: give at least two of keras=, torch= and onnx=")
    return models


def agree(stages: Sequence[StageResult]) -> bool:
    """Return whether anything was compared, and every result passes."""
    results = [result for stage in stages for result in stage.subjects.values()]
    return bool(results) and all(result.status.passes for result in results)


@dataclass
class Study:
    """The models, the input (N, …), and the captures that are made of them in `folder`."""

    models: Mapping[str, Any]
    data: Array
    table: LayerTable | None
    folder: Path
    limit: float
    seed: int

    @property
    def reference(self) -> str:
        """The model that the others are judged by, in float64."""
        return next(iter(self.models))

    def capture_path(self, subject: str) -> Path:
        """Return the file of a model's capture, or of the float64 "reference"."""
        return self.folder / f"{subject}.safetensors"

    def compare(self, depth: Depth) -> list[StageResult]:
        """Run every model and judge it at the comparison points of a depth."""
        if self.table is None:
            rows = [_OUTPUT]
            points = [ComparisonPoint("output", "output", "output", ())]
        else:
            rows = list(self.table.last_rows(depth).values())
            points = list(self.table.points(depth))
        floors = self._run_reference(rows)
        for name, model in self.models.items():
            self._run(name, model, rows)
        with contextlib.ExitStack() as stack:
            subjects = {
                name: stack.enter_context(CaptureReader(self.capture_path(name)))
                for name in self.models
            }
            stages = verdict.compare_captures(
                reference=stack.enter_context(CaptureReader(self.capture_path("reference"))),
                floors=floors,
                subjects=subjects,
                points=points,
                limit=self.limit,
            )
            # A user's own file has few tensors by the table's names.
            return [_without_missing(stage, subjects.get("onnx")) for stage in stages]

    def _run_reference(self, rows: Sequence[Row]) -> dict[str, floor.Floor]:
        """Capture the reference in float64, and return the floors of its float32 replicates."""
        runner = self.models[self.reference]
        model, _ = runner.build_replica("float64")
        self._capture(
            "reference",
            lambda hook: runner.forward(self.data.astype(np.float64), rows, hook, model=model),
        )
        meter = floor.FloorAccumulator()
        model, set_weights = runner.build_replica("float32")
        with CaptureReader(self.capture_path("reference")) as expected:

            def hook(row: Row, array: Array) -> None:
                actual = _drop_unit_axes(array)
                meter.add(row.name, actual=actual, expected=expected.read(row.name))

            for x, _ in iterate_replicates(
                runner.read_values(),
                self.data,
                set_weights,
                replicates=range(floor.REPLICATES),
                seed=self.seed,
            ):
                runner.forward(x, rows, hook, model=model)
        return meter.floors(self.sum_lengths())

    def sum_lengths(self) -> Mapping[str, float]:
        """Return the length of the longest sum up to each row, from the kernels' shapes.

        A table written by hand lacks the weights: they are the reference's.
        """
        if self.table is None:
            return {}
        runner = self.models[self.reference]
        completed = [
            replace(row, weights=row.weights or tuple(runner.find_weights(row)))
            for row in self.table.rows
        ]
        return LayerTable(tuple(completed)).equivalent_sum_terms()

    def _run(self, name: str, model: Any, rows: Sequence[Row]) -> None:
        """Capture a model's tensors of the rows; of a file, those that it has."""
        options: dict[str, Any] = {}
        if name == "onnx" and self.table is not None:
            rows = model.find_rows(rows, self.table)
            options = {"table": self.table}
        self._capture(name, lambda hook: model.forward(self.data, rows, hook, **options))

    def _capture(self, subject: str, run: Callable[[TensorHook], object]) -> None:
        with CaptureWriter(self.capture_path(subject), {"subject": subject}) as writer:
            run(lambda row, array: writer.add(row.name, _drop_unit_axes(array)))


def _without_missing(stage: StageResult, graph: CaptureReader | None) -> StageResult:
    """Return a stage's result, without the ONNX file's if the file lacks that tensor."""
    if graph is None or stage.row in graph:
        return stage
    subjects = {name: result for name, result in stage.subjects.items() if name != "onnx"}
    return StageResult(
        stage.name, stage.stage, stage.row, stage.shape, stage.floor, subjects, stage.pairs
    )


def _drop_unit_axes(array: Array) -> Array:
    """Drop trailing axes of length 1: a pooled (N, C, 1, 1) is (N, C) in other frameworks."""
    return layouts.drop_axes(array, 2)
