"""The search for operations that differ, by runs of the reference with a few tensors replaced.

It looks at rows that no cause explains, or only numbers that were fitted to them. Where the graphs
of both sides differ in a few operations, the reference is run with what the subject has in their
place: they are the cause if the row's output then is the subject's, on both inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.layout import (
    channels_first,
    list_own_axes,
    move_channels_first,
    restore_axes_of,
)
from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import (
    TRAINING_ONLY,
    compare_settings,
    fold_padding,
)
from parity.comparison.graphs.weights import transfer_weights
from parity.errors import ParityError
from parity.explain.proof import tables
from parity.explain.proof.arithmetic import Change, Operand, read_change
from parity.explain.proof.exchanges import Exchange, find_exchange
from parity.explain.proof.movements import Chain, Movement, Places, code_ends, read_places
from parity.explain.proof.region import (
    Matches,
    Region,
    agree,
    list_arrangements,
    rearrange,
)
from parity.explain.proof.region_statements import (
    DifferenceType,
    RegionProof,
    compare_constants,
    describe_difference,
    describe_opposite,
    join_input_orders,
)
from parity.explain.proof.region_walk import Fragment, RegionWalk, SettingDifference, Substitution
from parity.explain.proof.search import measure_in_floors
from parity.explain.region_runs import INPUTS, RegionRuns
from parity.network import kinds
from parity.network.alignment import infer_axes
from parity.network.graph import Graph, Node
from parity.network.graph_weights import to_canonical_weight
from parity.numerics.floor import Floor
from parity.processes.graph_requests import TensorPoint

Array = NDArray[Any]

MAX_ROUNDS = 8
"""The times that the reference is run with edits, for all rows together."""

MAX_MOVEMENTS = 4
"""The times that one row is run with numbers in the place of values, on both sides."""

MAX_OPPOSITES = 6
"""The operations of one row whose opposites are tried in the subject."""

MAX_ROWS = 16
"""The rows of one subject that are looked at."""

MAX_VALUES = 1 << 22
"""The values of all tensors of the regions of one side, of all rows together."""

MAX_FED = 1 << 25
"""The values of the rows that every run is given: more are not run again."""

MAX_RUN_VALUES = 1 << 29
"""About the values that the reference's operations give in all rounds; two are always run."""

_BY_RUN = "With this difference made in the reference, on {inputs}"
_BY_ORDER = "With the two exchanged in the reference, on {inputs}"
_BY_OPPOSITE = "With that in its place it gives the reference's output, on {inputs}"
_BY_INPUTS = "Given the reference's inputs it gives another output, on {inputs}"


@dataclass(frozen=True)
class Trial:
    """A run of the reference with some tensors replaced, on both inputs."""

    edits: Mapping[str, tuple[Array, Array]]
    tensor: str = ""
    """The tensor that is read, in the reference's own axes; "" for the row's output."""


Outputs = Sequence[Array]
"""The reference's output at a row, on both inputs."""


@dataclass(frozen=True)
class RegionRow:
    """A row to explain, with the floor of the subject's precision there."""

    row: GraphRow
    floor: Floor
    limit: float


def explain_regions(
    state: GraphState, runs: RegionRuns, rows: Sequence[RegionRow]
) -> dict[str, RegionProof]:
    """Return the proofs of rows of one subject, by row, of those that have one.

    Raises the `ParityError` of a run.
    """
    name, subject = state.reference.subject.name, runs.subject
    graphs = {each: _fold_paddings(graph) for each, graph in
              ((name, state.reference.graph), (subject, state.models[subject].graph))}  # fmt: skip
    fed = {each: runs.find_fed(each) for each in graphs}
    if runs.count_fed() > MAX_FED:
        return {}
    chosen, wanted = [], {each: dict[str, None]() for each in graphs}
    left = dict.fromkeys(graphs, MAX_VALUES)
    for each in rows[:MAX_ROWS]:
        regions = {
            side: Region(graph, each.row.tensors[side].tensor, fed[side], ({}, {}))
            for side, graph in graphs.items()
        }
        if not _have_operations(regions[name], regions[subject]):
            continue
        sizes = {side: _count_values(region) for side, region in regions.items()}
        if any(size > left[side] for side, size in sizes.items()):
            continue
        left = {side: left[side] - size for side, size in sizes.items()}
        chosen.append((each, regions))
        for side, region in regions.items():
            constants = (t for node in region.nodes for t in node.constant_ids.values())
            wanted[side].update(dict.fromkeys((*region.tensors, *constants)))
    if not chosen:
        return {}
    values = {side: runs.read(side, wanted[side]) for side in graphs}
    searches = {
        each.row.name: _search_row(state, runs, each, regions, values) for each, regions in chosen
    }
    found = {each.row.name: sides[name] for each, sides in chosen}
    rounds = _count_rounds(state.reference.graph)
    return _run_searches(runs, name, searches, found, rounds)


