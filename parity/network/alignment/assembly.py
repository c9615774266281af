"""The alignment of two graphs, from paired units and weightless parts back to nodes and tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from parity.network.alignment import families
from parity.network.alignment.ambiguity import Judgement
from parity.network.alignment.anchors import holds_scaled
from parity.network.alignment.axes import Axes, trace_axes
from parity.network.alignment.canonical import Part
from parity.network.alignment.matching import Matching
from parity.network.alignment.rearrangements import choose_rearrangement, iterate_by_shape
from parity.network.alignment.result import Alignment, Confidence, NodePair, TensorPair, WeightPair
from parity.network.alignment.skeleton import Skeleton, Unit
from parity.network.alignment.weightless import Places, Weightless
from parity.network.alignment.weights import pair_weights
from parity.network.graph import Graph
from parity.network.rearrangement import IDENTITY, Rearrangement


@dataclass
class Match:
    """The parts of both graphs that make one tensor that both have."""

    reference: list[int]
    other: list[int]
    confidence: Confidence
    reason: str
    folded: bool = False

    @property
    def last(self) -> tuple[int, int]:
        """The parts that make the tensors."""
        return self.reference[-1], self.other[-1]


@dataclass
class _Component:
    """The matches that share nodes."""

    matches: list[Match] = field(default_factory=list)


def _merge_orders(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Return the kinds of two lists in one order, which keeps that of each list if it can."""
    found: list[str] = []
    rest = list(right)
    for kind in left:
        if kind in rest:
            before = rest[: rest.index(kind)]
            found += [each for each in before if each not in found]
            rest = rest[rest.index(kind) + 1 :]
        if kind not in found:
            found.append(kind)
    return found + [each for each in rest if each not in found]


def _choose_open_rearrangements(
    pairs: Sequence[NodePair], graphs: tuple[Graph, Graph]
) -> list[NodePair]:
    """Return the pairs with the axis order that fits most tensors of a rank, where it is open.

    The lengths of one tensor may be equal by chance; the order that fits all others is the right
    one, up to an exchange of height and width, which no shape shows.
    """
    shapes = [{name: tensor.shape for name, tensor in graph.tensors.items()} for graph in graphs]
    fitting: dict[TensorPair, list[Rearrangement]] = {}
    votes: dict[int, dict[Rearrangement, int]] = {}
    for tensor in (tensor for pair in pairs for tensor in pair.tensors if tensor.open):
        one, two = shapes[0][tensor.reference], shapes[1][tensor.other]
        fitting[tensor] = list(iterate_by_shape(one, two))
        counts = votes.setdefault(len(one), {})
        for rearrangement in fitting[tensor]:
            counts[rearrangement] = counts.get(rearrangement, 0) + 1
    named = (tensor for pair in pairs for tensor in pair.tensors if not tensor.open)
    for tensor in named:
        counts = votes.get(len(shapes[0][tensor.reference]), {})
        if tensor.rearrangement in counts:
            counts[tensor.rearrangement] += 1

    def choose(tensor: TensorPair) -> TensorPair:
        if tensor not in fitting:
            return tensor
        counts = votes[len(shapes[0][tensor.reference])]
        return replace(tensor, rearrangement=max(fitting[tensor], key=counts.__getitem__))

    return [replace(pair, tensors=tuple(map(choose, pair.tensors))) for pair in pairs]


