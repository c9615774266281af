"""One comparison's work in the children: who waits for what, and what each subject produced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from parity.comparison import flow_weights
from parity.comparison.cache_entries import Kept, tap_names
from parity.comparison.captures import Captures, Progress, Reference, SubjectCapture, SubjectRun
from parity.comparison.placement import Placement
from parity.comparison.request import OWN, Request, Side, runtime_of, side_of
from parity.errors import (
    ChildError,
    DeviceMemory,
    FlagError,
    ParityError,
    RuntimeMissing,
    TableError,
    WeightsRefused,
)
from parity.network import inputs
from parity.network.inputs import Input
from parity.network.table import LayerTable
from parity.processes import cache, registry
from parity.processes import futures as promises
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.subjects import parse_child_name, runs_graph

T = TypeVar("T")


class Flow:
    """The state of one comparison while its children work side by side.

    Whatever one part of the work owes another is a future; a part that fails hands its error to
    all who wait for it, so nobody waits for what will never come.
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
        self.precisions = dict.fromkeys(request.subjects, request.judge_as or request.precision)
        self.spec = request.spec
        self.kept = Kept(request, folder)
        self.sides = request.sides
        self.table: Future[LayerTable] = Future()
        self.input: Future[Input] = Future()
        self.weights: Future[Path] = Future()
        self.digest: Future[str] = Future()
        self.raw_weights: Future[Path] = Future()
        self.graphs: dict[Side, Future[Path]] = {
            side: Future() for side in registry.model_runtimes()
        }
        self.reference: Future[Reference] = Future()
        self.subjects: dict[str, SubjectRun] = {}
        self.float64: dict[str, SubjectCapture | ParityError] = {}
        self.failures: dict[str, ParityError] = {}
        self.side_failures: dict[str, ParityError] = {}
        self.descriptions: dict[str, dict[str, Any]] = {}
        self.further_descriptions: dict[str, dict[str, Any]] = {}
        self.own_weights: dict[Side, Path] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        self.captures = Captures(
            request, children, folder, self._manifest, progress, placement.devices
        )
        self._lock = threading.Lock()
        if self.spec is not None or request.table is not None:
            table = request.layer_table
            if not request.references or all(row.shape for row in table.rows):
                self.table.set_result(table)

    # The whole -------------------------------------------------------------------------------

    def execute(self) -> None:
        """Do all the work; raises the user's errors, keeps the runtimes' in `failures`."""
        self._find_graphs()
        tasks: list[Callable[[], None]] = [self._prepare_input, partial(flow_weights.prepare, self)]
        tasks += [partial(self._guard_side, side) for side in self.sides]
        for subject in self.request.subjects:
            if runs_graph(subject):
                tasks.append(partial(self._guard, subject, self._graph_flow))
            elif not self._at_home(subject):
                tasks.append(partial(self._guard, subject, self._further_flow))
        with self.children.threads(len(tasks)) as pool:
            try:
                futures = [pool.submit(task) for task in tasks]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException as error:
                # Threads wait for children and for one another, and for tasks that an interruption
                # has kept from being handed out: end all these waits.
                try:
                    self.children.kill()
                finally:
                    self._abandon(ChildError(f"stopped: {error}"))
                raise
        # In the order in which they were asked for, not in which they finished.
        done_runs = self.subjects
        self.subjects = {n: done_runs[n] for n in self.request.subjects if n in done_runs}

    # What everybody needs --------------------------------------------------------------------

    def _prepare_input(self) -> None:
        with promises.pass_errors_to(self.input):
            size = self.request.image_size or (224, 224)
            shape = (self.request.channels or 3, *size)
            shape = self.spec.input_shape if self.spec is not None else shape
            loaded = inputs.load(
                self.request.input, shape, batch=self.request.batch, seed=self.request.seed
            )
            items = inputs.passes(len(loaded.array))[0] if self._streams(loaded) else slice(None)
            np.save(self.folder / "input.npy", loaded.array[items])
            self.input.set_result(loaded)

    def _streams(self, loaded: Input) -> bool:
        # Captures that are kept are files of whole batches.
        alone = not self.request.judged or self.request.save_captures is not None
        return loaded.kind == "folder" and len(loaded.array) > inputs.PASS and not alone

    @property
    def in_passes(self) -> bool:
        """Whether the captures so far are of the first items only."""
        return self._streams(self.input.result())

    @property
    def items(self) -> int:
        """How many items the input has, in all passes together."""
        return len(self.input.result().array)

    # Keras and PyTorch -----------------------------------------------------------------------

    def _model_flow(self, side: Side) -> None:
        child = self._meet(self.request.home(side))
        reference = self.request.references.get(side)
        load_seconds = self._load(side, child)
        shape = list(self.input.result().array.shape[1:])
        self._settle_table(side, child, shape)
        table = self.table.result()
        if reference:
            child.call("use_table", table=table.to_json())
        flow_weights.give(self, side, child)
        finished = bool(reference) or self._own_graphs
        if not finished:
            # A structure has no weights: whoever runs the graph need not wait for them here.
            self._export(side, child, shape)
        if self.request.weight_source != OWN:
            self._copy_weights(side, child, shape)
        if finished:
            self._export(side, child, shape)
        self.descriptions[side] = child.call("describe", input_shape=shape)
        for subject, found in self.request.parsed.items():
            if found.kind == side and self._at_home(subject):
                self._run_subject(subject, load_seconds)
        if side == self.request.reference_side:
            with promises.pass_errors_to(self.reference):
                same = self.subjects.get(self._plain(side) or "")
                made = self.captures.reference(
                    self.rows(),
                    "capture",
                    isolate=self.request.isolate,
                    plain=None if same is None else same.capture,
                )
                self.reference.set_result(made)
        self.progress(side, "done")

    def _copy_weights(self, side: Side, child: Child, shape: list[int]) -> None:
        """Give the model its weights; of a variant that they do not fit, tell how it is built."""
        self.progress(side, "copying weights")
        try:
            child.call("assign", path=str(self.weights.result()))
        except TableError as error:
            if self.spec is None or not self.spec.own_graphs:
                raise
            self.descriptions[side] = child.call("describe", input_shape=shape)
            raise WeightsRefused(f"its weights cannot be copied: {error}") from error

    def _load(self, side: Side, child: Child) -> float:
        reference = self.request.references.get(side)
        spec = None if reference or self.spec is None else self.spec.to_json()
        self.progress(child.name, "building the model")
        seconds: float = child.call("load", spec=spec, reference=reference)["seconds"]
        return seconds

    @property
    def _own_graphs(self) -> bool:
        return self.spec is not None and self.spec.own_graphs

    def _at_home(self, subject: str) -> bool:
        """Whether the child that runs the model is the one that holds its framework's."""
        return self.request.child(subject) == self.request.home(side_of(subject))

    def _plain(self, side: Side) -> str | None:
        """The subject that is the reference's own model in float32 on the CPU, if there is one."""
        if self.request.precision != "float32" or self.request.xla:
            return None
        for name, found in self.request.parsed.items():
            on_cpu = self.placement.devices[name] == "cpu"
            if found.kind == side and on_cpu and self._at_home(name):
                return name
        return None

    def _further_flow(self, subject: str) -> None:
        """A model beside the one at home: of another backend, or in another environment."""
        child = self._meet(self.request.child(subject))
        side = side_of(subject)
        seconds = self._load(side, child)
        table = self.table.result()
        if self.request.references.get(side):
            child.call("use_table", table=table.to_json())
        self.progress(child.name, "copying weights")
        child.call("assign", path=str(self.weights.result()))
        shape = list(self.input.result().array.shape[1:])
        self.further_descriptions[subject] = child.call("describe", input_shape=shape)
        self._run_subject(subject, seconds)
        self.progress(child.name, "done")

    def _settle_table(self, side: Side, child: Child, shape: list[int]) -> None:
        """Ask the reference's model for the shapes and weights that a hand-written table omits."""
        if self.table.done() or side != self.request.reference_side:
            return
        with promises.pass_errors_to(self.table):
            table = self.request.layer_table
            full = child.call("complete", table=table.to_json(), input_shape=shape)
            self.table.set_result(LayerTable.from_json(full["table"]))

    def _export(self, side: Side, child: Child, shape: list[int]) -> None:
        """Trace the graph of this side, if a subject runs it and no earlier run left it behind."""
        if not self._runs_graph_of(side):
            return
        promise = self.graphs[side]
        if promise.done():
            return
        with promises.pass_errors_to(promise):
            own = side in self.request.references or self._own_graphs
            target = self.folder / f"{side}.onnx" if own else self.kept.graph(side)
            self.progress(side, "exporting to ONNX")
            answer = child.call(
                "export_model" if own else "export",
                path=str(target),
                opset=self.request.opset,
                input_shape=shape,
                names=tap_names(self.table.result(), side),
            )
            self.seconds[f"export-{side}"] = answer["seconds"]
            promise.set_result(target)

    def _runs_graph_of(self, side: Side) -> bool:
        return any(s.runs_graph and s.side == side for s in self.request.parsed.values())

    def _find_graphs(self) -> None:
        """Take the structures that an earlier run left behind."""
        for side, promise in self.graphs.items():
            given = self.request.graph_file(side)
            if given is not None:
                promise.set_result(given)
            elif (
                self._runs_graph_of(side)
                and side not in self.request.references
                and not self._own_graphs
            ):
                held = self.kept.graph(side)
                if held.exists():
                    cache.touch(held)
                    promise.set_result(held)

    def _run_subject(self, subject: str, load_seconds: float) -> None:
        done = self.captures.subject(subject, self.rows(), "capture")
        self.subjects[subject] = SubjectRun(
            capture=done.path,
            runtime=runtime_of(subject),
            versions=self.versions[self.request.child(subject)],
            seconds={"load": load_seconds, "run": done.facts["seconds"]},
            flags=done.facts.get("flags", {}),
            proof=done.facts.get("proof", {}),
            instrumented=done.facts.get("instrumented"),
        )
        if self.request.semantics and self.request.judged:
            self._run_float64(subject)

    def capture_again(self) -> None:
        """Capture everything anew, of the input that is there now."""
        rows = self.rows()
        made = self.captures.reference(rows, "capture", isolate=self.request.isolate)
        self.captures.subjects(list(self.subjects), rows, "capture")
        self.reference = Future()
        self.reference.set_result(made)
        for subject in self.float64:
            self._run_float64(subject)

    def _run_float64(self, subject: str) -> None:
        """Run a subject in float64 too, while the others still work; an error is kept."""
        if subject == self.request.reference_side:
            return
        if runs_graph(subject):
            # A graph is read into PyTorch, which has the reference to run first: until then the
            # processors are Keras's, whose import takes longest.
            wait([self.reference])
            if self.reference.exception() is not None:
                # Without it there is nothing to compare with, and that ends the comparison.
                return
        try:
            table = self.table.result()
            self.float64[subject] = self.captures.in_float64(subject, self.rows(), "float64", table)
        except ParityError as error:
            self.float64[subject] = error

    def rows(self) -> list[str]:
        """The rows at which everything is compared."""
        return [cut.row.name for cut in self.table.result().cuts(self.request.depth)]

    def _manifest(self, subject: str, child: str, precision: str) -> dict[str, Any]:
        self._meet(child)
        return {
            "subject": subject,
            "model": self.request.name,
            "runtime": self.versions[child],
            "device": self.placement.devices.get(subject, "cpu"),
            "precision": precision,
            "weights_sha256": self.digest.result(),
            "input_sha256": self.input.result().sha256,
        }

    # ONNX Runtime ----------------------------------------------------------------------------

    def _graph_flow(self, subject: str) -> None:
        child = self._meet(self.request.child(subject))
        side = side_of(subject)
        graph = self.graphs[side].result()
        table = self.table.result()
        finished = self._own_graphs or self.request.graph_file(side) is not None
        if side in self.request.references or finished:
            load = child.call("read", handle=subject, table=table.to_json(), path=str(graph))
        else:
            load = child.call(
                "load",
                handle=subject,
                table=table.to_json(),
                structure=str(graph),
                path=str(self.weights.result()),
                side=side,
            )
        self._run_subject(subject, load["seconds"])

    # ------------------------------------------------------------------------------------------

    def _meet(self, runtime: str) -> Child:
        """The child, once it has said who it is."""
        child = self.children[runtime]
        with self._lock:
            known = runtime in self.versions
        if not known:
            self.progress(runtime, f"starting {registry.label(parse_child_name(runtime).runtime)}")
            started = time.perf_counter()
            hello = child.hello()
            self.seconds[f"start-{runtime}"] = time.perf_counter() - started
            self.versions[runtime] = {**hello["versions"], "python": hello["python"]}
        return child

    def _guard(self, subject: str, flow: Callable[[str], None]) -> None:
        """Run a subject's flow; a runtime that cannot be had ends it, not the others'."""
        try:
            flow(subject)
        except (RuntimeMissing, ChildError, DeviceMemory, FlagError) as error:
            self.failures[subject] = error
        except BaseException as error:
            self._abandon(error)
            raise

    def _guard_side(self, side: Side) -> None:
        """Run a framework's flow; if it cannot be had, whoever waits for it is told."""
        try:
            self._model_flow(side)
        except (RuntimeMissing, ChildError, DeviceMemory, FlagError) as error:
            self.side_failures[side] = error
            owed: list[Future[Any]] = [self.graphs[side]]
            if side == self.request.reference_side:
                owed += [self.table, self.weights, self.raw_weights, self.digest, self.reference]
            for future in owed:
                promises.set_error_if_pending(future, error)
        except BaseException as error:
            self._abandon(error)
            raise

    def failure(self, subject: str) -> ParityError | None:
        """Why a subject could not be run."""
        side = side_of(subject)
        at_home = self.request.parsed[subject].kind == side and self._at_home(subject)
        return self.failures.get(subject) or (self.side_failures.get(side) if at_home else None)

    def _abandon(self, error: BaseException) -> None:
        owed: list[Future[Any]] = [self.table, self.input, self.weights, self.digest]
        owed += [self.raw_weights, self.reference, *self.graphs.values()]
        for promise in owed:
            promises.set_error_if_pending(promise, error)
