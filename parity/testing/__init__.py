"""`assert_parity`: in any test suite, that models of several frameworks are the same."""

from __future__ import annotations

import contextlib
import importlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parity.errors import InputError, UsageError
from parity.network import layouts
from parity.network.table import Depth, LayerTable, Row
from parity.numerics import floor, verdict
from parity.numerics.capture import CaptureReader, CaptureWriter
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import LIMIT, StageResult, SubjectResult, first_not_passing
from parity.processes import registry
from parity.report.wording import listed, number, times

if TYPE_CHECKING:
    from parity.runtimes.floors import Sink

__all__ = ["assert_parity"]

Array = NDArray[Any]

# Names no layer: the output of the whole model, whatever it is made of.
_OUTPUT = Row("output", "output", "identity", "", "", (), ())


class _Model(Protocol):
    """A model that can be run as it is."""

    def forward(self, x: Array, rows: Sequence[Row], sink: Sink) -> float: ...


def assert_parity(
    *,
    keras: Any = None,
    torch: Any = None,
    onnx: str | Path | None = None,
    input: ArrayLike,
    table: LayerTable | str | Path | None = None,
    depth: Depth = "stage",
    limit: float = LIMIT,
    seed: int = 0,
) -> None:
    """Raise AssertionError unless the models compute the same, up to float32 rounding.

    Give at least two of a `keras.Model`, a `torch.nn.Module` and the path of an ONNX file, at least
    one of them a model of a framework. Each is compared with a float64 copy of the PyTorch module,
    or of the Keras model where there is none, in units of the floor: what moving that model's
    weights and input by one ulp does in float32. A difference of up to `limit` floors is rounding.

    `input` is (N, C, H, W), or of any other rank; Keras gets images as (N, H, W, C). `table`, a
    layer table or its file, names the places at which to compare, at `depth`; without one the final
    outputs are. The models run in this process on the CPU in inference mode, and are not changed.
    """
    __tracebackhide__ = True
    data = _image(input)
    models = _live(keras=keras, torch=torch, onnx=onnx)
    layers = LayerTable.load(table) if isinstance(table, (str, Path)) else table
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        study = _Study(models, data, layers, Path(folder), limit, seed)
        stages = study.compare(depth)
        if _agrees(stages):
            return
        message = study.explain(stages, depth)
    raise AssertionError(message)


def _image(given: ArrayLike) -> Array:
    array = np.asarray(given)
    if array.dtype.kind not in "fiu" or array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"input: expected finite numbers, found {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _live(**given: Any) -> dict[str, Any]:
    """The models by name, each in what knows how to run it."""
    models: dict[str, Any] = {}
    for name in registry.reference_candidates():
        if given[name] is not None:
            # Whoever gives a model has imported its framework.
            module = importlib.import_module(f"parity.runtimes.{name}.live")
            models[name] = module.Live(given[name])
    if not models:
        raise UsageError("assert_parity: give a Keras model or a PyTorch module")
    if given["onnx"] is not None:
        from parity.runtimes.onnx import live as onnx_live

        models["onnx"] = onnx_live.Live(Path(given["onnx"]))
    if len(models) < 2:
        raise UsageError("assert_parity: give at least two of keras=, torch= and onnx=")
    return models


def _agrees(stages: Sequence[StageResult]) -> bool:
    """Whether something was compared, everything was, and all of it agrees."""
    results = [result for stage in stages for result in stage.subjects.values()]
    return bool(results) and all(result.status.passes for result in results)


