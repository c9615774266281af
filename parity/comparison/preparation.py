"""One comparison's work in the children, side by side, until every subject has run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from parity.comparison.cache_entries import Kept, tap_names
from parity.comparison.pending import Pending
from parity.comparison.placement import Placement
from parity.comparison.request import OWN, Request, Side, runtime_of, side_of
from parity.comparison.runner import Progress, Runner
from parity.comparison.semantics import try_float64
from parity.comparison.state import Description, State, SubjectCapture, SubjectRun
from parity.comparison.weight_source import WeightSource
from parity.errors import (
    ChildError,
    DeviceMemoryError,
    FlagError,
    IncompatibleWeightsError,
    MissingRuntimeError,
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

UNAVAILABLE = (MissingRuntimeError, ChildError, DeviceMemoryError, FlagError)
"""The errors that end one subject and leave the others."""


class Preparation:
    """Loads the models, copies the weights, exports the graphs and runs every subject once.

    `run` gives the `State`, and `runner` asks the same children for more.
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
        self.entries = Kept(request, Cache(request.cache))
        self.pending = Pending()
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
            **({"turn": Lock()} if request.serial else {}),
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
            if not request.references or all(row.shape for row in table.rows):
                self.pending.table.set_result(table)

    def run(self) -> State:
        """Do all the work; raises the user's errors, keeps the runtimes' in the state."""
        self._find_graphs()
        tasks: list[Callable[[], None]] = [self._prepare_input, self.weight_source.prepare]
        tasks += [partial(self._guard_model, side) for side in self.request.sides]
        for subject in self.request.subjects:
            if runs_graph(subject):
                tasks.append(partial(self._guard, subject, self._run_graph))
            elif not self.request.is_at_home(subject):
                tasks.append(partial(self._guard, subject, self._run_further_model))
        with self.children.threads(len(tasks)) as pool:
            try:
                work = [pool.submit(task) for task in tasks]
                done, _ = wait(work, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException as error:
                # Threads wait for children and for one another, and for tasks that an interruption
                # has kept from being handed out: end all these waits.
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
            table=_result(pending.table),
            weights=_result(pending.weights),
            weights_sha256=_result(pending.weights_sha256) or "",
            reference=_result(pending.reference),
            # In the order in which they were asked for, not in which they finished.
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
            notes=tuple(self.entries.cache.notes),
        )

    # What everybody needs --------------------------------------------------------------------

    def _prepare_input(self) -> None:
        with futures.pass_errors_to(self.pending.input):
            size = self.request.image_size or (224, 224)
            shape = (self.request.channels or 3, *size)
            shape = self.spec.input_shape if self.spec is not None else shape
            loaded = inputs.load(
                self.request.input, shape, batch=self.request.batch, seed=self.request.seed
            )
            streams = self.request.streams(loaded)
            items = inputs.passes(len(loaded.array))[0] if streams else slice(None)
            np.save(self.runner.input, loaded.array[items])
            self.pending.input.set_result(loaded)

    def _input_shape(self) -> list[int]:
        """The input's (C, H, W)."""
        return list(self.pending.input.result().array.shape[1:])

    def _rows(self) -> list[str]:
        """The rows at which everything is compared."""
        return [point.row for point in self.pending.table.result().points(self.request.depth)]

    def _find_graphs(self) -> None:
        """Take the structures that an earlier run left behind."""
        for side, future in self.pending.graphs.items():
            given = self.request.graph_file(side)
            if given is not None:
                future.set_result(given)
            elif self._needs_graph_of(side) and not self._has_own_graph(side):
                held = self.entries.graph(side)
                if held is not None:
                    future.set_result(held)

    # The models of Keras and PyTorch -----------------------------------------------------------

    def _run_model(self, side: Side) -> None:
        """Load the framework's own model, export it, and run the subjects that it serves."""
        child = self._meet(self.request.home(side))
        reference = self.request.references.get(side)
        load_seconds = self._load(side, child)
        shape = self._input_shape()
        self._complete_table(side, child, shape)
        if reference:
            child.call("use_table", table=self.pending.table.result().to_json())
        self.weight_source.give(side, child)
        # A structure has no weights: whoever runs that need not wait for them here.
        with_weights = self._has_own_graph(side)
        if not with_weights:
            self._export(side, child, shape)
        if self.request.weight_source != OWN:
            self._copy_weights(side, child, shape)
        if with_weights:
            self._export(side, child, shape)
        self._descriptions[side] = child.call("describe", input_shape=shape)
        for subject, found in self.request.parsed.items():
            if found.kind == side and self.request.is_at_home(subject):
                self._run_subject(subject, load_seconds)
        if side == self.request.reference_side:
            self._run_reference(side)
        self.progress(side, "done")

    def _run_reference(self, side: Side) -> None:
        with futures.pass_errors_to(self.pending.reference):
            same = self._subjects.get(self._plain_subject(side) or "")
            reference = self.runner.run_reference(
                self._rows(),
                "capture",
                isolate=self.request.isolate,
                plain=None if same is None else same.capture,
            )
            self.pending.reference.set_result(reference)

    def _plain_subject(self, side: Side) -> str | None:
        """The subject that is the reference's own model in float32 on the CPU, if there is one."""
        if self.request.precision != "float32" or self.request.xla:
            return None
        for name, found in self.request.parsed.items():
            on_cpu = self.placement.devices[name] == "cpu"
            if found.kind == side and on_cpu and self.request.is_at_home(name):
                return name
        return None

    def _copy_weights(self, side: Side, child: Child, shape: list[int]) -> None:
        """Give the model its weights; a variant that they do not fit is described all the same."""
        self.progress(side, "copying weights")
        try:
            child.call("assign", path=str(self.pending.weights.result()))
        except TableError as error:
            if self.spec is None or not self.spec.own_graphs:
                raise
            self._descriptions[side] = child.call("describe", input_shape=shape)
            raise IncompatibleWeightsError(f"its weights cannot be copied: {error}") from error

    def _load(self, side: Side, child: Child) -> float:
        reference = self.request.references.get(side)
        spec = None if reference or self.spec is None else self.spec.to_json()
        self.progress(child.name, "building the model")
        seconds: float = child.call("load", spec=spec, reference=reference)["seconds"]
        return seconds

    def _run_further_model(self, subject: str) -> None:
        """A model beside the one at home: of another backend, or in another environment."""
        child = self._meet(self.request.child(subject))
        side = side_of(subject)
        seconds = self._load(side, child)
        table = self.pending.table.result()
        if self.request.references.get(side):
            child.call("use_table", table=table.to_json())
        self.progress(child.name, "copying weights")
        child.call("assign", path=str(self.pending.weights.result()))
        description = child.call("describe", input_shape=self._input_shape())
        self._further_descriptions[subject] = description
        self._run_subject(subject, seconds)
        self.progress(child.name, "done")

    def _complete_table(self, side: Side, child: Child, shape: list[int]) -> None:
        """Ask the reference's model for the shapes and weights that a hand-written table omits."""
        if self.pending.table.done() or side != self.request.reference_side:
            return
        with futures.pass_errors_to(self.pending.table):
            table = self.request.layer_table
            full = child.call("complete", table=table.to_json(), input_shape=shape)
            self.pending.table.set_result(LayerTable.from_json(full["table"]))

    # Graphs --------------------------------------------------------------------------------------

    def _export(self, side: Side, child: Child, shape: list[int]) -> None:
        """Trace the graph of this side, if a subject runs it and no earlier run left it behind."""
        future = self.pending.graphs[side]
        if future.done() or not self._needs_graph_of(side):
            return
        with futures.pass_errors_to(future):
            own = self._has_own_graph(side)
            target = self.folder / f"{side}.onnx"
            self.progress(side, "exporting to ONNX")
            child.call(
                "export_model" if own else "export",
                path=str(target),
                opset=self.request.opset,
                input_shape=shape,
                names=tap_names(self.pending.table.result(), side),
            )
            future.set_result(target if own else self.entries.keep_graph(side, target))

    def _needs_graph_of(self, side: Side) -> bool:
        return any(s.runs_graph and s.side == side for s in self.request.parsed.values())

    def _has_own_graph(self, side: Side) -> bool:
        """Whether the graph of this side is exported with the weights of its model."""
        variant = self.spec is not None and self.spec.own_graphs
        return side in self.request.references or variant

    def _run_graph(self, subject: str) -> None:
        child = self._meet(self.request.child(subject))
        side = side_of(subject)
        graph = self.pending.graphs[side].result()
        table = self.pending.table.result()
        common = {"handle": subject, "table": table.to_json()}
        if self._has_own_graph(side) or self.request.graph_file(side) is not None:
            answer = child.call("read", path=str(graph), **common)
        else:
            path = str(self.pending.weights.result())
            answer = child.call("load", structure=str(graph), path=path, side=side, **common)
        self._run_subject(subject, answer["seconds"])

    # Subjects ------------------------------------------------------------------------------------

    def _run_subject(self, subject: str, load_seconds: float) -> None:
        done = self.runner.run_subject(subject, self._rows(), "capture")
        self._subjects[subject] = SubjectRun(
            capture=done.path,
            runtime=runtime_of(subject),
            versions=self._versions[self.request.child(subject)],
            seconds={"load": load_seconds, "run": done.facts["seconds"]},
            flags=done.facts.get("flags", {}),
            proof=done.facts.get("proof", {}),
            instrumentation_gap=done.facts.get("instrumentation_gap"),
        )
        if self.request.semantics and self.request.judged:
            self._run_float64(subject)

    def _run_float64(self, subject: str) -> None:
        """Run a subject in float64 too, while the others still work; an error is kept."""
        if subject == self.request.reference_side:
            return
        if runs_graph(subject):
            # A graph is read into PyTorch, which has the reference to run first: until then the
            # processors are Keras's, whose import takes longest.
            wait([self.pending.reference])
            if self.pending.reference.exception() is not None:
                # Without it there is nothing to compare with, and that ends the comparison.
                return
        table = self.pending.table.result()
        self._float64[subject] = try_float64(self.runner, subject, self._rows(), table)

    def _manifest(self, subject: str, child: str, precision: str) -> dict[str, Any]:
        self._meet(child)
        return {
            "subject": subject,
            "model": self.request.name,
            "runtime": self._versions[child],
            "device": self.placement.devices.get(subject, "cpu"),
            "precision": precision,
            "weights_sha256": self.pending.weights_sha256.result(),
            "input_sha256": self.pending.input.result().sha256,
        }

    def _meet(self, runtime: str) -> Child:
        """The child, once it has answered with its versions."""
        child = self.children[runtime]
        with self._lock:
            known = runtime in self._versions
        if not known:
            self.progress(runtime, f"starting {registry.label(parse_child_name(runtime).runtime)}")
            hello = child.hello()
            self._versions[runtime] = {**hello["versions"], "python": hello["python"]}
        return child

    # Failures ------------------------------------------------------------------------------------

    def _guard(self, subject: str, work: Callable[[str], None]) -> None:
        """Do a subject's work; a runtime that cannot be had ends it, not the others'."""
        try:
            work(subject)
        except UNAVAILABLE as error:
            self._failures[subject] = error
        except BaseException as error:
            self.pending.fail_all(error)
            raise

    def _guard_model(self, side: Side) -> None:
        """Do a framework's work; if it cannot be had, whoever waits for it gets the error."""
        try:
            self._run_model(side)
        except UNAVAILABLE as error:
            self._model_failures[side] = error
            futures.set_error_if_pending(self.pending.graphs[side], error)
            if side == self.request.reference_side:
                self.pending.fail_reference(error)
        except BaseException as error:
            self.pending.fail_all(error)
            raise


def _result(future: Future[T]) -> T | None:
    """The value of a future that is done; None where it failed or was never set."""
    return future.result() if future.done() and future.exception() is None else None
