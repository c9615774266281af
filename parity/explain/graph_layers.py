"""The explanation of operations that fail in isolation, in a comparison of graphs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.isolation import IsolatedRows, criteria
from parity.comparison.graphs.layout import channels_first, is_signal, move_channels_first
from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.reference_tensors import ReferenceTensors
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import locate, main_node, with_padding
from parity.comparison.graphs.weights import gather_weight
from parity.comparison.state import Criteria
from parity.errors import ParityError, WeightError
from parity.explain import diagnosis, messages
from parity.explain.attention_rows import ATTENTION, read_attention
from parity.explain.captures import NEARBY, round_to_float32
from parity.explain.cause import Cause
from parity.explain.findings import IsolatedFailure
from parity.explain.graph_inputs import (
    find_unpaired_inputs,
    fit,
    list_input_reshapes,
    list_tensors_around,
    list_tensors_before,
    with_constants,
)
from parity.explain.inner_operations import (
    InnerOperation,
    list_inner_tensors,
    list_row_nodes,
    measure_floor,
    name_operation,
    pair_inner_operations,
    read_inputs,
)
from parity.explain.misread_search import MisreadSearch, restore_axes
from parity.explain.proof import search
from parity.explain.proof.error_pattern import classify_error
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import EvaluationMemo, Layer, Transform, evaluate
from parity.explain.proof.search import Explanation
from parity.explain.quantised_layers import describe_quantised, is_quantised
from parity.explain.subject_tensors import read_subject_tensors
from parity.network import kinds
from parity.network.alignment import families, infer_axes
from parity.network.graph import Graph, Node
from parity.network.graph_weights import to_canonical_weight
from parity.network.rows import Row
from parity.numerics.capture import CaptureReader
from parity.numerics.distance import measure_error
from parity.numerics.floor import Floor
from parity.numerics.verdict import PointResult, judge_error

Array = NDArray[Any]

MAX_EXPLAINED = 40
"""The number of failing layers that are explained; the report says how many are left out."""


_MOST_VALUES, _MOST_VALUES_OF_ALL = 1 << 20, 1 << 23
"""The values of an earlier tensor, and about those of all of one row, that a search looks at."""


Evidence = tuple[FailingLayer | None, Explanation | None]
"""A failing operation and its explanation."""


@dataclass(frozen=True)
class GraphFinding:
    """The result of explaining one failing row of one subject."""

    subject: str
    row: GraphRow
    x_floor: float
    layer: FailingLayer | None
    explanation: Explanation | None


@dataclass(frozen=True)
class Explained:
    """The causes in words, notes for the report, and the findings that the causes describe."""

    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[GraphFinding, ...] = ()


@dataclass
class GraphExplainer:
    """Builds the evidence on failing rows from the graphs, the weights and the captures."""

    state: GraphState
    reference_tensors: ReferenceTensors
    """The reference's float64 tensors by id, channels first where the axes are known."""
    subject_tensors: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    """By subject, what its operations read and give in the isolated run, channels first."""
    notes: list[str] = field(default_factory=list)
    _canonical: dict[str, dict[str, Array]] = field(default_factory=dict)
    """The reference's weights of a node in canonical axes by role, by the node's id."""
    _layers: dict[str, Layer | None] = field(default_factory=dict)
    """The reference's layer of the last row, by the node's id: several subjects may fail there."""
    _memo: EvaluationMemo = field(default_factory=EvaluationMemo)

    @cached_property
    def _criteria(self) -> Criteria:
        return criteria(self.state)

    def explain(
        self, failures: Sequence[tuple[str, PointResult]], captures: Mapping[str, Path]
    ) -> list[GraphFinding]:
        """Explain each (subject, isolated result); `captures` are the isolated ones by subject.

        A row whose explanation fails is not explained, and `notes` says why.
        """
        findings: list[GraphFinding] = []
        elements = search.PAIR_ELEMENTS / max(len(failures), 1)
        with contextlib.ExitStack() as stack:
            readers = {
                name: stack.enter_context(CaptureReader(path)) for name, path in captures.items()
            }
            for subject, result in failures:
                row = self.state.table.by_name(result.row)
                own = result.subjects[subject]
                explained: list[Evidence] = []
                actual = None
                if result.floor is not None and row.name in readers[subject]:
                    actual = readers[subject].read(row.name)
                    try:
                        explained = self._explain_row(subject, row, result.floor, actual, elements)
                    except Exception as error:  # noqa: BLE001 - the others are explained
                        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                        self.notes.append(f"{row.name} of {subject} was not explained: {reason}")
                x_floor = max(own.x_floor, own.x_floor_max)
                findings += [
                    GraphFinding(subject, row, x_floor, *each)
                    for each in explained or [(None, None)]
                ]
        return findings

    def _explain_row(
        self, subject: str, row: GraphRow, floor: Floor, actual: Array, elements: float
    ) -> list[Evidence]:
        """Return the evidence on a row and its explanation; several of the operations within it."""
        layer = self._build(subject, row, floor, actual)
        explanation: Explanation | None = None
        if layer is not None:
            explanation = self._search(layer, subject, row, elements)
            if layer.is_opaque and explanation is not None and explanation.proof is None:
                layer = explanation = None
        if explanation is None or explanation.proof is None:
            # A row's tensor is the reference's where an operation reads it.
            known = {
                **self.subject_tensors.get(subject, {}),
                row.tensors[subject].tensor: self._move_channels_first(subject, row, actual),
            }
            inner = self._explain_inner(subject, row, known, elements)
            if layer is not None and not inner:
                inner = self._explain_attention(layer, row, known, elements)
            if inner:
                return inner
        if layer is not None:
            # What only the search needs is not kept for all rows.
            layer = replace(layer, earlier_tensors=())
        return [(layer, explanation)]

    def _move_channels_first(self, subject: str, row: GraphRow, actual: Array) -> Array:
        """Return a subject's tensor of a row, in the axes of the comparison, channels first."""
        point, graph = row.tensors[subject], self.state.models[subject].graph
        array = point.invert(actual, graph.tensors[point.tensor].shape)
        for rearrangement in channels_first(infer_axes(graph).get(point.tensor, "")):
            array = rearrangement.apply(array)
        return np.asarray(array, np.float64)

    def _explain_inner(
        self, subject: str, row: GraphRow, known: Mapping[str, Array], elements: float
    ) -> list[Evidence]:
        """Return the operations of a row that differ, if both models write out the same ones.

        None unless the cause of each is proved. `known` are the subject's tensors by id.
        """
        found: list[Evidence] = []
        for each in pair_inner_operations(self.state, subject, row, self.reference_tensors, known):
            failing = self._build_inner(subject, each, known)
            if failing is None:
                return []
            if not _differs(failing):
                continue
            explanation = self._search(failing, subject, each.row, elements)
            if explanation is None or explanation.proof is None:
                return []
            found.append((failing, name_operation(explanation, failing.label)))
        return found

    def _explain_attention(
        self, layer: FailingLayer, row: GraphRow, known: Mapping[str, Array], elements: float
    ) -> list[Evidence]:
        """Return the cause of attention that either model writes out, if it is proved."""
        state, subject = self.state, layer.subject
        nodes = list_row_nodes(state, subject, row)
        points = row.tensors[state.reference.subject.name], row.tensors[subject]
        base, own = (
            _read_attention(graph, each, tensors, _as_transform(point.apply))
            for graph, each, tensors, point in zip(
                (state.reference.graph, state.models[subject].graph),
                nodes,
                (self.reference_tensors, known),
                points,
                strict=True,
            )
        )
        base = None if base is None else fit(base, layer.expected)
        if base is None:
            base = layer.reference_layer
        else:
            base = replace(base, inputs=tuple(map(round_to_float32, base.inputs)))
        own = own or layer.subject_layer
        if own is None or {base.kind, own.kind} != {ATTENTION}:
            return []
        # What is known of the inputs of the last product alone says nothing of these.
        failing = replace(
            layer,
            reference_layer=base,
            subject_layer=own,
            is_opaque=False,
            misread_inputs={},
            unpaired_input_layers={},
            missing_input_layers={},
        )
        explanation = self._search(failing, subject, row, elements)
        if explanation is None or explanation.proof is None:
            return []
        return [(failing, explanation)]

    def _build_inner(
        self, subject: str, inner: InnerOperation, known: Mapping[str, Array]
    ) -> FailingLayer | None:
        """Return the evidence on one operation of a row, on what the subject's operation reads."""
        tensor = inner.subject.outputs[0]
        layer = self._reference_layer(inner.reference)
        if layer is None or any(name not in known for name in (tensor, *inner.subject.inputs)):
            return None
        graph = self.state.models[subject].graph
        owners = (self.state.reference.graph, inner.reference), (graph, inner.subject)
        for owner, each in owners:
            order = infer_axes(owner)
            if is_signal(owner, each, order) or any(
                channels_first(order.get(t, "")) for t in each.inputs
            ):
                # Its operator has other axes.
                return None
        inputs = with_constants(graph, inner.subject, known)[1]
        layer = read_inputs(layer, inputs)
        measured = None if layer is None else measure_floor(layer)
        if layer is None or measured is None:
            return None
        expected, floor = measured
        failing = self._build(subject, inner.row, floor, known[tensor])
        if failing is None or failing.is_opaque:
            return None
        return replace(failing, reference_layer=layer, expected=expected)

    def _search(
        self, layer: FailingLayer, subject: str, row: GraphRow, elements: float
    ) -> Explanation | None:
        def add_weights() -> FailingLayer:
            values, names = self._subject_weights(subject, row)
            return replace(layer, subject_weights=values, weight_names=names)

        return diagnosis.explain_layer(layer, elements=elements, add_weights=add_weights)

    def _build(
        self, subject: str, row: GraphRow, floor: Floor, actual: Array
    ) -> FailingLayer | None:
        """Return the evidence on a failure; None if the reference's output is not known."""
        reference = self.state.reference
        node = reference.graph.by_id[row.node]
        if node.id not in self._layers:
            self._layers.clear()
            layer = self._reference_layer(node)
            if layer is not None:
                layer = replace(layer, inputs=tuple(map(round_to_float32, layer.inputs)))
            self._layers[node.id] = layer
        layer = self._layers[node.id]
        if node.outputs[0] not in self.reference_tensors:
            return None
        expected = self.reference_tensors[node.outputs[0]]
        is_opaque = layer is None
        if layer is None:
            layer = Layer("identity", (expected,))
        if is_signal(reference.graph, node, infer_axes(reference.graph)):
            expected, actual = expected.swapaxes(1, 2), actual.swapaxes(1, 2)
        floor = floor.for_precision(self._criteria.precision(subject, row.name))
        model = self.state.models[subject]
        own = main_node(model.graph, row.nodes.get(subject, ()))
        raw = own
        stated = None
        if own is not None:
            as_sum = bool(layer.constants) and node.kind == "bias_add"
            stated = self._build_subject_layer(subject, row, own, actual, floor, as_sum=as_sum)
        if own is not None:
            own = with_padding(model.graph, own)
            own = move_channels_first(model.graph, own, infer_axes(model.graph))
        wide = np.asarray(actual, np.float64)
        nearby = self._nearby(node, wide.shape)
        failing = FailingLayer(
            row=Row(row.name, row.stage, row.kind, row.name, row.name, row.shape[1:]),
            subject=subject,
            framework=model.subject.runtime,
            reference_layer=layer,
            expected=expected,
            actual=wide,
            floor=floor,
            pattern=classify_error(
                wide,
                expected,
                floor=floor.max_abs,
                groups=int(layer.hyper.get("groups") or 1),
            ),
            limit=self.state.request.limit,
            is_opaque=is_opaque,
            subject_hyper=dict(own.hyper) if own is not None and own.kind == node.kind else {},
            subject_layer=stated,
            missing_input_layers=self._find_missing_input_layers(subject, node, layer),
            label="" if own is None else f"{own.operation} `{locate(own)}`",
            image_shape=self._image_shape(node, layer),
            reference_weights=self._weights_nearby(node),
            nearby_outputs=nearby,
            possible_inputs={
                name: round_to_float32(value)
                for shape in dict.fromkeys(each.shape for each in layer.inputs)
                for name, value in self._nearby(node, shape).items()
            },
            earlier_tensors=self._earlier_tensors(node, layer, expected),
        )
        if raw is None:
            return failing
        known = self.subject_tensors.get(subject, {})
        misread = MisreadSearch(self.state, self.reference_tensors, known, subject, row)
        return replace(
            failing,
            unpaired_input_layers=self._find_unpaired_input_layers(subject, raw),
            constant_source_weights=tuple(each.name for each in raw.parameters),
            input_reshapes=list_input_reshapes(model.graph, raw),
            misread_inputs=misread.find_inputs(node, raw),
            misread_output=misread.find_output(node, raw),
        )

    def _reference_layer(self, node: Node) -> Layer | None:
        """Return the reference's layer with its inputs, if it gives the reference's own output.

        A sum with what is computed from weights has that as an input, where the weights themselves
        do not give the output.
        """
        return self._evaluated_layer(node) or self._evaluated_layer(node, as_sum=True)

    def _evaluated_layer(self, node: Node, *, as_sum: bool = False) -> Layer | None:
        if kinds.find(node.kind) is None or not node.inputs or not node.outputs:
            return None
        padded = with_padding(self.state.reference.graph, node)
        if all(tensor in self.reference_tensors for tensor in padded.inputs):
            # The other model may pad in the operation itself.
            node = padded
        needed = (*node.inputs, node.outputs[0])
        if any(tensor not in self.reference_tensors for tensor in needed):
            return None
        reference = self.state.reference.graph
        node, inputs, constants = with_constants(
            reference, node, self.reference_tensors, as_sum=as_sum
        )
        expected = self.reference_tensors[node.outputs[0]]
        if is_signal(reference, node, infer_axes(reference)):
            inputs = tuple(each.swapaxes(1, 2) for each in inputs)
            expected = expected.swapaxes(1, 2)
        if kinds.properties(node.kind).own_axes:
            restored = (
                restore_axes(reference, t, a) for t, a in zip(node.inputs, inputs, strict=False)
            )
            inputs = (*restored, *inputs[len(node.inputs) :])
            moved = channels_first(infer_axes(reference).get(node.outputs[0], ""))
            layer = Layer(
                node.kind,
                inputs,
                node.hyper,
                output_transforms=tuple(_as_transform(each.apply) for each in moved),
                constants=constants,
            )
        else:
            node = move_channels_first(reference, node, infer_axes(reference))
            weights = self._canonical_weights(node)
            layer = Layer(
                node.kind, inputs, node.hyper, weights, memo=self._memo, constants=constants
            )
        return fit(layer, expected)

    def _build_subject_layer(
        self,
        subject: str,
        row: GraphRow,
        own: Node,
        actual: Array,
        floor: Floor,
        *,
        as_sum: bool = False,
    ) -> Layer | None:
        """Return the subject's operation on what it read, if it gives the subject's output alone.

        None for one of several operations that make the row's tensor together.
        """
        model, known = self.state.models[subject], self.subject_tensors.get(subject, {})
        if kinds.find(own.kind) is None or not own.inputs or not own.outputs:
            return None
        if row.tensors[subject].tensor not in own.outputs[:1]:
            return None
        if any(tensor not in known for tensor in own.inputs):
            return None
        order = infer_axes(model.graph)
        own, inputs, constants = with_constants(model.graph, own, known, as_sum=as_sum)
        if is_signal(model.graph, own, order):
            inputs = tuple(each.swapaxes(1, 2) for each in inputs)
        values = self.state.load_weights(subject)
        weights = {
            each.role: to_canonical_weight(own.kind, each, values[each.name])
            for each in own.parameters
            if each.role and each.name in values
        }
        moved = move_channels_first(model.graph, own, order)
        layer = Layer(moved.kind, inputs, moved.hyper, weights, constants=constants)
        if kinds.properties(own.kind).own_axes:
            restored = (
                restore_axes(model.graph, t, array)
                for t, array in zip(own.inputs, inputs, strict=False)
            )
            layer = Layer(
                own.kind,
                (*restored, *inputs[len(own.inputs) :]),
                own.hyper,
                output_transforms=(_as_transform(row.tensors[subject].apply),),
                constants=constants,
            )
        try:
            with np.errstate(all="ignore"):
                output = evaluate(layer)
        except (ValueError, KeyError, IndexError, TypeError):
            return None
        if output.shape != actual.shape:
            return None
        error = np.abs(output - actual).max(initial=0.0)
        # The subject rounds as the floor's replicates do.
        scale = max(float(np.abs(output).max(initial=0.0)) / (floor.scale or 1.0), 1.0)
        return layer if error <= 16.0 * floor.max_abs * scale else None

    def _find_unpaired_input_layers(self, subject: str, own: Node) -> dict[int, Layer]:
        """Return the operations without a partner that make the inputs of a subject's operation."""
        unpaired = self.state.alignments[subject].unpaired_other
        known = self.subject_tensors.get(subject, {})
        return find_unpaired_inputs(self.state.models[subject].graph, own, unpaired, known)

    def _find_missing_input_layers(
        self, subject: str, node: Node, layer: Layer
    ) -> dict[int, Layer]:
        """Return the operations that the subject lacks and that make the inputs of a layer."""
        if layer.constants:
            # The places of the inputs are others.
            return {}
        unpaired = self.state.alignments[subject].unpaired_reference
        found = find_unpaired_inputs(
            self.state.reference.graph, node, unpaired, self.reference_tensors
        )
        # One whose axes are not the layer's is left out.
        return {
            place: replace(each, inputs=tuple(map(round_to_float32, each.inputs)))
            for place, each in found.items()
            if fit(each, self.reference_tensors[node.inputs[place]]) is not None
            and place < len(layer.inputs)
            and 0 not in each.constants
            and each.inputs[0].shape == layer.inputs[place].shape
        }

    def _earlier_tensors(self, node: Node, layer: Layer, expected: Array) -> tuple[Array, ...]:
        """Return what leads to an operation and has as many values as it reads or gives.

        None for the kinds that no turned features reach.
        """
        if not _may_read_turned(node):
            return ()
        sizes = {each.size for each in (*layer.inputs, expected)}
        own_axes = kinds.properties(node.kind).own_axes
        found = []
        for tensor in list_tensors_before(self.state.reference.graph, node):
            if tensor not in self.reference_tensors:
                continue
            shape = self.reference_tensors.shape(tensor)
            size = math.prod(shape)
            if len(shape) < 3 or size not in sizes or size > _MOST_VALUES:
                continue
            value = self.reference_tensors[tensor]
            value = restore_axes(self.state.reference.graph, tensor, value) if own_axes else value
            found.append(round_to_float32(value))
            if size * len(found) > _MOST_VALUES_OF_ALL:
                break
        return tuple(found)

    def _canonical_weights(self, node: Node) -> dict[str, Array]:
        if node.id not in self._canonical:
            values = self.state.load_weights(self.state.reference.subject.name)
            self._canonical[node.id] = {
                each.role: to_canonical_weight(node.kind, each, values[each.name])
                for each in node.parameters
                if each.role and each.name in values
            }
        return self._canonical[node.id]

    def _subject_weights(
        self, subject: str, row: GraphRow
    ) -> tuple[dict[str, Array], dict[str, str]]:
        """Return the subject's weights of a row in canonical axes by role, and their names."""
        alignment = self.state.alignments[subject]
        reference = self.state.reference
        node = reference.graph.by_id[row.node]
        own = self.state.load_weights(subject)
        base = self.state.load_weights(reference.subject.name)
        values: dict[str, Array] = {}
        names: dict[str, str] = {}
        for each in node.parameters:
            if not each.role:
                continue
            with contextlib.suppress(ValueError, WeightError):
                gathered = gather_weight(alignment, each.name, own, base[each.name].shape)
                if gathered is not None:
                    values[each.role] = to_canonical_weight(node.kind, each, gathered[0])
                    names[each.role] = gathered[1]
        return values, names

    def _nearby(self, node: Node, shape: tuple[int, ...]) -> dict[str, Array]:
        """Return the reference's tensors of this shape around a node, by the rows' names."""
        rows = [row for row in self.state.table.rows if row.node != node.id]
        order = {each.id: at for at, each in enumerate(self.state.reference.graph.nodes)}
        here = order[node.id]
        near = sorted(rows, key=lambda row: abs(order[row.node] - here))[: 4 * NEARBY]
        by_id = self.state.reference.graph.by_id
        found = {}
        for row in near:
            tensor = by_id[row.node].outputs[0]
            if tensor in self.reference_tensors and self.reference_tensors.shape(tensor) == shape:
                found[row.name] = self.reference_tensors[tensor]
        return found

    def _weights_nearby(self, node: Node) -> dict[str, dict[str, Array]]:
        """Return the reference's weights of the rows of this kind, by row and role."""
        by_id = self.state.reference.graph.by_id
        return {
            row.name: self._canonical_weights(by_id[row.node])
            for row in self.state.table.rows
            if by_id[row.node].kind == node.kind and by_id[row.node].parameters
        }

    def _image_shape(self, node: Node, layer: Layer) -> tuple[int, ...] | None:
        """Return the shape (C, H, W) of the image that a dense layer's input is flattened from."""
        if node.kind != "dense" or layer.inputs[0].ndim != 2:
            return None
        graph = self.state.reference.graph
        producer = graph.producers.get(node.inputs[0])
        while producer is not None and producer.inputs:
            before = producer.inputs[0]
            if before in self.reference_tensors:
                shape = self.reference_tensors.shape(before)
                if len(shape) == 4:
                    return shape[1:]
            if not families.is_pass_through(producer):
                return None
            producer = graph.producers.get(producer.inputs[0])
        return None


