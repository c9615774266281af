"""The evidence on operations that fail in isolation, in a comparison of graphs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.isolation import criteria
from parity.comparison.graphs.layout import (
    channels_first,
    is_signal,
    list_own_axes,
    move_channels_first,
)
from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.reference_tensors import ReferenceTensors
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import fold_padding, locate, main_node
from parity.comparison.graphs.weights import gather_weight
from parity.comparison.state import Criteria
from parity.errors import WeightError
from parity.explain.captures import NEARBY, round_to_float32
from parity.explain.crops import fold_crop
from parity.explain.graph_inputs import (
    find_unpaired_inputs,
    fit,
    list_input_reshapes,
    list_tensors_before,
    with_constants,
)
from parity.explain.inner_operations import InnerOperation, measure_floor, read_inputs
from parity.explain.misread_search import MisreadSearch, restore_axes
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import EvaluationMemo, Layer, Transform, evaluate
from parity.network import kinds
from parity.network.alignment import families, infer_axes
from parity.network.graph import Graph, Node
from parity.network.graph_weights import to_canonical_weight
from parity.network.rows import Row
from parity.numerics.floor import Floor

Array = NDArray[Any]

MAX_VALUES = 1 << 20
"""The values of an earlier tensor up to which a search looks at it."""

_MAX_VALUES_OF_ALL = 1 << 23
"""About those of all earlier tensors of one row."""


@dataclass
class GraphEvidence:
    """Builds the evidence on failing rows from the graphs, the weights and the captures."""

    state: GraphState
    reference_tensors: ReferenceTensors
    """The reference's float64 tensors by id, channels first where the axes are known."""
    subject_tensors: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    """By subject, what its operations read and give in the isolated run, channels first."""
    _canonical: dict[str, dict[str, Array]] = field(default_factory=dict)
    """The reference's weights of a node in canonical axes by role, by the node's id."""
    _layers: dict[str, Layer] = field(default_factory=dict)
    """The reference's layer of the last row, by the node's id: several subjects may fail there."""
    _memo: EvaluationMemo = field(default_factory=EvaluationMemo)

    @cached_property
    def _criteria(self) -> Criteria:
        return criteria(self.state)

    def find_precision(self, subject: str, row: str) -> str:
        """Return the precision that a subject's row is judged by."""
        return self._criteria.precision(subject, row)

    def _build(
        self, subject: str, row: GraphRow, floor: Floor, actual: Array
    ) -> FailingLayer | None:
        """Return the evidence on a failure; None if the reference's output is not known."""
        failing = self.build_statement(subject, row, floor, actual)
        return None if failing is None else self.add_evidence(failing, row)

    def turn_output(self, row: GraphRow, output: Array) -> Array:
        """Return a row's output with the axes that its operator gives."""
        graph = self.state.reference.graph
        is_turned = is_signal(graph, graph.by_id[row.node], infer_axes(graph))
        return _turn_signal(output) if is_turned else output

    def build_statement(
        self, subject: str, row: GraphRow, floor: Floor, actual: Array
    ) -> FailingLayer | None:
        """Return a failure with both outputs, and of the subject only what it states."""
        reference = self.state.reference
        node = reference.graph.by_id[row.node]
        if node.id not in self._layers:
            self._layers.clear()
            layer = self._reference_layer(node)
            if layer is not None:
                # A layer whose inputs are not known yet may be found later.
                inputs = tuple(map(round_to_float32, layer.inputs))
                self._layers[node.id] = replace(layer, inputs=inputs)
        layer = self._layers.get(node.id)
        if node.outputs[0] not in self.reference_tensors:
            return None
        expected = self.reference_tensors[node.outputs[0]]
        is_opaque = layer is None
        if layer is None:
            layer = Layer("identity", (expected,))
        expected, actual = self.turn_output(row, expected), self.turn_output(row, actual)
        if expected.shape != actual.shape:
            layer, expected = fold_crop(reference.graph, node, layer, expected)
        floor = floor.for_precision(self.find_precision(subject, row.name))
        model = self.state.models[subject]
        own = find_main(model.graph, row.nodes.get(subject, ()))
        own_axes: tuple[int, ...] = ()
        pads_before = False
        if own is not None:
            pads_before = own.inputs != model.graph.by_id[own.id].inputs
            own_axes = list_own_axes(model.graph, own, infer_axes(model.graph))
            own = move_channels_first(model.graph, own, infer_axes(model.graph))
        return FailingLayer(
            row=Row(row.name, row.stage, row.kind, row.name, row.name, row.shape[1:]),
            subject=subject,
            framework=model.subject.runtime,
            reference_layer=layer,
            expected=expected,
            actual=np.asarray(actual, np.float64),
            floor=floor,
            limit=self.state.request.limit,
            is_opaque=is_opaque,
            subject_hyper=dict(own.hyper) if own is not None and own.kind == node.kind else {},
            label="" if own is None else f"{own.operation} `{locate(own)}`",
            own_axes=own_axes,
            pads_before=pads_before,
        )

    def add_evidence(self, failing: FailingLayer, row: GraphRow) -> FailingLayer:
        """Return a failure with all that a search may need: what is near, and what was read."""
        subject, layer, actual = failing.subject, failing.reference_layer, failing.actual
        node = self.state.reference.graph.by_id[row.node]
        model = self.state.models[subject]
        own = main_node(model.graph, row.nodes.get(subject, ()))
        stated = None
        if own is not None:
            as_sum = bool(layer.constants) and node.kind == "bias_add"
            stated = self._build_subject_layer(
                subject, row, own, actual, failing.floor, as_sum=as_sum
            )
        nearby = self._nearby(node, actual.shape)
        failing = replace(
            failing,
            subject_layer=stated,
            missing_input_layers=self._find_missing_input_layers(subject, node, layer),
            image_shape=self._image_shape(node, layer),
            reference_weights=self._weights_nearby(node),
            nearby_outputs=nearby,
            possible_inputs={
                name: round_to_float32(value)
                for shape in dict.fromkeys(each.shape for each in layer.inputs)
                for name, value in self._nearby(node, shape).items()
            },
            earlier_tensors=self._earlier_tensors(node, layer, failing.expected),
        )
        if own is None:
            return failing
        shared_calls, shared_weights = self._find_shared_weights(subject, node, own)
        known = self.subject_tensors.get(subject, {})
        misread = MisreadSearch(self.state, self.reference_tensors, known, subject, row)
        return replace(
            failing,
            unpaired_input_layers=self._find_unpaired_input_layers(subject, own),
            constant_source_weights=tuple(each.name for each in own.parameters),
            input_reshapes=list_input_reshapes(model.graph, own),
            misread_inputs=misread.find_inputs(node, own),
            misread_output=misread.find_output(node, own),
            computed_weights=self._find_computed_weights(subject, node, own),
            shared_calls=shared_calls,
            shared_weights=shared_weights,
            place=own.source,
        )

    def _find_shared_weights(
        self, subject: str, node: Node, own: Node
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return the rows that the subject computes with the same weights, the reference not.

        As `shared_calls` and `shared_weights` of a failing layer.
        """
        names, wanted = ({each.name for each in n.parameters} for n in (own, node))
        graph, by_id = self.state.models[subject].graph, self.state.reference.graph.by_id
        calls: dict[str, str] = {}
        others: dict[str, str] = {}
        for row in self.state.table.rows:
            other = main_node(graph, row.nodes.get(subject, ()))
            if other is None or not names or {each.name for each in other.parameters} != names:
                continue
            reference = {each.name for each in by_id[row.node].parameters}
            if other.id != own.id and reference and not reference & wanted:
                found = calls if are_calls_of_one_layer(graph, own, other) else others
                found[row.name] = other.source or locate(other)
        return calls, others

    def _find_computed_weights(self, subject: str, node: Node, own: Node) -> dict[str, Array]:
        """Return what a subject's operation reads as weights that either model computes."""
        if own.kind != node.kind or kinds.properties(node.kind).affine:
            return {}
        known = self.subject_tensors.get(subject, {})
        found: dict[str, Array] = {}
        for each in own.parameters:
            is_computed = each.role in own.constant_ids or each.role in node.constant_ids
            if not each.role or not is_computed:
                continue
            if each.role in own.constant_ids and own.constant_ids[each.role] not in known:
                continue
            values = self.state.load_weights(subject)
            found |= _read_weights(replace(own, parameters=(each,)), values, known)
        return found

    def _reference_layer(self, node: Node) -> Layer | None:
        """Return the reference's layer with its inputs, if it gives the reference's own output.

        A sum with what is computed from weights has that as an input, where the weights themselves
        do not give the output.
        """
        return self._evaluated_layer(node) or self._evaluated_layer(node, as_sum=True)

    def _evaluated_layer(self, node: Node, *, as_sum: bool = False) -> Layer | None:
        if kinds.find(node.kind) is None or not node.inputs or not node.outputs:
            return None
        padded = fold_padding(self.state.reference.graph, node)
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
            inputs = tuple(map(_turn_signal, inputs))
            expected = _turn_signal(expected)
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
                output_transforms=tuple(as_transform(each.apply) for each in moved),
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
            inputs = tuple(map(_turn_signal, inputs))
        values = self.state.load_weights(subject)
        weights = _read_weights(own, values, known)
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
                output_transforms=(as_transform(row.tensors[subject].apply),),
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
        if 0 in layer.constants:
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
        if not may_read_turned(node):
            return ()
        sizes = {each.size for each in (*layer.inputs, expected)}
        own_axes = kinds.properties(node.kind).own_axes
        found = []
        for tensor in list_tensors_before(self.state.reference.graph, node):
            if tensor not in self.reference_tensors:
                continue
            shape = self.reference_tensors.shape(tensor)
            size = math.prod(shape)
            if len(shape) < 3 or size not in sizes or size > MAX_VALUES:
                continue
            value = self.reference_tensors[tensor]
            value = restore_axes(self.state.reference.graph, tensor, value) if own_axes else value
            found.append(round_to_float32(value))
            if size * len(found) > _MAX_VALUES_OF_ALL:
                break
        return tuple(found)

    def _canonical_weights(self, node: Node) -> dict[str, Array]:
        if node.id not in self._canonical:
            values = self.state.load_weights(self.state.reference.subject.name)
            self._canonical[node.id] = _read_weights(node, values, self.reference_tensors)
        return self._canonical[node.id]

    def read_subject_weights(
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
        main = main_node(self.state.models[subject].graph, row.nodes.get(subject, ()))
        computed: set[str] = set()
        if not kinds.properties(node.kind).affine:
            computed = {*node.constant_ids, *(main.constant_ids if main is not None else ())}
        for each in node.parameters:
            if not each.role or each.role in computed:
                continue
            with contextlib.suppress(ValueError, WeightError):
                gathered = gather_weight(alignment, each.name, own, base[each.name].shape)
                if gathered is not None:
                    values[each.role] = to_canonical_weight(node.kind, each, gathered[0])
                    names[each.role] = gathered[1]
        return values, names

    def find_weight_sources(
        self, row: GraphRow, values: Mapping[str, Array]
    ) -> dict[str, tuple[str, str]]:
        """Return the weights of the reference that a subject's weights of a row equal, by role.

        As (name, the one that it should be), where these are two with other values. `values` are
        the subject's in canonical axes.
        """
        reference = self.state.reference
        base = self.state.load_weights(reference.subject.name)
        names = {each.role: each.name for each in reference.graph.by_id[row.node].parameters}
        found = {}
        for role, value in values.items():
            wanted = names.get(role)
            if wanted is None or value.ndim < 2 or np.ptp(value) == 0:
                continue
            equal = [name for name, other in base.items() if _are_equal_weights(value, other)]
            if equal and wanted not in equal:
                found[role] = equal[0], wanted
        return found

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

    def build_inner(
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

    def shape_of(self, subject: str, tensor: str) -> tuple[int, ...]:
        """Return the shape of a subject's tensor in its own axes."""
        return tuple(self.state.models[subject].graph.tensors[tensor].shape)

    def move_channels_first(self, subject: str, row: GraphRow, actual: Array) -> Array:
        """Return a subject's tensor of a row, in the axes of the comparison, channels first."""
        point, graph = row.tensors[subject], self.state.models[subject].graph
        array = point.invert(actual, graph.tensors[point.tensor].shape)
        for rearrangement in channels_first(infer_axes(graph).get(point.tensor, "")):
            array = rearrangement.apply(array)
        return np.asarray(array, np.float64)


def _turn_signal(array: Array) -> Array:
    """Return a signal with its channels and its times exchanged; a mean over time as it is."""
    return array.swapaxes(1, 2) if array.ndim > 2 else array


def _read_weights(
    node: Node, values: Mapping[str, Array], known: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the weights of an operation by role, in canonical axes.

    One that is computed of others, as a kernel that is masked or normalised, is what a run had, if
    that is among the `known` tensors. What adds or multiplies by a table has it as a constant.
    """
    found = {}
    ids = {} if kinds.properties(node.kind).affine else node.constant_ids
    for each in node.parameters:
        computed = ids.get(each.role, "")
        if each.role and computed in known:
            found[each.role] = to_canonical_weight(node.kind, each, np.asarray(known[computed]))
        elif each.role and each.name in values:
            found[each.role] = to_canonical_weight(node.kind, each, values[each.name])
    return found


def _are_equal_weights(first: Array, second: Array) -> bool:
    """Return whether a weight is another one, or that transposed."""
    turned = (second, second.T) if second.ndim == 2 else (second,)
    return any(each.shape == first.shape and np.allclose(first, each, rtol=1e-6, atol=0.0)
               for each in turned)  # fmt: skip


def may_read_turned(node: Node) -> bool:
    """Return whether an operation may read or give features that were turned by their positions.

    Those that join branches, as attention and sums do, and those without a kind.
    """
    kind = kinds.find(node.kind)
    return kind is None or kind.joins_branches


def as_transform(change: Callable[[Any], Any]) -> Transform:
    """Return a change of axes as a transform of float64 tensors."""
    return lambda array: np.asarray(change(array), np.float64)


def are_calls_of_one_layer(graph: Graph, first: Node, second: Node) -> bool:
    """Return whether two operations with the same weights are two calls of the layer that has them.

    Not if the weights of one layer are another's as well, and not if a layer of the user's reads
    them at two of its lines, which may be one call.
    """
    path = first.path
    if not path or second.path != path:
        return False
    if not all(each.name.startswith((f"{path}.", f"{path}/")) for each in first.parameters):
        return False
    inside = [node for node in graph.nodes if node.path.startswith(path)
              and node.path[len(path) :][:1] in ("", ".", "/")]  # fmt: skip
    calls = {node.source for node in inside if node.parameters == first.parameters}
    # The line of a framework's layer is that of its call, for all that it computes.
    return first.source == second.source or all(node.source in calls for node in inside)


def find_main(graph: Graph, ids: Sequence[str]) -> Node | None:
    """Return the main operation of a row with the padding before it as its own; None for no row.

    Of a padding and a pool it is the pool.
    """
    own = main_node(graph, ids)
    if own is None or own.kind != "pad":
        return None if own is None else fold_padding(graph, own)
    readers = [node for node in graph.consumers.get(own.outputs[0], ()) if node.id in ids]
    folded = [fold_padding(graph, node) for node in readers]
    return next((node for node in folded if node.inputs[0] == own.inputs[0]), own)
