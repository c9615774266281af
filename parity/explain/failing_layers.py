"""The evidence on a failing layer, collected from captures, descriptions and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from parity.explain.captures import ReferenceTensors, recovers_downstream, round_to_float32
from parity.explain.descriptions import Descriptions, find_other_calls, label_layer
from parity.explain.findings import IsolatedFailure
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer
from parity.explain.proof.reconstruction import reconstruct_layer
from parity.network.table import Row
from parity.numerics.capture import CaptureReader
from parity.numerics.verdict import PointResult
from parity.processes.subjects import runs_graph, side_of


@dataclass(frozen=True)
class Evidence:
    """The data of one comparison from which failing layers are built."""

    tensors: ReferenceTensors
    subjects: Mapping[str, CaptureReader]
    """The outputs of the isolated layers, by subject."""
    descriptions: Descriptions
    weights: Mapping[str, Mapping[str, Array]]
    """The reference's weights by row, then by role."""
    reference_side: str
    limit: float
    stages: Sequence[PointResult] = ()
    """The comparison points of the runs without isolation."""
    _reference_layers: dict[str, Layer | None] = field(default_factory=dict)

    def build_failing_layer(self, failure: IsolatedFailure) -> FailingLayer | None:
        """Return the evidence on a failure; None if the reference's layer cannot be evaluated
        alone.
        """
        row, subject, table = failure.row, failure.subject, self.tensors.table
        layer = self._reference_layer(row)
        if layer is None or row.name not in self.subjects[subject]:
            return None
        expected = self.tensors.read(row.name)
        output = np.asarray(self.subjects[subject].read(row.name))
        float64 = output.dtype == np.float64
        if not float64:
            # The subject was given the reference's tensors rounded to float32.
            layer = replace(layer, inputs=tuple(map(round_to_float32, layer.inputs)))
        actual = output.astype(np.float64)
        description = self.descriptions.layer(subject, row)
        calls = find_other_calls(subject, row, table)
        nearby = self.tensors.nearby_outputs(row, actual.shape, calls)
        order = [other.name for other in table.rows]
        later = [
            table.by_name(name) for name in nearby if order.index(name) > order.index(row.name)
        ]
        return FailingLayer(
            row=row,
            subject=subject,
            framework="onnx" if runs_graph(subject) else side_of(subject),
            reference_layer=layer,
            expected=expected,
            actual=actual,
            floor=failure.floor,
            limit=self.limit,
            subject_hyper=description.get("hyper", {}),
            label=label_layer(subject, row, description, table),
            recovers_downstream=recovers_downstream(
                subject, row, order=order, stages=self.stages, limit=self.limit
            ),
            other_calls=calls,
            in_place_rows=self.descriptions.in_place_rows(subject, later),
            image_shape=self.tensors.image_shape(row, layer),
            reference_weights=self.weights,
            nearby_outputs=nearby,
            possible_inputs=self.tensors.possible_inputs(row, layer, float64=float64),
        )

    def _reference_layer(self, row: Row) -> Layer | None:
        """Return the reference's layer of a row with its inputs; None if they cannot be found."""
        if row.name not in self._reference_layers:
            tensors = self.tensors
            self._reference_layers[row.name] = reconstruct_layer(
                row.kind,
                tensors.read(row.name),
                tensors.names_before(row),
                tensors.read,
                hyper=self.descriptions.layer(self.reference_side, row).get("hyper", {}),
                weights=self.weights.get(row.name, {}),
            )
        return self._reference_layers[row.name]
