"""Explaining a comparison: a case of every wrong layer, and what comes out of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.request import runtime_of, side_of
from parity.comparison.runner import Runner
from parity.comparison.state import State
from parity.errors import ParityError
from parity.explain import engine
from parity.explain.findings import Finding, Wrong, close
from parity.explain.graphs import ExactGraphs
from parity.explain.proof import extra, fingerprint, inputs
from parity.explain.proof.case import Case
from parity.explain.proof.layer import Array, Layer
from parity.explain.proof.search import Explanation
from parity.network import kinds, weights
from parity.network.table import LayerTable, Row, parse_torch_point
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.verdict import StageResult
from parity.processes import registry
from parity.processes.subjects import is_model_of, runs_graph

NETWORK_INPUT = "input"

_NEAR = 4
"""How many rows before and behind a layer are looked at for what it may have to do with."""

SECONDS = 2.0
"""What explaining may take beyond the single candidates, shared by all wrong layers."""


class Study:
    """The captures of isolated layers, open for reading, and what the models say of themselves."""

    def __init__(
        self, state: State, table: LayerTable, runner: Runner,
        reference: CaptureReader, subjects: Mapping[str, CaptureReader],
        *, limit: float, stages: Sequence[StageResult] = (),
    ) -> None:  # fmt: skip
        self.state = state
        self.request = state.request
        self.runner = runner
        self.reference = reference
        self.subjects = subjects
        self.limit = limit
        self.stages = stages
        self.exact = ExactGraphs(runner, table, reference.path, list(reference.names))
        self.table = table
        self._layers: dict[str, Layer | None] = {}
        self._carried: dict[str, Floor] = {}
        self._tensors: dict[str, Array] = {}
        self._again: dict[str, Path | None] = {}
        self._image: Array = np.load(runner.input).astype(np.float64)
        assert state.weights is not None, "a reference that has run has weights"
        values = weights.load(state.weights, self.table)
        self._weights: dict[str, dict[str, Array]] = {
            row.name: _by_role(row, values) for row in self.table.rows if row.weights
        }

    def explain(self, wrong: Sequence[Wrong]) -> list[Finding]:
        """Every wrong layer's cause; a graph's after its model's, whose cause it may share."""
        found: list[Finding] = []
        share = SECONDS / max(len(wrong), 1)
        for item in sorted(wrong, key=lambda item: runs_graph(item.subject)):
            case = self.case(item)
            if case is None:
                found.append(Finding(item, None, None))
                continue
            explanation = self._inherited(case, item, found) or self._extra(case, item)
            explanation = explanation or engine.explain(
                case, seconds=share, ask=partial(self._asked, case, item)
            )
            if explanation.found is None and self._exporter_differs(case, item):
                exact = self.exact.read(item.subject, item.row.name)
                if exact is not None:
                    given = self.request.graph_file(side_of(item.subject)) is not None
                    heard = replace(case, exact=exact, given=given)
                    explanation = engine.last(heard) or explanation
            changes = explanation.found is None and self._changes(item)
            found.append(Finding(item, case, explanation, changes))
        return found

    def _changes(self, wrong: Wrong) -> bool:
        """Whether the subject gives this row other values when it is fed the same again."""
        name, first = wrong.subject, self.subjects[wrong.subject]
        if name not in self._again:
            self._again[name] = self._run_again(name, first)
        path = self._again[name]
        if path is None:
            return False
        with CaptureReader(path) as again:
            one, other = (np.asarray(r.read(wrong.row.name)) for r in (first, again))
            # A card may sum in another order each time, which is no more than rounding.
            return not close(one, other, wrong.floor, self.limit)

    def _run_again(self, name: str, first: CaptureReader) -> Path | None:
        if first.read(first.names[0]).dtype == np.float64:
            # Run in float64 to see what float32 hides: there is another way to run that.
            return None
        try:
            feed = self.reference.path
            return self.runner.run_subject(name, list(first.names), "again", feed=feed).path
        except ParityError:
            # That it cannot be run any more is no sign of the layer's.
            return None

    def _exporter_differs(self, case: Case, wrong: Wrong) -> bool:
        """Whether a graph is known to compute another layer than the model it was exported from."""
        if not runs_graph(wrong.subject):
            return False
        model = self._model_of(wrong.subject)
        if model is None:
            # Only the reference is known to be right without having been compared.
            return side_of(wrong.subject) == self.request.reference_side
        return model not in self.subjects or not self.same(wrong.subject, wrong.row, wrong.floor)

    def _model_of(self, graph: str) -> str | None:
        """The subject whose model a graph was exported from, if one was compared."""
        return next((name for name in self.state.subjects if is_model_of(name, graph)), None)

    def same(self, graph: str, row: Row, floor: Floor) -> bool:
        """Whether a graph's layer is its model's to within rounding, whatever explains it."""
        held = [self.subjects.get(name) for name in (graph, self._model_of(graph) or "")]
        if any(reader is None or row.name not in reader for reader in held):
            return False
        one, other = (np.asarray(reader.read(row.name)) for reader in held if reader is not None)
        return close(one, other, floor, self.limit)

    def case(self, wrong: Wrong) -> Case | None:
        """All that is known of a wrong layer; None if the reference's cannot be run alone."""
        row = wrong.row
        if row.name not in self._layers:
            self._layers[row.name] = self._reference_layer(row)
        layer = self._layers[row.name]
        if layer is None or row.name not in self.subjects[wrong.subject]:
            return None
        expected = self._tensor(row.name)
        actual = np.asarray(self.subjects[wrong.subject].read(row.name))
        exact = actual.dtype == np.float64
        if not exact:
            # The subject was fed the reference's tensors rounded to float32.
            layer = replace(layer, inputs=tuple(_rounded(tensor) for tensor in layer.inputs))
        actual = actual.astype(np.float64)
        described = self._description(wrong.subject, row)
        return Case(
            row=row,
            subject=wrong.subject,
            framework="onnx" if runs_graph(wrong.subject) else side_of(wrong.subject),
            layer=layer,
            expected=expected,
            actual=actual,
            floor=wrong.floor,
            fingerprint=fingerprint.read(
                actual,
                expected,
                floor=wrong.floor.max_abs,
                groups=int(layer.hyper.get("groups", 1)),
            ),
            limit=self.limit,
            settings=described.get("hyper", {}),
            label=self._label(wrong.subject, row, described),
            weights=self._weights,
            recovers=self._recovers(wrong),
            flattened=self._flattened(row, layer),
            readable=self._readable(row, layer, exact=exact),
            **self._alike(wrong.subject, row, actual.shape),
        )

    def _recovers(self, wrong: Wrong) -> bool:
        """Whether everything that was compared behind this row, unfed, is right again.

        As a whole: one value of a long sum that is off by its rounding is no echo of this row.
        """
        order = {row.name: index for index, row in enumerate(self.table.rows)}
        behind = [
            stage.subjects[wrong.subject]
            for stage in self.stages
            if order[stage.row] > order[wrong.row.name] and wrong.subject in stage.subjects
        ]
        return bool(behind) and all(result.x_floor <= self.limit for result in behind)

    def _reference_layer(self, row: Row) -> Layer | None:
        side = self.request.reference_side
        hyper = self._described(side, row).get("hyper", {})
        order = [NETWORK_INPUT, *(name.name for name in self.table.rows)]
        before = order[: order.index(row.name)]
        earlier = [name for name in before if name == NETWORK_INPUT or name in self.reference]
        return inputs.find(
            row.kind,
            self._tensor(row.name),
            earlier,
            self._tensor,
            hyper=hyper,
            weights=self._weights.get(row.name, {}),
        )

    def _tensor(self, name: str) -> Array:
        if name == NETWORK_INPUT:
            return self._image
        if name not in self._tensors:
            tensor: Array = self.reference.read(name).astype(np.float64)
            self._tensors[name] = tensor
        return self._tensors[name]

    def _alike(self, subject: str, row: Row, shape: tuple[int, ...]) -> dict[str, Any]:
        """The reference's tensors of this shape around the row: what may have been read instead.

        Those of the other calls of the same layer object are among them, wherever they are.
        """
        order = [other.name for other in self.table.rows if other.name in self.reference]
        here = order.index(row.name)
        calls = self._calls(subject, row)
        near = order[max(here - _NEAR, 0) : here] + order[here + 1 : here + 1 + _NEAR]
        near += [name for name in calls if name in order and name not in near]
        alike = {name: self._tensor(name) for name in near if self.reference.shape(name) == shape}
        behind = tuple(name for name in alike if order.index(name) > here)
        # A graph's nodes write to tensors of their own, and so do Keras's layers.
        writes = registry.get(runtime_of(subject)).writes_in_place
        in_place = tuple(name for name in behind if writes and self._in_place(subject, name))
        return {"tensors": alike, "behind": behind, "calls": calls, "in_place": in_place}

    def _readable(self, row: Row, layer: Layer, *, exact: bool) -> dict[str, Array]:
        """The reference's tensors around the row, as the subject was fed them, that fit an input.

        Those that the layer does read are among them.
        """
        order = [NETWORK_INPUT, *(o.name for o in self.table.rows if o.name in self.reference)]
        here = order.index(row.name)
        # A sum reads from in front of its whole block, and takes no time to try.
        back = 3 * _NEAR if kinds.joins_branches(row.kind) else _NEAR
        near = order[max(here - back, 0) : here] + order[here + 1 : here + 1 + _NEAR]
        shapes = {tensor.shape for tensor in layer.inputs}
        found = {}
        for name in near:
            shape = self._image.shape if name == NETWORK_INPUT else self.reference.shape(name)
            if shape in shapes:
                tensor = self._tensor(name)
                found[name] = tensor if exact else _rounded(tensor)
        return found

    def _in_place(self, subject: str, name: str) -> bool:
        return bool(self._description(subject, self.table.by_name(name)).get("in_place"))

    def _flattened(self, row: Row, layer: Layer) -> tuple[int, ...] | None:
        """The image that a dense layer's input is flattened from, if it stands just before it."""
        if row.kind != "dense" or layer.inputs[0].ndim != 2:
            return None
        order = [NETWORK_INPUT, *(other.name for other in self.table.rows)]
        given = layer.inputs[0].astype(np.float32)
        for name in reversed(order[: order.index(row.name)][-_NEAR:]):
            if name != NETWORK_INPUT and name not in self.reference:
                continue
            image = self._tensor(name)
            flat = image.reshape(len(image), -1)
            if image.ndim == 4 and np.array_equal(flat.astype(np.float32), given):
                return image.shape[1:]
        return None

    def _calls(self, subject: str, row: Row) -> tuple[str, ...]:
        """The rows that are other calls of this row's layer object, by the table."""
        if runs_graph(subject):
            # A graph has nodes, each of them run once.
            return ()
        side = side_of(subject)
        own = _object(row, side)
        return tuple(
            other.name
            for other in self.table.rows
            if own and other.name != row.name and _object(other, side) == own
        )

    def _layers_of(self, name: str) -> Sequence[Mapping[str, Any]]:
        """What a side's model says of its layers, or that of a subject with a child of its own."""
        state = self.state
        found = state.further_descriptions.get(name) or state.descriptions.get(name, {})
        layers: Sequence[Mapping[str, Any]] = found.get("layers", ())
        return layers

    def _described(self, name: str, row: Row) -> Mapping[str, Any]:
        return next((layer for layer in self._layers_of(name) if layer["row"] == row.name), {})

    def _description(self, subject: str, row: Row) -> Mapping[str, Any]:
        """What the subject says of its layer: nothing, where it runs a graph from a file."""
        side = side_of(subject)
        if runs_graph(subject) and self.request.graph_file(side) is not None:
            return {}
        return self._described(subject if subject in self.state.further_descriptions else side, row)

    def _label(self, subject: str, row: Row, described: Mapping[str, Any]) -> str:
        if runs_graph(subject):
            return f"the node that makes `{self.table.tensor_name(row)}`"
        kind = described.get("class") or row.kind
        return f"{kind} `{described.get('name') or getattr(row, side_of(subject))}`"

    def _asked(self, case: Case, wrong: Wrong) -> Case:
        """The case with the weights that the subject holds in this layer."""
        if not runs_graph(wrong.subject):
            return replace(case, held=self._held(wrong))
        try:
            values, names = self.runner.node_weights(wrong.subject, wrong.row.name)
        except ParityError:
            # A graph that cannot be read so is asked nothing more.
            values, names = {}, {}
        return replace(case, held=values, names=names)

    def _held(self, wrong: Wrong) -> dict[str, Array]:
        """The weights that the subject's own model holds in this layer."""
        try:
            path = self.runner.dump_weights(wrong.subject)
            held = self.table.select_side(side_of(wrong.subject))
            return _by_role(wrong.row, weights.load(path, held))
        except ParityError:
            # A model that holds NaN, say: its weights are told at their own level.
            return {}

    def _extra(self, case: Case, wrong: Wrong) -> Explanation | None:
        """That layers which only the subject has are why a sum differs, if they are."""
        if wrong.row.kind != "add" or runs_graph(wrong.subject):
            return None
        own = wrong.subject in self.state.further_descriptions
        described = self._layers_of(wrong.subject if own else side_of(wrong.subject))
        layers = extra.beside(wrong.row, described)
        if not layers:
            return None
        try:
            rows = extra.rows_of(layers)
            dump = self.runner.dump_rows(wrong.subject, rows, wrong.row.name)
            table, values = dump.table, weights.load(dump.path, dump.table)
        except ParityError:
            # Layers whose weights cannot be had (a NaN, say) prove nothing.
            return None
        proof = extra.explain(case, extra.chain(layers, table, values))
        if proof is None:
            return None
        explanation, self._carried[wrong.row.name] = proof
        return explanation

    def _inherited(self, case: Case, wrong: Wrong, found: Sequence[Finding]) -> Explanation | None:
        """The cause of this layer in the model that the graph was exported from, if it holds."""
        for other in found:
            same = other.wrong.row == wrong.row and is_model_of(other.wrong.subject, wrong.subject)
            if not same or other.explanation is None or other.explanation.found is None:
                continue
            floor = self._carried.get(wrong.row.name, case.floor)
            applied = other.explanation.found.candidates
            trial = engine.attempt(replace(case, floor=floor), applied)
            if trial is not None and trial.after <= case.limit:
                return Explanation(wrong.x_floor, trial)
        return None


@contextlib.contextmanager
def open_study(
    state: State,
    table: LayerTable,
    runner: Runner,
    reference: Path,
    subjects: Mapping[str, Path],
    *,
    limit: float,
    stages: Sequence[StageResult] = (),
) -> Iterator[Study]:
    """A study of captures on disk."""
    with contextlib.ExitStack() as stack:
        readers = {
            name: stack.enter_context(CaptureReader(path)) for name, path in subjects.items()
        }
        held = stack.enter_context(CaptureReader(reference))
        yield Study(state, table, runner, held, readers, limit=limit, stages=stages)


def _by_role(row: Row, values: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    return {weight.role: np.asarray(values[weight.name]) for weight in row.weights}


def _object(row: Row, side: str) -> str:
    """The layer object that makes a row, without the number of its call; none for its input."""
    if side == "keras":
        return row.keras.partition("#")[0]
    point = parse_torch_point(row.torch) if row.torch else None
    return "" if point is None or point.is_input else point.module


def _rounded(tensor: Array) -> Array:
    return tensor.astype(np.float32).astype(np.float64)
