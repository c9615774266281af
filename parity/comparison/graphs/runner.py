"""Requests to the children of a comparison of graphs, once the models have their weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.comparison.graphs.points import accumulated_terms, isolated_terms
from parity.comparison.graphs.state import GraphState, LoadedModel
from parity.comparison.identity import build_identity
from parity.comparison.state import ReferenceRun, SubjectCapture
from parity.numerics import floor
from parity.numerics.points import ComparisonPoint
from parity.processes import registry
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

    def run_reference(
        self,
        points: Sequence[ComparisonPoint],
        label: str,
        *,
        isolate: bool = False,
        replicates: int = floor.REPLICATES,
    ) -> ReferenceRun:
        """Run the reference in float64 and its float32 replicates at the points."""
        model = self.state.reference
        self.progress(model.subject.name, "float64 reference and float32 floor")
        path = self.folder / f"{label}.reference.safetensors"
        tensors = self._tensors(model, points)
        child = self.children[model.subject.child]
        request = GraphRunRequest(
            inputs=str(model.input_file),
            points=tensors,
            out=str(path),
            manifest={**self._manifest(model, "float64"), "subject": "reference"},
            precision="float64",
        )
        child.call("run_graph", **request.to_json())
        graph, table = model.graph, self.state.table
        measurement = FloorRequest(
            inputs=str(model.input_file),
            points=tensors,
            reference=str(path),
            replicates=replicates,
            seed=self.state.request.seed,
            terms=accumulated_terms(graph, table),
            isolated_terms=isolated_terms(graph, points, table),
            isolate=isolate,
        )
        answer = child.call("measure_floors", **measurement.to_json())
        return ReferenceRun(
            path, floor.from_json(answer["floors"]), floor.from_json(answer["isolated"])
        )

    def run_subject(
        self,
        name: str,
        points: Sequence[ComparisonPoint],
        label: str,
        *,
        feed: Path | None = None,
        precision: str | None = None,
    ) -> SubjectCapture:
        """Run one subject at the points; with `feed` every part reads the reference's tensors."""
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
            device=model.subject.device,
            precision=precision,
        )
        facts = self.children[model.subject.child].call("run_graph", **request.to_json())
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
        self, model: LoadedModel, points: Sequence[ComparisonPoint]
    ) -> tuple[TensorPoint, ...]:
        table = self.state.table
        name = model.subject.name
        own = self.state.reference.subject.name if model is self.state.reference else name
        return tuple(table.by_name(point.row).tensors[own] for point in points)

    def _manifest(self, model: LoadedModel, precision: str) -> dict[str, Any]:
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
