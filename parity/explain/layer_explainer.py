"""The explanation of all layers that fail in isolation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from parity.comparison.runner import Runner
from parity.comparison.state import State
from parity.explain import diagnosis, queries
from parity.explain.captures import ReferenceTensors, open_captures, outputs_agree
from parity.explain.descriptions import Descriptions
from parity.explain.failing_layers import Evidence
from parity.explain.findings import Finding, IsolatedFailure
from parity.explain.float64_graphs import Float64Graphs
from parity.explain.proof import extra_layers, search
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.search import Explanation
from parity.network import weights
from parity.network.table import LayerTable, Row
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.verdict import PointResult
from parity.processes.subjects import is_model_of, runs_graph, side_of


@dataclass(frozen=True)
class LayerExplainer:
    """Explains failing layers with the evidence at hand and, where needed, more from the runner."""

    evidence: Evidence
    runner: Runner
    graphs: Float64Graphs
    compared: tuple[str, ...]
    """The subjects that were compared."""
    _sum_floors: dict[str, Floor] = field(default_factory=dict)
    """The floors of sums with extra layers, by row."""
    _second_runs: dict[str, Path | None] = field(default_factory=dict)

    def explain(self, failures: Sequence[IsolatedFailure]) -> list[Finding]:
        """Explain every failure; graphs after the models, whose causes they may share."""
        findings: list[Finding] = []
        elements = search.PAIR_ELEMENTS / max(len(failures), 1)
        for failure in sorted(failures, key=lambda item: runs_graph(item.subject)):
            layer = self.evidence.build_failing_layer(failure)
            if layer is None:
                findings.append(Finding(failure, None, None))
                continue
            explanation = self._explain_layer(layer, failure, findings, elements)
            proof = explanation.proof
            is_fitted = proof is not None and any(each.is_fitted for each in proof.candidates)
            # A dropout that drops nothing in this run is a factor, as is any.
            random = (proof is None or is_fitted) and self._is_nondeterministic(failure)
            if random:
                explanation = replace(explanation, proof=None)
            findings.append(Finding(failure, layer, explanation, random))
        return findings

    def agrees_with_model(self, graph: str, row: Row, floor: Floor) -> bool:
        """Return whether a graph's layer equals its model's, but for rounding."""
        outputs = self.evidence.subjects
        model = outputs.get(self._model_of(graph) or "")
        return outputs_agree(outputs.get(graph), model, row.name, floor, self.evidence.limit)

    def _explain_layer(
        self,
        layer: FailingLayer,
        failure: IsolatedFailure,
        findings: Sequence[Finding],
        elements: float,
    ) -> Explanation:
        explanation = self._explain_as_model(layer, failure, findings)
        explanation = explanation or self._explain_sum_by_extra_layers(layer, failure)
        explanation = explanation or diagnosis.explain_layer(
            layer, elements=elements, add_weights=lambda: self._with_subject_weights(layer)
        )
        if explanation.proof is None and self._graph_may_differ_from_model(failure):
            output = self.graphs.read_output(failure.subject, failure.row.name)
            if output is not None:
                from_file = side_of(failure.subject) in self.evidence.descriptions.file_sides
                layer = replace(layer, graph_output=output, graph_from_file=from_file)
                explanation = diagnosis.explain_by_graph(layer) or explanation
        return explanation

    def _explain_as_model(
        self, layer: FailingLayer, failure: IsolatedFailure, findings: Sequence[Finding]
    ) -> Explanation | None:
        """Try the proven cause of the same row in the source model on this graph."""
        for other in findings:
            is_model = is_model_of(other.failure.subject, failure.subject)
            if other.failure.row != failure.row or not is_model:
                continue
            if other.explanation is None or other.explanation.proof is None:
                continue
            floor = self._sum_floors.get(failure.row.name, layer.floor)
            candidates = other.explanation.proof.candidates
            attempt = search.try_candidates(replace(layer, floor=floor), candidates)
            if attempt is not None and attempt.x_floor_after <= layer.limit:
                return Explanation(failure.x_floor, attempt)
        return None

    def _explain_sum_by_extra_layers(
        self, layer: FailingLayer, failure: IsolatedFailure
    ) -> Explanation | None:
        """Return an explanation if layers that only the subject has account for an add's error."""
        subject, row = failure.subject, failure.row
        if row.kind != "add" or runs_graph(subject):
            return None
        described = self.evidence.descriptions.layers(subject)
        layers = extra_layers.find_extra_layers(row, described)
        extra = queries.read_extra_layers(self.runner, subject, row, layers) if layers else None
        proof = None if extra is None else extra_layers.explain_sum(layer, extra)
        if proof is None:
            return None
        explanation, self._sum_floors[row.name] = proof
        return explanation

    def _with_subject_weights(self, layer: FailingLayer) -> FailingLayer:
        """Return the layer with the weights that the subject has there."""
        table = self.evidence.tensors.table
        values, names = queries.read_subject_weights(self.runner, table, layer.subject, layer.row)
        return replace(layer, subject_weights=values, weight_names=names)

    def _graph_may_differ_from_model(self, failure: IsolatedFailure) -> bool:
        """Return whether a graph may compute a different function from its source model."""
        if not runs_graph(failure.subject):
            return False
        model = self._model_of(failure.subject)
        if model is None:
            # A model that was not compared is known to be right only if it is the reference.
            return side_of(failure.subject) == self.evidence.reference_side
        return model not in self.evidence.subjects or not self.agrees_with_model(
            failure.subject, failure.row, failure.floor
        )

    def _model_of(self, graph: str) -> str | None:
        """Return the compared subject whose model a graph was exported from, or None."""
        return next((name for name in self.compared if is_model_of(name, graph)), None)

    def _is_nondeterministic(self, failure: IsolatedFailure) -> bool:
        """Return whether the subject's output of this row changes in a second run."""
        name, first = failure.subject, self.evidence.subjects[failure.subject]
        if name not in self._second_runs:
            reference = self.evidence.tensors.reader.path
            self._second_runs[name] = queries.run_again(self.runner, name, first, reference)
        path = self._second_runs[name]
        if path is None:
            return False
        with CaptureReader(path) as second:
            # A GPU may sum in another order each time; that is within rounding.
            row, floor, limit = failure.row.name, failure.floor, self.evidence.limit
            return not outputs_agree(first, second, row, floor, limit)


@contextlib.contextmanager
def open_explainer(
    state: State,
    table: LayerTable,
    runner: Runner,
    reference: Path,
    subjects: Mapping[str, Path],
    *,
    limit: float,
    stages: Sequence[PointResult] = (),
) -> Iterator[LayerExplainer]:
    """Open the captures of isolated layers, `reference` and `subjects`, for explanation.

    `stages` are the comparison points of the runs without isolation.
    """
    assert state.weights is not None, "a reference that has run has weights"
    values = weights.load(state.weights, table)
    image = np.load(runner.input).astype(np.float64)
    with CaptureReader(reference) as reader, open_captures(subjects) as readers:
        evidence = Evidence(
            tensors=ReferenceTensors(table, reader, image),
            subjects=readers,
            descriptions=Descriptions.of(state),
            weights={
                row.name: queries.weights_by_role(row, values) for row in table.rows if row.weights
            },
            reference_side=state.request.reference_side,
            limit=limit,
            stages=stages,
        )
        graphs = Float64Graphs(runner, table, reference, list(reader.names))
        yield LayerExplainer(evidence, runner, graphs, tuple(state.subjects))