def _read_attention(
    graph: Graph, nodes: Sequence[Node], tensors: Mapping[str, Array], apply: Transform
) -> Layer | None:
    """Return the attention that operations write out, as one layer.

    `tensors` are channels first; `apply` changes the axes of what the last operation gives.
    """
    if len(nodes) < 2:
        return None
    values = {
        tensor: np.asarray(restore_axes(graph, tensor, tensors[tensor]), np.float64)
        for tensor in list_inner_tensors(nodes)
        if tensor in tensors and tensor in graph.tensors
    }
    found = read_attention(graph, nodes, values)
    if found is None:
        return None
    layer, axes = found
    turn = _as_transform(partial(np.transpose, axes=axes))
    return replace(layer, output_transforms=(turn, apply))


def _may_read_turned(node: Node) -> bool:
    """Return whether an operation may read or give features that were turned by their positions.

    Those that join branches, as attention and sums do, and those without a kind.
    """
    kind = kinds.find(node.kind)
    return kind is None or kind.joins_branches


def _differs(failing: FailingLayer) -> bool:
    """Return whether the subject's output is further from the reference's than rounding."""
    error = measure_error(actual=failing.actual, expected=failing.expected)
    return judge_error(error, failing.floor, limit=failing.limit).status.is_failure


def _as_transform(change: Callable[[Any], Any]) -> Transform:
    """Return a change of axes as a transform of float64 tensors."""
    return lambda array: np.asarray(change(array), np.float64)


