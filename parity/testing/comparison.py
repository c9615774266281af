"""A comparison of live models in the caller's process, from captures in a folder."""

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
from parity.network.arrays import split_complex
from parity.network.table import Depth, LayerTable, Row
from parity.numerics import floor, verdict
from parity.numerics.capture import CaptureReader, CaptureWriter
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import PointResult
from parity.processes import registry
from parity.runtimes.floors import Perturbation, iterate_replicates

if TYPE_CHECKING:
    from parity.runtimes.floors import TensorHook

Array = NDArray[Any]


def read_input(value: ArrayLike, name: str = "input") -> Array:
    """Return an input: floating numbers as float32, integers and booleans as they are.

    Raises `InputError` unless all numbers are finite.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"{name}: expected finite numbers, found {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32 if array.dtype.kind == "f" else None)


def wrap_models(**arguments: Any) -> dict[str, Any]:
    """Return the models that are not None by argument name, each in its `InProcessModel`.

    The reference comes first. Raises `UsageError` for fewer than two models.
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


def agree(stages: Sequence[PointResult]) -> bool:
    """Return whether anything was compared, and every result passes."""
    results = [result for stage in stages for result in stage.subjects.values()]
    return bool(results) and all(result.status.passes for result in results)


@dataclass
class InProcessComparison:
    """The models, their inputs (N, …) by name, and the captures of them in `folder`."""

    models: Mapping[str, Any]
    inputs: Mapping[str, Array]
    table: LayerTable | None
    folder: Path
    limit: float
    seed: int

    @property
    def data(self) -> Array:
        """The one floating input of models with a table; raises `UsageError` for several."""
        if len(self.inputs) != 1:
            raise UsageError("assert_parity: with table= the models have one input")
        (array,) = self.inputs.values()
        return array.astype(np.float32)

    @property
    def reference(self) -> str:
        """The model that the others are judged by, in float64."""
        return next(iter(self.models))

    def capture_path(self, subject: str) -> Path:
        """Return the file of a model's capture, or of the float64 "reference"."""
        return self.folder / f"{subject}.safetensors"

    def compare(self, depth: Depth) -> list[PointResult]:
        """Run every model and judge it at the comparison points of a depth."""
        if self.table is None:
            floors, points = self._run_outputs()
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
            return [_drop_missing_onnx(stage, subjects.get("onnx")) for stage in stages]

    def _run_outputs(self) -> tuple[dict[str, floor.Floor], list[ComparisonPoint]]:
        """Capture every model's outputs; return the floors and the points, one an output.

        Raises `UsageError` where a model has another number of outputs than the reference.
        """
        runner = self.models[self.reference]
        model, _ = runner.build_replica("float64")
        expected = runner.compute_outputs(_map_floating(self.inputs, _widen), model=model)
        self._save("reference", expected)
        meter = floor.FloorAccumulator()
        model, set_weights = runner.build_replica("float32")
        values = runner.read_values()
        for replicate in range(floor.REPLICATES):
            move = Perturbation.of_replicate(replicate, seed=self.seed)
            set_weights({name: move(value) for name, value in values.items()})
            # Integers are never moved: they would be other ids.
            found = runner.compute_outputs(_map_floating(self.inputs, move), model=model)
            for name, array in expected.items():
                meter.add(name, actual=_as_floating(found[name]), expected=_as_floating(array))
        for name, each in self.models.items():
            outputs = each.compute_outputs(self.inputs)
            self._save(name, _name_alike(outputs, expected, name, self.reference))
        points = [
            ComparisonPoint(name, name, name, array.shape[1:]) for name, array in expected.items()
        ]
        return meter.floors({}), points

    def _save(self, subject: str, outputs: Mapping[str, Array]) -> None:
        with CaptureWriter(self.capture_path(subject), {"subject": subject}) as writer:
            for name, array in outputs.items():
                writer.add(name, _drop_trailing_unit_axes(_as_floating(array)))

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

            def accumulate_error(row: Row, array: Array) -> None:
                actual = _drop_trailing_unit_axes(array)
                meter.add(row.name, actual=actual, expected=expected.read(row.name))

            for x, _ in iterate_replicates(
                runner.read_values(),
                self.data,
                set_weights,
                replicates=range(floor.REPLICATES),
                seed=self.seed,
            ):
                runner.forward(x, rows, accumulate_error, model=model)
        return meter.floors(self.sum_lengths())

    def sum_lengths(self) -> Mapping[str, float]:
        """Return the length of the longest sum up to each row, from the kernels' shapes.

        A table written by hand lacks the weights: they are the reference's.
        """
        runner = self.models[self.reference]
        rows = () if self.table is None else self.table.rows
        completed = [
            replace(row, weights=row.weights or tuple(runner.find_weights(row))) for row in rows
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
            run(lambda row, array: writer.add(row.name, _drop_trailing_unit_axes(array)))


def _map_floating(
    inputs: Mapping[str, Array], function: Callable[[Array], Array]
) -> dict[str, Array]:
    """Return the inputs by name, the floating ones replaced by the function of them."""
    return {n: function(each) if each.dtype.kind == "f" else each for n, each in inputs.items()}


def _widen(array: Array) -> Array:
    return array.astype(np.float64)


def _as_floating(array: Array) -> Array:
    """Return an output in a dtype that captures hold; integers and booleans become float64.

    Complex numbers become (..., 2), the real and the imaginary part.
    """
    array = split_complex(array)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _name_alike(
    outputs: Mapping[str, Array], expected: Mapping[str, Array], subject: str, reference: str
) -> dict[str, Array]:
    """Return outputs by the reference's names: their own where these are the same, else in order.

    Raises `UsageError` for another number of outputs.
    """
    if set(outputs) == set(expected):
        return dict(outputs)
    if len(outputs) != len(expected):
        raise UsageError(
            f"assert_parity: {subject} gives {len(outputs)} outputs, {reference} {len(expected)}: "
            f"{', '.join(outputs)} against {', '.join(expected)}"
        )
    return dict(zip(expected, outputs.values(), strict=True))


def _drop_missing_onnx(stage: PointResult, onnx_capture: CaptureReader | None) -> PointResult:
    """Return a stage's result, without the ONNX file's if the file lacks that tensor."""
    if onnx_capture is None or stage.row in onnx_capture:
        return stage
    subjects = {name: result for name, result in stage.subjects.items() if name != "onnx"}
    return PointResult(
        stage.name, stage.stage, stage.row, stage.shape, stage.floor, subjects, stage.pairs
    )


def _drop_trailing_unit_axes(array: Array) -> Array:
    """Drop trailing axes of length 1 until two are left: (N, C, 1, 1) to (N, C)."""
    return layouts.drop_axes(array, 2)
