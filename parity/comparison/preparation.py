"""The preparation of one comparison: all work in the children until every subject has run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from parity.comparison.cache_entries import ComparisonCache, build_tap_names
from parity.comparison.identity import build_identity
from parity.comparison.pending import PendingValues
from parity.comparison.placement import Placement
from parity.comparison.request import OWN, Request, Side, runtime_of, side_of
from parity.comparison.runner import Progress, Runner
from parity.comparison.semantics import try_float64
from parity.comparison.state import Description, State, SubjectCapture, SubjectRun
from parity.comparison.stated_models import choose_preprocessing, read_stated_models
from parity.comparison.weight_source import WeightSource
from parity.errors import (
    SUBJECT_ERRORS,
    ChildError,
    IncompatibleWeightsError,
    ParityError,
    TableError,
)
from parity.network import inputs
from parity.network.table import LayerTable
from parity.processes import futures, registry
from parity.processes.cache import Cache
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.subjects import parse_child_name, runs_graph

T = TypeVar("T")


class Preparation:
    """Loads the models, copies the weights, exports the graphs and runs every subject once.

    `run` returns the `State`; `runner` sends further requests to the same children.
    """

    def __init__(
        self,
        request: Request,
        children: Children,
        folder: Path,
        progress: Progress,
        placement: Placement,
    ) -> None:
        self.request = request
        self.children = children
        self.folder = folder
        self.progress = progress
        self.placement = placement
        self.spec = request.spec
        self.entries = ComparisonCache(request, Cache(request.cache))
        self.pending = PendingValues()
        self._notes: list[str] = []
        self.weight_source = WeightSource(
            request, children, folder, self.entries, self.pending, progress
        )
        self.runner = Runner(
            request,
            children,
            folder,
            folder / "input.npy",
            placement.devices,
            self._manifest,
            progress,
            **({"run_lock": Lock()} if request.serial else {}),
        )
        self._lock = threading.Lock()
        self._subjects: dict[str, SubjectRun] = {}
        self._float64: dict[str, SubjectCapture | ParityError] = {}
        self._failures: dict[str, ParityError] = {}
        self._model_failures: dict[str, ParityError] = {}
        self._descriptions: dict[str, Description] = {}
        self._further_descriptions: dict[str, Description] = {}
        self._versions: dict[str, dict[str, str]] = {}
        if self.spec is not None or request.table is not None:
            table = request.layer_table
            if not request.model_references or all(row.shape for row in table.rows):
                futures.set_result_if_pending(self.pending.table, table)

    def run(self) -> State:
        """Run all tasks. Raises user errors; errors of runtimes are kept in the state."""
        self._find_cached_graphs()
        tasks: list[Callable[[], None]] = [self._prepare_input, self.weight_source.prepare]
        tasks += [partial(self._run_model_guarded, side) for side in self.request.sides]
        for subject in self.request.subjects:
            if runs_graph(subject):
                tasks.append(partial(self._run_guarded, subject, self._run_graph))
            elif not self.request.is_at_home(subject):
                tasks.append(partial(self._run_guarded, subject, self._run_further_model))
        with self.children.threads(len(tasks)) as pool:
            try:
                work = [pool.submit(task) for task in tasks]
                finished, _ = wait(work, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
            except BaseException as error:
                # Threads wait for children, for each other, and for tasks that an interruption kept
                # from starting: end all these waits.
                try:
                    self.children.kill()
                finally:
                    self.pending.fail_all(ChildError(f"stopped: {error}"))
                raise
        return self._state()

    def _state(self) -> State:
        pending = self.pending
        return State(
            request=self.request,
            placement=self.placement,
            folder=self.folder,
            input=pending.input.result(),
            table=_result_or_none(pending.table),
            weights=_result_or_none(pending.weights),
            weights_sha256=_result_or_none(pending.weights_sha256) or "",
            reference=_result_or_none(pending.reference),
            # In the order of the request, not of completion.
            subjects={n: self._subjects[n] for n in self.request.subjects if n in self._subjects},
            float64=self._float64,
            failures=self._failures,
            model_failures=self._model_failures,
            descriptions=self._descriptions,
            further_descriptions=self._further_descriptions,
            own_weights=self.weight_source.own_weights,
            graphs={
                side: future.result()
                for side, future in pending.graphs.items()
                if future.done() and future.exception() is None
            },
            versions=self._versions,
            notes=(*self._notes, *self.entries.cache.notes),
        )

    # Input and graphs -------------------------------------------------------------------------

    def _prepare_input(self) -> None:
        with futures.pass_errors_to(self.pending.input):
            size = self.request.image_size or (224, 224)
            shape = (self.request.channels or 3, *size)
            shape = self.spec.input_shape if self.spec is not None else shape
            stated = read_stated_models(self.request.graph_files)
            prepared, notes = choose_preprocessing(self.request.preprocess, stated)
            source = inputs.load(
                self.request.input,
                shape,
                batch=self.request.batch,
                seed=self.request.seed,
                preprocess=prepared,
            )
            if inputs.takes_preprocessing(self.request.input):
                self._notes += notes
            streams = self.request.needs_passes(source)
            items = inputs.split_into_passes(len(source.array))[0] if streams else slice(None)
            np.save(self.runner.input, source.array[items])
            futures.set_result_if_pending(self.pending.input, source)

    def _input_shape(self) -> list[int]:
        """Return the input's (C, H, W)."""
        return list(self.pending.input.result().array.shape[1:])

    def _rows(self) -> list[str]:
        """Return the rows of the comparison points."""
        return [point.row for point in self.pending.table.result().points(self.request.depth)]

    def _find_cached_graphs(self) -> None:
        """Use given graph files, and structures that an earlier run cached."""
        for side, future in self.pending.graphs.items():
            file = self.request.graph_file(side)
            if file is not None:
                futures.set_result_if_pending(future, file)
            elif self._needs_graph_of(side) and not self._has_own_graph(side):
                cached = self.entries.find_graph(side)
                if cached is not None:
                    futures.set_result_if_pending(future, cached)

    # The models of Keras and PyTorch -----------------------------------------------------------

    def _run_model(self, side: Side) -> None:
        """Load the framework's own model, export it, and run the subjects that it serves."""
        child = self._start_child(self.request.home_child(side))
        model_reference = self.request.model_references.get(side)
        load_seconds = self._load(side, child)
        shape = self._input_shape()
        self._complete_table(side, child, shape)
        if model_reference:
            child.call("use_table", table=self.pending.table.result().to_json())
        self.weight_source.provide(side, child)
        # A structure has no weights, so its subjects need not wait for the copy.
        with_weights = self._has_own_graph(side)
        if not with_weights:
            self._export(side, child, shape)
        if self.request.weight_source != OWN:
            self._copy_weights(side, child, shape)
        if with_weights:
            self._export(side, child, shape)
        self._descriptions[side] = child.call("describe", input_shape=shape)
        for subject, parts in self.request.subjects_by_name.items():
            if parts.kind == side and self.request.is_at_home(subject):
                self._run_subject(subject, load_seconds)
        if side == self.request.reference_side:
            self._run_reference(side)
        self.progress(side, "done")

    def _run_reference(self, side: Side) -> None:
        with futures.pass_errors_to(self.pending.reference):
            plain_run = self._subjects.get(self._find_plain_subject(side) or "")
            reference = self.runner.run_reference(
                self._rows(),
                "capture",
                isolate=self.request.isolate,
                plain_capture=None if plain_run is None else plain_run.capture,
            )
            futures.set_result_if_pending(self.pending.reference, reference)

    def _find_plain_subject(self, side: Side) -> str | None:
        """Return the subject that runs the reference's model in float32 on the CPU, or None."""
        if self.request.precision != "float32" or self.request.xla:
            return None
        for name, parts in self.request.subjects_by_name.items():
            on_cpu = self.placement.devices[name] == "cpu"
            if parts.kind == side and on_cpu and self.request.is_at_home(name):
                return name
        return None

    def _copy_weights(self, side: Side, child: Child, shape: list[int]) -> None:
        """Copy the weights into the model; a variant that they do not fit is still described."""
        self.progress(side, "copying weights")
        try:
            child.call("load_weights", path=str(self.pending.weights.result()))
        except TableError as error:
            if self.spec is None or not self.spec.exports_weights:
                raise
            self._descriptions[side] = child.call("describe", input_shape=shape)
            raise IncompatibleWeightsError(f"its weights cannot be copied: {error}") from error

    def _load(self, side: Side, child: Child) -> float:
        self.progress(child.name, "building the model")
        answer = child.call("load", **self.request.load_arguments(side))
        seconds: float = answer["seconds"]
        return seconds

    def _run_further_model(self, subject: str) -> None:
        """Load and run a model outside its home child: another backend or another environment."""
        child = self._start_child(self.request.child(subject))
        side = side_of(subject)
        seconds = self._load(side, child)
        table = self.pending.table.result()
        if self.request.model_references.get(side):
            child.call("use_table", table=table.to_json())
        self.progress(child.name, "copying weights")
        child.call("load_weights", path=str(self.pending.weights.result()))
        description = child.call("describe", input_shape=self._input_shape())
        self._further_descriptions[subject] = description
        self._run_subject(subject, seconds)
        self.progress(child.name, "done")

    def _complete_table(self, side: Side, child: Child, shape: list[int]) -> None:
        """Complete a hand-written table with the shapes and weights of the reference's model."""
        if self.pending.table.done() or side != self.request.reference_side:
            return
        with futures.pass_errors_to(self.pending.table):
            table = self.request.layer_table
            answer = child.call("complete_table", table=table.to_json(), input_shape=shape)
            futures.set_result_if_pending(self.pending.table, LayerTable.from_json(answer["table"]))

    # Graphs --------------------------------------------------------------------------------------

    def _export(self, side: Side, child: Child, shape: list[int]) -> None:
        """Export the graph of this side, if a subject runs it and it is not cached."""
        future = self.pending.graphs[side]
        if future.done() or not self._needs_graph_of(side):
            return
        with futures.pass_errors_to(future):
            own = self._has_own_graph(side)
            target = self.folder / f"{side}.onnx"
            self.progress(side, "exporting to ONNX")
            child.call(
                "export_model" if own else "export_structure",
                path=str(target),
                opset=self.request.opset,
                input_shape=shape,
                names=build_tap_names(self.pending.table.result(), side),
            )
            futures.set_result_if_pending(
                future, target if own else self.entries.store_graph(side, target)
            )

    def _needs_graph_of(self, side: Side) -> bool:
        return any(s.runs_graph and s.side == side for s in self.request.subjects_by_name.values())

    def _has_own_graph(self, side: Side) -> bool:
        """Whether this side's graph is exported with its model's weights."""
        variant = self.spec is not None and self.spec.exports_weights
        return side in self.request.model_references or variant

    def _run_graph(self, subject: str) -> None:
        child = self._start_child(self.request.child(subject))
        side = side_of(subject)
        graph = self.pending.graphs[side].result()
        table = self.pending.table.result()
        common = {"handle": subject, "table": table.to_json()}
        if self._has_own_graph(side) or self.request.graph_file(side) is not None:
            answer = child.call("load_file", path=str(graph), **common)
        else:
            path = str(self.pending.weights.result())
            answer = child.call(
                "load_structure", structure=str(graph), path=path, side=side, **common
            )
        self._run_subject(subject, answer["seconds"])

    # Subjects ------------------------------------------------------------------------------------

    def _run_subject(self, subject: str, load_seconds: float) -> None:
        result = self.runner.run_subject(subject, self._rows(), "capture")
        self._subjects[subject] = SubjectRun(
            capture=result.path,
            runtime=runtime_of(subject),
            versions=self._versions[self.request.child(subject)],
            seconds={"load": load_seconds, "run": result.facts["seconds"]},
            flags=result.facts.get("flags", {}),
            proof=result.facts.get("proof", {}),
            instrumentation_gap=result.facts.get("instrumentation_gap"),
        )
        if self.request.semantics and self.request.judge:
            self._run_float64(subject)

    def _run_float64(self, subject: str) -> None:
        """Run a subject in float64 while other subjects run; an error is kept in the state."""
        if subject == self.request.reference_side:
            return
        if runs_graph(subject):
            # A graph is evaluated by PyTorch, after the reference has run: until then the
            # processors are left to Keras, whose import takes longest.
            wait([self.pending.reference])
            if self.pending.reference.exception() is not None:
                # Without the reference there is nothing to compare with; the comparison ends.
                return
        table = self.pending.table.result()
        self._float64[subject] = try_float64(self.runner, subject, self._rows(), table)

    def _manifest(self, subject: str, child: str, precision: str) -> dict[str, Any]:
        self._start_child(child)
        return {
            "subject": subject,
            "runtime": self._versions[child],
            "device": self.placement.devices.get(subject, "cpu"),
            "precision": precision,
            **build_identity(
                model=self.request.name,
                weights_sha256=self.pending.weights_sha256.result(),
                input_sha256=self.pending.input.result().sha256,
            ),
        }

    def _start_child(self, runtime: str) -> Child:
        """Return the child, once it has answered with its versions."""
        child = self.children[runtime]
        with self._lock:
            is_known = runtime in self._versions
        if not is_known:
            self.progress(runtime, f"starting {registry.label(parse_child_name(runtime).runtime)}")
            hello = child.hello()
            self._versions[runtime] = {**hello["versions"], "python": hello["python"]}
        return child

    # Failures ------------------------------------------------------------------------------------

    def _run_guarded(self, subject: str, work: Callable[[str], None]) -> None:
        """Run a subject's task; the failure of its runtime ends this subject alone."""
        try:
            work(subject)
        except SUBJECT_ERRORS as error:
            self._failures[subject] = error
        except BaseException as error:
            self.pending.fail_all(error)
            raise

    def _run_model_guarded(self, side: Side) -> None:
        """Run a framework's task; its failure is set in the futures that depend on it."""
        try:
            self._run_model(side)
        except SUBJECT_ERRORS as error:
            self._model_failures[side] = error
            futures.set_error_if_pending(self.pending.graphs[side], error)
            if side == self.request.reference_side:
                self.pending.fail_reference_model_values(error)
        except BaseException as error:
            self.pending.fail_all(error)
            raise


def _result_or_none(future: Future[T]) -> T | None:
    """Return the value of a future, or None if it failed or was never set."""
    return future.result() if future.done() and future.exception() is None else None