@dataclass
class _Study:
    """The models, the input, and the captures that are made of them in `folder`."""

    models: Mapping[str, Any]
    data: Array
    table: LayerTable | None
    folder: Path
    limit: float
    seed: int

    @property
    def reference(self) -> str:
        return next(iter(self.models))

    def compare(self, depth: Depth) -> list[StageResult]:
        """Run every model and judge it at the comparison points of a depth."""
        if self.table is None:
            rows = [_OUTPUT]
            points = [ComparisonPoint("output", "output", "output", ())]
        else:
            rows = list(self.table.last_rows(depth).values())
            points = list(self.table.points(depth))
        exact, floors = self._reference(rows)
        with contextlib.ExitStack() as stack:
            subjects = {
                name: stack.enter_context(CaptureReader(self._run(name, model, rows)))
                for name, model in self.models.items()
            }
            stages = verdict.compare(
                reference=stack.enter_context(CaptureReader(exact)),
                floors=floors,
                subjects=subjects,
                points=points,
                limit=self.limit,
            )
            # A file of somebody else's has few tensors by the table's names.
            return [_without_absent(stage, subjects.get("onnx")) for stage in stages]

    def _reference(self, rows: Sequence[Row]) -> tuple[Path, dict[str, floor.Floor]]:
        """The float64 capture, and the floors: of copies moved by up to one ulp."""
        live = self.models[self.reference]
        path = self.folder / "reference.safetensors"
        model, _ = live.replica("float64")
        self._capture(
            path,
            "reference",
            lambda sink: live.forward(self.data.astype(np.float64), rows, sink, model=model),
        )
        meter = floor.FloorMeter()
        copy, set_weights = live.replica("float32")
        values = live.values()
        with CaptureReader(path) as expected:

            def sink(row: Row, array: Array) -> None:
                actual = _canonical(array)
                meter.add(row.name, actual=actual, expected=expected.read(row.name))

            for replicate in range(floor.REPLICATES):
                rng = np.random.Generator(np.random.SFC64([self.seed, replicate]))
                x = self.data
                if replicate:
                    moved = {name: floor.perturb(value, rng) for name, value in values.items()}
                    set_weights(moved)
                    x = floor.perturb(x, rng)
                live.forward(x, rows, sink, model=copy)
        return path, meter.result(self._sums())

    def _sums(self) -> Mapping[str, float]:
        """The sums that rows are made of, with the kernels that a table written by hand lacks."""
        if self.table is None:
            return {}
        live = self.models[self.reference]
        whole = [
            replace(row, weights=row.weights or tuple(live.weights_of(row)))
            for row in self.table.rows
        ]
        return LayerTable(tuple(whole)).equivalent_sum_terms()

    def _run(self, name: str, model: Any, rows: Sequence[Row]) -> Path:
        path = self.folder / f"{name}.safetensors"
        if name == "onnx" and self.table is not None:
            table = self.table
            held = model.held(rows, table)
            self._capture(
                path, name, lambda sink: model.forward(self.data, held, sink, table=table)
            )
        else:
            self._capture(path, name, lambda sink: model.forward(self.data, rows, sink))
        return path

    def _capture(self, path: Path, subject: str, run: Callable[[Sink], object]) -> None:
        with CaptureWriter(path, {"subject": subject}) as writer:
            run(lambda row, array: writer.add(row.name, _canonical(array)))

    # What is said when they differ --------------------------------------------------------------

    def explain(self, stages: Sequence[StageResult], depth: Depth) -> str:
        """The message: who differs, where first, by how much, and what to do next."""
        if self.table is not None and depth != "layer":
            # Few layers are looked at where nothing is wrong: this is asked for once.
            finer = self.compare("layer")
            stages = stages if _agrees(finer) else finer
        wrong = {name: first_not_passing(stages, name) for name in self.models}
        found = {name: stage for name, stage in wrong.items() if stage is not None}
        right = [name for name in self.models if name not in found]
        lines = [
            f"The models are not the same: {listed(found) or 'nothing'} "
            f"{'differ' if len(found) > 1 else 'differs'} from {self.reference} in float64 by more "
            f"than {self.limit:g}× the rounding floor."
        ]
        for name, stage in found.items():
            lines += ["", *self._told(name, stage)]
        if right:
            lines += ["", f"{listed(right)} agree{'s' if len(right) == 1 else ''}."]
        return "\n".join([*lines, "", *self._next()])

    def _told(self, name: str, stage: StageResult) -> Iterator[str]:
        result = stage.subjects[name]
        where = stage.name if stage.name == stage.row else f"{stage.name} ({stage.row})"
        yield f"{name}, first at {where}, shape {stage.shape}:"
        if result.message:
            yield f"  {result.message}"
        if stage.floor is None or not math.isfinite(result.rel_l2):
            if result.worst is not None:
                yield f"  First at index {result.worst}: {_values(result)}"
            return
        count, size = self._off(name, stage)
        yield f"  Mismatched elements: {count} / {size} ({100 * count / size:.1f}%)"
        yield (
            f"  Greatest absolute difference: {number(result.max_abs)} at index {result.worst}, "
            f"{_values(result)}"
        )
        yield (
            f"    {times(result.x_floor_max)} the floor of {number(stage.floor.max_abs)} (up to "
            f"{self.limit:g}× is rounding)"
        )
        yield (
            f"  Relative difference of the whole: {number(result.rel_l2)}, "
            f"{times(result.x_floor)} the floor of {number(stage.floor.rel_l2)}"
        )

    def _off(self, name: str, stage: StageResult) -> tuple[int, int]:
        """How many elements are further off than the limit allows, and how many there are."""
        assert stage.floor is not None
        with (
            CaptureReader(self.folder / "reference.safetensors") as exact,
            CaptureReader(self.folder / f"{name}.safetensors") as actual,
        ):
            apart = np.abs(actual.read(stage.row) - exact.read(stage.row))
        off = ~(apart <= self.limit * stage.floor.max_abs)
        return int(np.count_nonzero(off)), off.size

    def _next(self) -> Iterator[str]:
        yield "To look further:"
        if self.table is None:
            yield "  give table=, which pairs the layers, to see which one differs first"
        references = " ".join(
            f"--{name} MODULE:CALLABLE" for name in registry.model_runtimes() if name in self.models
        )
        yield f"  parity compare {references} --table FILE --isolate --html report.html"


def _without_absent(stage: StageResult, graph: CaptureReader | None) -> StageResult:
    if graph is None or stage.row in graph:
        return stage
    kept = {name: result for name, result in stage.subjects.items() if name != "onnx"}
    return StageResult(
        stage.name, stage.stage, stage.row, stage.shape, stage.floor, kept, stage.pairs
    )


def _values(result: SubjectResult) -> str:
    return f"{result.actual:.6g} instead of {result.expected:.6g}"


def _canonical(array: Array) -> Array:
    """Without trailing axes of length 1: a pooled (N, C, 1, 1) is (N, C) in other frameworks."""
    return layouts.drop_axes(array, 2)
