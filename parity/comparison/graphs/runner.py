"""Requests to the children of a comparison of graphs, once the models have their weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity.comparison.graphs.model_store import FLOORS, ModelStore, hash_file
from parity.comparison.graphs.points import accumulated_terms, find_parts, isolated_terms
from parity.comparison.graphs.restoration import Restoration
from parity.comparison.graphs.state import GraphState, SubjectModel
from parity.comparison.identity import build_identity
from parity.comparison.state import ReferenceRun, SubjectCapture
from parity.numerics import floor
from parity.numerics.points import ComparisonPoint
from parity.processes import registry
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.graph_requests import FloorRequest, GraphRunRequest, TensorPoint
from parity.processes.subjects import child_name, parse_child_name


@dataclass(frozen=True)
class GraphRunner:
    """The children of one comparison, and the folder of their captures.

    Every method raises the `ParityError` that a child reports, and `ChildError` when it dies.
    """

    state: GraphState
    children: Children
    folder: Path
    progress: Callable[[str, str], None]
    store: ModelStore | None = None
    """The cache of what is measured with these models, if nothing else determines it."""
    restoration: Restoration | None = None
    """Loads the models, if they were not loaded to be read."""

    def run_reference(
        self, points: Sequence[ComparisonPoint], label: str, *, isolate: bool = False
    ) -> ReferenceRun:
        """Run the reference in float64 and its float32 replicates at the points.

        The floors are those of whole runs, and, with `isolate`, of parts given the reference's
        input.
        """
        self.progress(self.state.reference.subject.name, "float64 reference and float32 floor")
        path = self.capture_reference(points, label)
        return self._measure(self._request_floors(points, path, isolate=isolate), path)

    def capture_reference(
        self, points: Sequence[ComparisonPoint], label: str, extra: Sequence[TensorPoint] = ()
    ) -> Path:
        """Capture the points, and `extra` tensors of the reference, in float64."""
        model = self.state.reference
        path = self.folder / f"{label}.reference.safetensors"
        request = GraphRunRequest(
            inputs=str(model.input_file),
            points=(*self._tensors(model, points), *extra),
            out=str(path),
            manifest={**self._manifest(model, "float64"), "subject": "reference"},
            precision="float64",
        )
        self._child(model).call("run_graph", **request.to_json())
        return path

    def measure_isolated_floors(
        self, points: Sequence[ComparisonPoint], rows: Collection[str], capture: Path
    ) -> ReferenceRun:
        """Measure the floors of the parts of `rows`, each given the reference's input.

        `points` are all that isolation feeds; those before the parts are enough to measure them,
        and the weights of the operations in the parts are the only ones that are perturbed.
        """
        parts = find_parts(self.state.reference.graph, points, rows, self.state.table)
        needed = [point for point in points if point.row in parts.rows]
        request = replace(
            self._request_floors(needed, capture, isolate=True),
            isolated_terms=isolated_terms(
                self.state.reference.graph,
                points,
                self.state.table,
                repeated=self.state.reference.inputs.repeats_values,
            ),
            whole=False,
            measured=tuple(rows),
            weights=tuple(parts.weights),
        )
        return self._measure(request, capture)

    def _request_floors(
        self, points: Sequence[ComparisonPoint], capture: Path, *, isolate: bool
    ) -> FloorRequest:
        model, table = self.state.reference, self.state.table
        repeated = model.inputs.repeats_values
        return FloorRequest(
            inputs=str(model.input_file),
            points=self._tensors(model, points),
            reference=str(capture),
            replicates=floor.REPLICATES,
            seed=self.state.request.seed,
            terms=accumulated_terms(model.graph, table, repeated=repeated),
            isolated_terms=isolated_terms(model.graph, points, table, repeated=repeated),
            isolate=isolate,
        )

    def _measure(self, request: FloorRequest, capture: Path) -> ReferenceRun:
        """Measure the floors; they are kept by the bits of the reference that they are around."""
        answer = None
        on: dict[str, Any] = {}
        if self.store is not None:
            # The inputs and the capture are in other files each time.
            inputs = self.state.reference.inputs.sha256
            fields = {**request.to_json(), "inputs": inputs, "reference": hash_file(capture)}
            on = {"request": fields, "weights": self.state.weights_sha256}
            answer = self.store.find_result(FLOORS, on)
        if answer is None:
            answer = self._child(self.state.reference).call("measure_floors", **request.to_json())
            if self.store is not None:
                self.store.keep_result(FLOORS, on, answer)
        return ReferenceRun(
            capture, floor.from_json(answer["floors"]), floor.from_json(answer["isolated"])
        )

    def _child(self, model: SubjectModel) -> Child:
        """Return the child of a model, once that is loaded."""
        if self.restoration is not None:
            self.restoration.wait(model.subject.child)
        return self.children[model.subject.child]

    def run_subject(
        self,
        name: str,
        points: Sequence[ComparisonPoint],
        label: str,
        *,
        feed: Path | None = None,
        unfed: Collection[str] = (),
        precision: str | None = None,
        constants: Path | None = None,
    ) -> SubjectCapture:
        """Run one subject at the points; with `feed` every part reads the reference's tensors.

        The rows in `unfed` keep the subject's own. With `constants` its constants have the
        reference's values: see `GraphRunRequest`.
        """
        model = self.state.models[name]
        self.progress(name, "running")
        path = self.folder / f"{label}.{name}.safetensors"
        precision = precision or self.state.request.precision
        request = GraphRunRequest(
            inputs=str(model.input_file),
            points=self._tensors(model, points),
            out=str(path),
            manifest=self._manifest(model, precision),
            feed=None if feed is None else str(feed),
            unfed=tuple(sorted(unfed)),
            device=model.subject.device,
            precision=precision,
            constants=None if constants is None else str(constants),
        )
        facts = self._child(model).call("run_graph", **request.to_json())
        return SubjectCapture(path, facts)

    def run_float64(
        self, name: str, points: Sequence[ComparisonPoint], label: str
    ) -> SubjectCapture:
        """Run one subject in float64 at the points; an ONNX file is read by PyTorch.

        The ids of a graph's tensors are ONNX's names in both readings.
        """
        model = self.state.models[name]
        if model.subject.runtime in registry.model_runtimes():
            return self.run_subject(name, points, label, precision="float64")
        reference = model.subject.reference
        assert reference is not None, "an ONNX subject is a file"
        evaluator = registry.graph_evaluator()
        self.progress(name, f"reading the graph into {registry.label(evaluator)}")
        child = self.children[self._free_child(evaluator)]
        child.call(
            "load_reference",
            reference=reference.to_json(),
            trust=list(self.state.request.trust),
            custom_objects=None,
        )
        path = self.folder / f"{label}.{name}.safetensors"
        request = GraphRunRequest(
            inputs=str(model.input_file),
            points=self._tensors(model, points),
            out=str(path),
            manifest=self._manifest(model, "float64"),
            precision="float64",
        )
        return SubjectCapture(path, child.call("run_graph", **request.to_json()))

    def run_subjects(
        self,
        names: Collection[str],
        points: Sequence[ComparisonPoint],
        label: str,
        *,
        feed: Path | None = None,
    ) -> dict[str, SubjectCapture]:
        """Run subjects side by side."""
        with self.children.threads(max(len(names), 1)) as pool:
            futures = {
                name: pool.submit(self.run_subject, name, points, label, feed=feed)
                for name in names
            }
            return {name: future.result() for name, future in futures.items()}

    def _free_child(self, runtime: str) -> str:
        """Return the name of a runtime's child that holds no model of this comparison."""
        subjects = (*self.state.subjects, self.state.reference.subject)
        children = [parse_child_name(each.child) for each in subjects]
        taken = [each.instance for each in children if each.runtime == runtime]
        return child_name(runtime, instance=max(taken, default=0) + 1)

    def _tensors(
        self, model: SubjectModel, points: Sequence[ComparisonPoint]
    ) -> tuple[TensorPoint, ...]:
        table = self.state.table
        name = model.subject.name
        own = self.state.reference.subject.name if model is self.state.reference else name
        return tuple(table.by_name(point.row).tensors[own] for point in points)

    def _manifest(self, model: SubjectModel, precision: str) -> dict[str, Any]:
        return {
            "subject": model.subject.name,
            "runtime": dict(model.versions),
            "device": model.subject.device,
            "precision": precision,
            **build_identity(
                model=self.state.model_name,
                weights_sha256=self.state.weights_sha256,
                input_sha256=self.state.reference.inputs.sha256,
            ),
        }