class Assembly:
    """Builds the alignment of two graphs."""

    def __init__(self, matching: Matching, weightless: Weightless, judgement: Judgement) -> None:
        self.matching, self.weightless, self.judgement = matching, weightless, judgement
        self.a, self.b = matching.features.reference, matching.features.other
        self.graphs = self.a.canonical.graph, self.b.canonical.graph
        self.axes = trace_axes(self.graphs[0]), trace_axes(self.graphs[1])
        self.order = tuple(
            {node.id: at for at, node in enumerate(graph.nodes)} for graph in self.graphs
        )

    def build(self) -> Alignment:
        """Return the alignment."""
        matches = sorted(self._collect_matches(), key=lambda match: match.reference[0])
        components = self._join(matches)
        pairs = [self._make_pair(each) for each in components]
        pairs = _choose_open_rearrangements(pairs, self.graphs)
        pairs.sort(key=lambda pair: self.order[0][pair.reference[-1]])
        inputs, input_rearrangements = self._pair_ports(families.INPUT)
        outputs, output_rearrangements = self._pair_ports(families.OUTPUT)
        paired = (
            {node for pair in pairs for node in pair.reference},
            {node for pair in pairs for node in pair.other},
        )
        free = [
            self._list_free(skeleton, done)
            for skeleton, done in zip((self.a, self.b), paired, strict=True)
        ]
        names = [self._list_parameters(pairs, side, paired[side]) for side in (0, 1)]
        return Alignment(
            pairs=tuple(pairs),
            unpaired_reference=free[0],
            unpaired_other=free[1],
            inputs=inputs,
            outputs=outputs,
            input_rearrangements=input_rearrangements,
            output_rearrangements=output_rearrangements,
            ambiguous=tuple(
                tuple(node for unit in group for node in self.a.head(unit).nodes)
                for group in self.judgement.groups
                if any(self.a.head(unit).nodes for unit in group)
            ),
            missing_parameters=names[0][0],
            surplus_parameters=names[1][0],
            folded_parameters=(names[0][1], names[1][1]),
            assembly=self,
        )

    # Matches of parts.

    def _collect_matches(self) -> Iterable[Match]:
        for unit, partner in self.matching.pairs:
            if not self.a.head(unit).is_port:
                yield from self._match_unit(unit, partner)
        places = Places(self.a), Places(self.b)
        for part, partner in self.weightless.partners.items():
            verdict, reason = self._judge_weightless(places[0], part, partner)
            reference = [*self._nested(self.a, part, self.weightless.partners), part]
            other = [*self._nested(self.b, partner, self.weightless.inverse), partner]
            yield Match(reference, other, verdict, reason)

    def _nested(self, skeleton: Skeleton, part: int, paired: Mapping[int, int]) -> list[int]:
        """Return the concatenations without partner that a concatenation reads, and no other part.

        One model concatenates in pairs what the other does at once.
        """
        found: list[int] = []
        if skeleton.parts[part].family != "concat":
            return found
        for source in skeleton.parts[part].sources:
            is_nested = source >= 0 and skeleton.parts[source].family == "concat"
            is_own = is_nested and skeleton.canonical.readers[source] == (part,)
            if is_own and source not in paired and source not in skeleton.unit_of:
                found += [*self._nested(skeleton, source, paired), source]
        return found

    def _match_unit(self, unit: int, partner: int) -> Iterable[Match]:
        """Return the matches of two units: the weighted parts, then the affine ones behind them."""
        verdict = self.judgement.confidence[unit]
        reason = self.judgement.reasons[unit]
        one, two = self.a.units[unit], self.b.units[partner]
        tails = (self._by_kind(self.a, one), self._by_kind(self.b, two))
        match = Match([one.head], [two.head], verdict, reason)
        for kind in _merge_orders(list(tails[0]), list(tails[1])):
            left, right = tails[0].get(kind), tails[1].get(kind)
            if left is not None and right is not None:
                yield match
                match = Match([left], [right], verdict, reason)
            elif left is not None:
                if self._is_folded(left, unit, partner, reverse=False):
                    match.reference.append(left)
                    match.folded |= kind != "bias_add"
            elif right is not None and self._is_folded(right, unit, partner, reverse=True):
                match.other.append(right)
                match.folded |= kind != "bias_add"
        yield match

    @staticmethod
    def _by_kind(skeleton: Skeleton, unit: Unit) -> dict[str, int]:
        return {skeleton.parts[part].kind: part for part in unit.tail}

    def _is_folded(self, part: int, unit: int, partner: int, *, reverse: bool) -> bool:
        """Return whether the weights of the side without this affine part can contain it.

        Equal kernels show that nothing is folded: the part is missing.
        """
        features = self.matching.features
        affine = (self.b if reverse else self.a).parts[part]
        kind = affine.kind
        heads = (self.a.head(unit), self.b.head(partner))
        without, number = (self.a, unit) if reverse else (self.b, partner)
        has_bias = any(
            weight.role == "bias" or len([n for n in weight.shape if n > 1]) <= 1
            for part in (without.units[number].head, *without.units[number].tail)
            for weight in without.parts[part].weights
            if weight is not without.parts[without.units[number].head].main
        )
        if kind == "bias_add":
            return has_bias
        if features.equal_weights[unit, partner]:
            return False
        if kind == "batch_norm":
            one, other = reversed(heads) if reverse else heads
            return has_bias or holds_scaled(one, other, affine)
        return not any(part.kind == kind for part in without.parts)

    def _judge_weightless(self, places: Places, part: int, partner: int) -> tuple[Confidence, str]:
        one, two = self.a.parts[part], self.b.parts[partner]
        if self.matching.features.fixed.parts.partners.get(part, -1) == partner:
            return Confidence.SURE, "given"
        near = [*places.before[("part", part)], *places.behind[("part", part)]]
        verdicts = {
            self.judgement.confidence[number]
            for name, number in near
            if name == "unit" and number in self.judgement.confidence
        }
        if part in self.weightless.twins:
            return Confidence.AMBIGUOUS, "another part reads and feeds the same"
        if Confidence.AMBIGUOUS in verdicts:
            return Confidence.AMBIGUOUS, "another partner fits its neighbours as well"
        if one.kind != two.kind and one.family != two.family:
            return Confidence.PROBABLE, f"{two.kind} at the place of {one.kind}"
        if one.kind != two.kind and one.family == families.ACTIVATION:
            return Confidence.PROBABLE, f"{two.kind} at the place of {one.kind}"
        if Confidence.PROBABLE in verdicts or self._has_free_neighbour(places, near):
            return Confidence.PROBABLE, "between paired layers that are probable"
        return Confidence.SURE, "between paired layers"

    def _has_free_neighbour(self, places: Places, near: Sequence[tuple[str, int]]) -> bool:
        """Return whether a neighbour of a weightless part has no partner."""
        partners = self.matching.partners
        return any(
            partners[number] < 0 if name == "unit" else number not in self.weightless.partners
            for name, number in near
        )

    # Pairs of nodes.

    def _join(self, matches: Sequence[Match]) -> list[_Component]:
        """Group the matches whose parts share nodes."""
        owner: dict[tuple[int, str], int] = {}
        groups: dict[int, _Component] = {}
        for number, match in enumerate(matches):
            keys = [
                *((0, node) for part in match.reference for node in self._nodes(0, part)),
                *((1, node) for part in match.other for node in self._nodes(1, part)),
            ]
            found = sorted({owner[key] for key in keys if key in owner})
            target = found[0] if found else number
            group = groups.setdefault(target, _Component())
            for each in found[1:]:
                group.matches += groups.pop(each).matches
                owner.update({key: target for key, value in owner.items() if value == each})
            group.matches.append(match)
            owner.update(dict.fromkeys(keys, target))
        return list(groups.values())

    def _nodes(self, side: int, part: int) -> tuple[str, ...]:
        each = (self.a, self.b)[side].parts[part]
        return (*each.pads, *each.nodes)

    def _make_pair(self, component: _Component) -> NodePair:
        matches = component.matches
        reference, other = (
            tuple(
                sorted(
                    {
                        node
                        for match in matches
                        for part in (match.reference, match.other)[side]
                        for node in self._nodes(side, part)
                    },
                    key=self.order[side].__getitem__,
                )
            )
            for side in (0, 1)
        )
        tensors, weights = [], []
        for match in matches:
            tensor = self._pair_tensors(match)
            if tensor is not None and tensor not in tensors:
                tensors.append(tensor)
            if not match.folded:
                weights += self._pair_weights(match)
        if not tensors and not any(map(self._is_step, matches)):
            tensors += self._pair_ends(reference, other)
        worst = max(matches, key=lambda match: list(Confidence).index(match.confidence))
        main = next(
            (match for match in matches if self.a.parts[match.reference[0]].weights), matches[0]
        )
        return NodePair(
            reference,
            other,
            tuple(tensors),
            tuple(weights),
            worst.confidence,
            worst.reason,
            self.a.parts[main.reference[0]].kind,
            self.b.parts[main.other[0]].kind,
            any(match.folded for match in matches),
        )

    def _is_step(self, match: Match) -> bool:
        """Return whether one side is a step of the other, which gives other values."""
        first, second = match.last
        return families.is_step(self.a.parts[first].kind, self.b.parts[second].kind)

    def _pair_tensors(self, match: Match) -> TensorPair | None:
        if self._is_step(match):
            return None
        first, second = match.last
        one, two = self.a.parts[first].output, self.b.parts[second].output
        return self._make_tensor_pair(one, two) if one and two else None

    def _make_tensor_pair(self, one: str, two: str) -> TensorPair | None:
        left, right = self.graphs[0].tensors[one], self.graphs[1].tensors[two]
        choice = choose_rearrangement(
            left.shape, self.axes[0].get(one), right.shape, self.axes[1].get(two)
        )
        return None if choice is None else TensorPair(one, two, choice.rearrangement, choice.open)

    def _pair_ends(self, reference: Sequence[str], other: Sequence[str]) -> list[TensorPair]:
        """Return the pair of the last tensors, where one side hides the tensor that both have."""
        ends = [
            graph.by_id[nodes[-1]].outputs
            for graph, nodes in zip(self.graphs, (reference, other), strict=True)
        ]
        if not all(ends):
            return []
        found = self._make_tensor_pair(ends[0][0], ends[1][0])
        return [found] if found is not None else []

    def _pair_weights(self, match: Match) -> list[WeightPair]:
        sides = [
            [
                (parts[part], self._feed(side, parts[part]), self.graphs[side].framework)
                for part in members
            ]
            for side, parts, members in (
                (0, self.a.parts, match.reference),
                (1, self.b.parts, match.other),
            )
        ]
        return pair_weights(*sides)

    def _feed(self, side: int, part: Part) -> Axes | None:
        """Return the axes of the first tensor that a part reads."""
        return self.axes[side].get(part.feeds[0]) if part.feeds else None

    # Ports, and what has no partner.

    def _pair_ports(self, family: str) -> tuple[dict[str, str], dict[str, Rearrangement]]:
        names: dict[str, str] = {}
        for unit, partner in self.matching.pairs:
            if self.a.family(unit) == family:
                names[self.a.head(unit).name] = self.b.head(partner).name
        left, right = (
            list(graph.inputs if family == families.INPUT else graph.outputs)
            for graph in self.graphs
        )
        rest = [port.name for port in right if port.name not in names.values()]
        for port in left:
            # What the layers leave open follows the order of the ports.
            if port.name not in names and rest:
                names[port.name] = rest.pop(0)
        tensors = [{port.name: port.tensor for port in ports} for ports in (left, right)]
        rearrangements = {}
        for name, other in names.items():
            pair = self._make_tensor_pair(tensors[0][name], tensors[1][other])
            rearrangements[name] = IDENTITY if pair is None else pair.rearrangement
        return {port.name: names[port.name] for port in left if port.name in names}, rearrangements

    @staticmethod
    def _list_free(skeleton: Skeleton, paired: set[str]) -> tuple[str, ...]:
        nodes = (node for part in skeleton.parts for node in (*part.pads, *part.nodes))
        return tuple(dict.fromkeys(node for node in nodes if node not in paired))

    def _list_parameters(
        self, pairs: Sequence[NodePair], side: int, paired: set[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of parameters without partner, and of those without one to one."""
        graph: Graph = self.graphs[side]
        used = {(weight.reference, weight.other)[side] for pair in pairs for weight in pair.weights}
        folded_nodes = {
            node for pair in pairs if pair.folded for node in (pair.reference, pair.other)[side]
        }
        folded = {
            each.name
            for node in graph.nodes
            if node.id in folded_nodes
            for each in node.parameters
            if each.name not in used
        }
        missing = [e.name for e in graph.parameters if e.name not in used and e.name not in folded]
        return tuple(missing), tuple(e.name for e in graph.parameters if e.name in folded)