def explain_rows(
    state: GraphState,
    runner: GraphRunner,
    tensors: ReferenceTensors,
    failures: Sequence[tuple[str, PointResult]],
    layers: IsolatedRows,
) -> Explained:
    """Return the causes of the rows that fail in isolation; never raises."""
    notes: list[str] = []
    quantised = [each for each in failures if is_quantised(state, *each)]
    found = describe_quantised(state, quantised)
    failures = [each for each in failures if each not in quantised]
    if not failures:
        return Explained(found)
    if len(failures) > MAX_EXPLAINED:
        notes.append(f"{len(failures) - MAX_EXPLAINED} more failing layers were not explained")
    chosen = list(failures[:MAX_EXPLAINED])
    rows = [state.table.by_name(result.row) for _, result in chosen]
    try:
        graph, nodes = state.reference.graph, [row.node for row in rows]
        before = [
            each
            for node in nodes
            if _may_read_turned(graph.by_id[node])
            for each in list_tensors_before(graph, graph.by_id[node])
            if math.prod(graph.tensors[each].shape) <= _MOST_VALUES
        ]
        inner = [
            tensor
            for name, row in zip((name for name, _ in chosen), rows, strict=True)
            for tensor in list_inner_tensors(list_row_nodes(state, name, row)[0])
        ]
        tensors.require((*list_tensors_around(graph, nodes), *before, *inner))
        own: dict[str, Mapping[str, Array]] = {}
        for subject in dict.fromkeys(name for name, _ in chosen):
            mine = [state.table.by_name(result.row) for name, result in chosen if name == subject]
            with contextlib.suppress(ParityError):
                # Without them fewer causes are tried.
                own[subject] = read_subject_tensors(state, runner, subject, mine, layers)
        explainer = GraphExplainer(state, tensors, own)
        findings = explainer.explain(chosen, layers.captures)
        notes += explainer.notes
    except Exception as error:  # noqa: BLE001 - the verdict never depends on what explains it
        reason = str(error).partition("\n")[0]
        kind = "" if isinstance(error, ParityError) else f"{type(error).__name__}: "
        return Explained(found, (f"the differences were not explained: {kind}{reason}",))
    return Explained((*found, *describe(findings)), tuple(notes), tuple(findings))


def describe(findings: Sequence[GraphFinding]) -> tuple[Cause, ...]:
    """Return one entry for all layers of one subject with one cause, in words."""
    groups: dict[tuple[str, ...], list[GraphFinding]] = {}
    for finding in findings:
        proof = finding.explanation.proof if finding.explanation else None
        key = (
            (finding.subject, finding.row.name)
            if proof is None
            else (finding.subject, *messages.candidate_texts(proof))
        )
        groups.setdefault(key, []).append(finding)
    return tuple(map(_describe_group, groups.values()))


def _describe_group(group: Sequence[GraphFinding]) -> Cause:
    first = group[0]
    failure = IsolatedFailure(
        first.subject,
        Row(first.row.name, first.row.stage, first.row.kind, "", ""),
        Floor(2.0**-24, 0.0, 1, 0.0) if first.layer is None else first.layer.floor,
        first.x_floor,
    )
    explanation = first.explanation
    if explanation is None or explanation.proof is None:
        return messages.describe_unexplained_layer(
            failure, first.layer, explanation, where=f"`{first.subject}`"
        )
    rows = [item.row.name for item in group[1:]]
    return messages.describe_proof(failure, explanation, rows, graphs=())