def _count_rounds(graph: Graph) -> int:
    """Return how often the reference may be run with edits: fewer times if it is large."""
    values = sum(int(np.prod(tensor.shape)) for tensor in graph.tensors.values())
    return min(MAX_ROUNDS, max(MAX_RUN_VALUES // max(INPUTS * values, 1), 2))


def _have_operations(reference: Region, subject: Region) -> bool:
    """Return whether regions may differ in their operations; two that are too long do not."""
    return bool(reference.nodes) and bool(subject.nodes)


def _count_values(region: Region) -> int:
    shapes = (region.graph.tensors[t].shape for t in region.tensors if t in region.graph.tensors)
    return sum(int(np.prod(shape)) for shape in shapes)


def _fold_paddings(graph: Graph) -> Graph:
    """Return a graph whose operations pad what they read themselves, where they may."""
    return replace(graph, nodes=tuple(fold_padding(graph, node) for node in graph.nodes))


def _run_searches(
    runs: RegionRuns,
    name: str,
    searches: Mapping[str, Generator[Trial, Outputs, RegionProof | None]],
    regions: Mapping[str, Region],
    rounds: int,
) -> dict[str, RegionProof]:
    """Run the trials of all rows side by side, each round one of every row that others allow."""
    found: dict[str, RegionProof] = {}
    waiting: dict[str, Trial] = {}

    def advance(row: str, outputs: Outputs | None) -> None:
        waiting.pop(row, None)
        try:
            waiting[row] = next(searches[row]) if outputs is None else searches[row].send(outputs)
        except StopIteration as end:
            if end.value is not None:
                found[row] = end.value
        except Exception:  # noqa: BLE001 - the other rows are looked at
            return

    def try_together(rows: Sequence[str]) -> None:
        """Run the trials of some rows; where the reference fails with them, each by itself."""
        trials = [waiting[row] for row in rows]
        edits = {tensor: pair for each in trials for tensor, pair in each.edits.items()}
        try:
            outputs = runs.read(name, [each.tensor for each in trials if each.tensor], edits)
        except ParityError:
            if len(rows) == 1:
                # Indices of another table, for example: this row has no proof.
                del waiting[rows[0]]
                return
            for row in rows:
                try_together([row])
            return
        for row, trial in zip(rows, trials, strict=True):
            advance(row, [values[trial.tensor or row] for values in outputs])

    for row in searches:
        advance(row, None)
    for _ in range(rounds):
        if not waiting:
            break
        together: list[str] = []
        for row, trial in waiting.items():
            others = [(regions[each], waiting[each]) for each in together]
            if not any(
                trial.edits.keys() & {*region.tensors}
                or other.edits.keys() & {*regions[row].tensors}
                for region, other in others
            ):
                together.append(row)
        try_together(together)
    return found


def _search_row(
    state: GraphState,
    runs: RegionRuns,
    each: RegionRow,
    regions: Mapping[str, Region],
    values: Mapping[str, Sequence[Mapping[str, Array]]],
) -> Generator[Trial, Outputs, RegionProof | None]:
    """Yield what to replace in the reference; return the proof of a row, or None."""
    name, subject, row = state.reference.subject.name, runs.subject, each.row
    sides = {side: _with_values(runs, side, regions[side], values[side]) for side in regions}
    partners = {r.tensors[name].tensor: r.tensors[subject].tensor for r in
                (state.table.by_name(known) for known in runs.rows) if r is not row}  # fmt: skip
    matches = Matches(sides[name], sides[subject], partners)
    weights = state.load_weights(name), state.load_weights(subject)
    compare = _Comparison(sides[name], sides[subject], weights)
    groups = {node: (pair.reference, pair.other)
              for pair in state.alignments[subject].pairs for node in pair.reference}  # fmt: skip
    most = min(MAX_MOVEMENTS, _count_rounds(state.reference.graph))
    movements = _MovementRuns(runs, name, row.name, sides[name], sides[subject], most)
    evaluate = partial(_evaluate, sides[name], weights[0])
    walk = RegionWalk(
        sides[name], sides[subject], matches, compare, groups, movements, evaluate,
        compare.read_change,
    )  # fmt: skip
    movements.walk = walk
    actual = [known[row.name] for known in values[subject]]

    # Whole numbers, as of tokens, are the same in both runs.
    is_second = not np.array_equal(actual[0], actual[1], equal_nan=True)
    inputs = "this and a second input" if is_second else "this input"

    def measure(outputs: Outputs) -> list[float]:
        return [
            measure_in_floors(own, output, each.floor, each.limit)
            for own, output in zip(actual, outputs, strict=True)
        ]

    turn = find_turn(row.tensors[subject], actual[0].shape)

    def fit(outputs: Outputs) -> Outputs:
        """Return outputs in the order of features that the comparison has, if they then agree."""
        if turn is None or max(measure(outputs)) <= each.limit:
            return outputs
        turned = [np.asarray(turn(output), np.float64) for output in outputs]
        return turned if max(measure(turned)) <= each.limit else outputs

    exchange = find_exchange(walk)
    if exchange is not None:
        method = _BY_ORDER.format(inputs=inputs)
        outputs = yield from _exchange(walk, exchange)
        if max(measure(outputs)) <= each.limit:
            return RegionProof((exchange.describe(),), outputs[0], method)
        before = walk.arrange(exchange.find_edit()) if exchange.may_have_own_weights() else None
        if before is not None:
            outputs = yield Trial({exchange.find_edit().reference: before})
            if max(measure(outputs)) <= each.limit:
                statement = exchange.describe(has_own_weights=True)
                return RegionProof((statement,), outputs[0], method)
    if walk.differs_behind_mask():
        return RegionProof((), actual[0], _BY_INPUTS.format(inputs=inputs), is_measured=False)
    for edits in walk.list_hypotheses():
        statements = [describe_difference(walk, edit) for edit in edits]
        if any(statement is None for statement in statements):
            continue
        if not all(_has_equal_weights(state, walk, edit, subject) for edit in edits):
            continue
        sentences = {edit: s for edit, s in zip(edits, statements, strict=True) if s is not None}
        if edits[0].reference == sides[name].output:
            if _is_doubtful(walk, edits[0], sentences[edits[0]].form):
                continue
            wanted = sides[name].values[0].get(sides[name].output, actual[0])
            if (
                actual[0].size != wanted.size
                and sentences[edits[0]].form is not DifferenceType.SETTING
            ):
                # What is behind may make up for the shape.
                continue
            method = _BY_INPUTS.format(inputs=inputs)
            return RegionProof(tuple(sentences.values()), actual[0], method, is_measured=False)
        replaced = {edit: walk.arrange(edit) for edit in edits}
        trial = {e.reference: value for e, value in replaced.items() if value is not None}
        if len(trial) < len(edits):
            continue
        outputs = fit((yield Trial(trial)))
        if max(measure(outputs)) > each.limit:
            continue
        kept = list(edits)
        for edit in edits:
            rest = {e.reference: trial[e.reference] for e in kept if e != edit}
            if not rest:
                continue
            without = fit((yield Trial(rest)))
            if max(measure(without)) <= each.limit:
                kept.remove(edit)
                outputs = without
        found = join_input_orders(walk, {edit: sentences[edit] for edit in kept})
        return RegionProof(found, outputs[0], _BY_RUN.format(inputs=inputs))
    wanted_outputs = [known[row.name] for known in values[name] if row.name in known]
    if len(wanted_outputs) < INPUTS:
        return None
    proof = _find_opposite(runs, walk, each, wanted_outputs, _BY_OPPOSITE.format(inputs=inputs))
    return None if proof is None else replace(proof, output=actual[0])


def _find_opposite(
    runs: RegionRuns, walk: RegionWalk, each: RegionRow, wanted: Outputs, method: str
) -> RegionProof | None:
    """Return the arithmetic of the subject whose opposite gives the reference's output, if any.

    The two sides may be written so differently that no other of their tensors are the same: a
    complex product, and its parts. The subject is run with the opposite in the operation's place.
    """
    whole = Substitution(walk.reference.output, walk.subject.output)
    tried = 0
    for node in walk.read_fragments(whole)[1].nodes:
        kind = kinds.properties(node.kind)
        sign = _OPPOSITES.get(kind.python_operator, "")
        named = (k for k in kinds.registry().values() if k.python_operator == sign)
        opposite = next(named, None)
        if opposite is None or len(node.inputs) != 2 or not sign:
            continue
        orders = [(0, 1)] if kind.ordered else [(0, 1), (1, 0)]
        for order in orders:
            changed = []
            for values in walk.subject.values:
                operands = [values[node.inputs[at]] for at in order if node.inputs[at] in values]
                if len(operands) == 2:
                    with np.errstate(all="ignore"):
                        changed.append(kinds.evaluate(opposite.name, operands, {}, {}))
            if len(changed) < INPUTS or tried >= MAX_OPPOSITES:
                continue
            tried += 1
            try:
                found = runs.read(runs.subject, (), {node.outputs[0]: changed})
            except ParityError:
                continue
            outputs = [values[each.row.name] for values in found if each.row.name in values]
            if len(outputs) == INPUTS and all(
                measure_in_floors(own, output, each.floor, each.limit) <= each.limit
                for own, output in zip(outputs, wanted, strict=True)
            ):
                statement = describe_opposite(node, opposite.name)
                return RegionProof((statement,), outputs[0], method, is_measured=False)
    return None


_OPPOSITES = {"+": "-", "-": "+", "*": "/", "/": "*"}


def find_turn(point: TensorPoint, shape: tuple[int, ...]) -> Callable[[Array], Array] | None:
    """Return what gives a row's features the reference's order, if the comparison does that.

    An order of features within an axis may be what a row is right for, or what is wrong with it.
    """
    if len(point.rearrangements) != 1 or not point.rearrangements[0].split:
        return None
    try:
        is_within = point.rearrangements[0].infer_shape(shape) == shape
    except ValueError:
        return None
    return point.apply if is_within else None


def _evaluate(
    region: Region, weights: Mapping[str, Array], node: Node, changes: Mapping[str, Any]
) -> list[Array] | None:
    """Return what an operation gives with some settings changed, on both inputs."""
    canonical = {
        each.role: to_canonical_weight(node.kind, each, weights[each.name])
        for each in node.parameters
        if each.role and each.name in weights
    }
    found = []
    for values in region.values:
        if any(tensor not in values for tensor in node.inputs) or node.constants:
            return None
        inputs = [values[tensor] for tensor in node.inputs]
        try:
            with np.errstate(all="ignore"):
                found.append(
                    kinds.evaluate(node.kind, inputs, canonical, {**node.hyper, **changes})
                )
        except (ValueError, KeyError, IndexError, TypeError):
            return None
    return found


def _exchange(walk: RegionWalk, exchange: Exchange) -> Generator[Trial, Outputs, Outputs]:
    """Yield the runs of the reference with two operations in the other order; return its output."""
    first, second = (values[exchange.source] for values in walk.reference.values)
    before, behind = exchange.reference
    if not exchange.is_behind:
        return (yield Trial({before.outputs[0]: (first, second)}))
    one, two = yield Trial({before.outputs[0]: (first, second)}, behind.outputs[0])
    return (yield Trial({before.inputs[0]: (one, two)}))


def _is_doubtful(walk: RegionWalk, edit: Substitution, form: DifferenceType) -> bool:
    """Return whether a difference that ends at the row itself, where no run proves it, is doubtful.

    Of two operations that do the same, what they read was put into the reference, and it did not
    give the subject's output.
    """
    if form is DifferenceType.OTHER:
        # Several may be another way of writing the same ones, behind what no graph shows.
        return (
            walk.has_equal_producers(edit)
            or max(map(_count_operations, walk.read_fragments(edit))) > 1
        )
    return form is DifferenceType.TENSOR


def _count_operations(fragment: Fragment) -> int:
    return len(fragment.nodes)


def _with_values(
    runs: RegionRuns, side: str, region: Region, values: Sequence[Mapping[str, Array]]
) -> Region:
    """Return a region with its values: where it ends, those that every run is given."""
    first, second = (
        {**known, **runs.read_fed(side, number, without=region.output)}
        for number, known in enumerate(values)
    )
    order = infer_axes(region.graph)

    def move_channels(tensor: str, value: Array) -> Array:
        for rearrangement in channels_first(order.get(tensor, "")):
            value = rearrangement.apply(value)
        return value

    return replace(region, values=(first, second), move_channels=move_channels)


def _has_equal_weights(
    state: GraphState, walk: RegionWalk, edit: Substitution, subject: str
) -> bool:
    """Return whether the subject's fragment has the reference's weights, if both have any.

    Each must be what its partners in the reference make it.
    """
    if not edit.subject:
        return True
    names = [
        {each.name for node in fragment.nodes for each in node.parameters}
        - {name for node in fragment.nodes for name in _name_tables(node)}
        for fragment in walk.read_fragments(edit)
    ]
    if not all(names):
        return True
    own = state.load_weights(subject)
    values = state.load_weights(state.reference.subject.name)
    expected = transfer_weights(state.alignments[subject], values, own)
    return all(
        name in expected and agree(np.asarray(expected[name]), np.asarray(own[name]))
        for name in names[1]
    )


def _name_tables(node: Node) -> set[str]:
    """Return the weights that an operation reads as constants: `_Comparison` compares them."""
    values = (value for value in node.constants.values() if isinstance(value, dict))
    return {str(value["parameter"]) for value in values if "parameter" in value}


def _arrange(
    runs: Sequence[Mapping[str, Array]], tensor: str, order: Sequence[int], shape: Sequence[int]
) -> tuple[Array, Array]:
    """Return a tensor of both runs in an order of its axes and another shape."""
    first, second = (rearrange(each[tensor], order, shape) for each in runs)
    return first, second


_CodedRuns = tuple[Sequence[Mapping[str, Array]], Sequence[Mapping[str, Array]], Places]
"""Tensors of the reference and of the subject, on both inputs, and what the numbers are of."""


@dataclass
class _MovementRuns:
    """Measures what chains move where, by runs with numbers in the place of values."""

    runs: RegionRuns
    name: str
    row: str
    reference: Region
    subject: Region
    most: int = MAX_MOVEMENTS
    walk: RegionWalk | None = None
    _known: dict[tuple[str, ...], _CodedRuns | None] = field(default_factory=dict)
    """What both sides give, by the tensors that were replaced."""

    def __call__(
        self,
        edit: Substitution,
        reference: Chain,
        subject: Chain,
        ends: Mapping[str, tuple[str, tuple[int, ...]]],
    ) -> Movement | None:
        """Return the movement of two chains; None if they do more, or give the same order."""
        key = tuple(sorted(ends))
        if key not in self._known:
            self._known[key] = self._run(ends)
        found = self._known[key]
        if found is None:
            return None
        wanted, own, known = found
        if edit.reference == self.reference.output:
            # Both are in the axes of the comparison.
            places = read_places(wanted[0][self.row], wanted[1][self.row], known)
            given: list[tuple[tuple[int, ...], Places | None]]
            given = [((), read_places(own[0][self.row], own[1][self.row], known))]
        elif any(edit.reference not in each for each in wanted):
            return None
        else:
            first, second = (each[edit.reference] for each in wanted)
            places = read_places(first, second, known)
            orders = [] if self.walk is None else self.walk.list_likely_orders(edit)
            given = [
                (order, read_places(*_arrange(own, edit.subject, order, first.shape), known))
                for order in orders
            ]
        found_orders = [
            (places.count_differences(each), at, order, each)
            for at, (order, each) in enumerate(given)
            if places is not None and each is not None and each.codes.shape == places.codes.shape
        ]
        if places is None or not found_orders:
            return None
        # Of several orders of axes it is the one in which the fewest places differ.
        count, _, order, nearest = min(found_orders, key=lambda each: each[:2])
        return Movement(reference, subject, places, nearest, order) if count else None

    def _run(self, ends: Mapping[str, tuple[str, tuple[int, ...]]]) -> _CodedRuns | None:
        """Run both sides with numbers in the place of the values of `ends`."""
        coded = code_ends(self.reference, self.subject, ends)
        if coded is None or len(self._known) >= self.most:
            return None
        own_edits, other_edits, known = coded
        try:
            wanted = self.runs.read(self.name, self.reference.tensors, own_edits)
            own = self.runs.read(self.runs.subject, self.subject.tensors, other_edits)
        except ParityError:
            # Numbers in the place of indices, for example.
            return None
        return wanted, own, known


@dataclass(frozen=True)
class _Comparison:
    """Compares two operations of one kind: settings, numbers, and tables of constants."""

    reference: Region
    subject: Region
    weights: tuple[Mapping[str, Array], Mapping[str, Array]]

    def __call__(self, first: Node, second: Node) -> list[SettingDifference]:
        graphs = self.reference.graph, self.subject.graph
        moved = [
            move_channels_first(graph, node, infer_axes(graph))
            for graph, node in zip(graphs, (first, second), strict=True)
        ]
        own = list_own_axes(graphs[1], second, infer_axes(graphs[1]))
        found = [
            SettingDifference(
                name,
                str(restore_axes_of(name, value, own)),
                str(restore_axes_of(name, expected, own)),
            )
            for name, expected, value in compare_settings(*moved)
            if name not in TRAINING_ONLY
            and not (name == "axis" and self._is_one_axis(first, second))
        ]
        return found + compare_constants(first, second) + self._compare_tables(first, second)

    def _is_one_axis(self, first: Node, second: Node) -> bool:
        """Return whether the axes of two operations are one in inputs of another order of axes.

        Signals have the time first in one framework, and the channels in the other.
        """
        shapes = [
            graph.tensors[node.inputs[0]].shape
            for graph, node in ((self.reference.graph, first), (self.subject.graph, second))
            if node.inputs
        ]
        axis, own = first.hyper.get("axis"), second.hyper.get("axis")
        if len(shapes) < 2 or not isinstance(axis, int) or not isinstance(own, int):
            return False
        one, other = shapes
        if one == other or sorted(one) != sorted(other):
            return False
        return one[axis % len(one)] == other[own % len(other)]

    def read_change(self, side: int, node: Node) -> Change | None:
        """Return what an operation of either side does to one tensor with a constant."""
        region = (self.reference, self.subject)[side]
        output = region.values[0].get(node.outputs[0]) if node.outputs else None
        if output is None:
            return None
        operands = [Operand(t, region.values[0].get(t)) for t in node.inputs]
        places = {*node.constants, *node.constant_ids}
        for place in sorted(places, key=lambda each: (not each.isdigit(), each)):
            values = self._find_constant(region, self.weights[side], node, place)
            operands.insert(int(place) if place.isdigit() else len(operands), Operand("", values))
        known = {*places, *(str(each.get("parameter")) for each in node.constants.values()
                            if isinstance(each, dict))}  # fmt: skip
        for each in node.parameters:
            if each.role not in known and each.name not in known:
                value = self.weights[side].get(each.name)
                operands.append(Operand("", None if value is None else np.asarray(value)))
        return read_change(node, operands, output.shape)

    def _find_constant(
        self, region: Region, weights: Mapping[str, Array], node: Node, place: str
    ) -> Array | None:
        """Return a table or a number that an operation reads at a place."""
        known = self._find_table(region, weights, node, place)
        value = node.constants.get(place)
        if known is None and value is not None and not isinstance(value, dict):
            known = np.asarray(value, np.float64)
        return known

    def _compare_tables(self, first: Node, second: Node) -> list[SettingDifference]:
        found = []
        places = [each.constants.keys() | each.constant_ids.keys() for each in (first, second)]
        for place in sorted(places[0] & places[1]):
            wanted = self._find_table(self.reference, self.weights[0], first, place)
            own = self._find_table(self.subject, self.weights[1], second, place)
            if wanted is not None and own is not None:
                found += _compare_table(wanted, own)
        return found

    @staticmethod
    def _find_table(
        region: Region, weights: Mapping[str, Array], node: Node, place: str
    ) -> Array | None:
        """Return a constant of an operation, if its values are known."""
        known = region.values[0].get(node.constant_ids.get(place, ""))
        value = node.constants.get(place)
        if known is None and isinstance(value, dict):
            known = weights.get(str(value.get("parameter")))
        return None if known is None else np.asarray(known, np.float64)


def _compare_table(wanted: Array, own: Array) -> list[SettingDifference]:
    """Return how a table of constants differs, in the order of its axes that is the nearest."""
    turned = [rearrange(own, order, wanted.shape)
              for order in list_arrangements(own.shape, wanted.shape)]  # fmt: skip
    if not turned or any(agree(wanted, table) for table in turned):
        return []
    table = min(turned, key=lambda each: float(np.abs(each - wanted).sum()))
    wrong = np.argwhere(~np.isclose(table, wanted, rtol=1e-5, atol=0.0))
    at = tuple(int(index) for index in wrong[0])
    name = f"the value at {list(at)} of the table of constants"
    if len(wrong) == 1:
        return [SettingDifference(name, f"{table[at]:g}", f"{wanted[at]:g}")]
    relation = tables.compare(before=wanted, after=table)
    if relation.kind is not tables.Change.OTHER:
        text, remedy = tables.describe(relation, "the table of constants")
        return [SettingDifference(name, "", "", remedy, text)]
    # To set the one that is shown would leave the others.
    expected = f"{wanted[at]:g} ({len(wrong)} of {wanted.size} values differ)"
    remedy = "use the table of constants of the reference"
    return [SettingDifference(name, f"{table[at]:g}", expected, remedy)]
