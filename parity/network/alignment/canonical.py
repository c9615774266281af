"""The canonical form of a graph: parts, to which fused and split operations are the same.

A node is one part as a rule. A convolution with an activation is two, a multi-head attention
five; a matrix product, softmax and matrix product are one. Nodes that only move values are left
out. The model's inputs and outputs are parts too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from parity.network import kinds
from parity.network.alignment import families
from parity.network.alignment.transform import Slice
from parity.network.graph import PARAMETER, Graph, Node, Parameter


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter that a part reads, or the part of a packed one."""

    parameter: Parameter
    role: str
    shape: tuple[int, ...]
    take: tuple[Slice, ...] = ()
    axes: str | None = None
    """The order of the axes of the part, where it is not that of the whole parameter."""


@dataclass(slots=True)
class Part:
    """One operation of the canonical form.

    `nodes` are the ids of the graph's nodes that it consists of, `sources` the parts that it reads,
    by position, -1 for a value that no part makes. `output` is the id of the tensor that it makes,
    empty if the tensor is inside a fused node. `feeds` are the ids of the tensors that it reads.
    """

    nodes: tuple[str, ...]
    kind: str
    family: str
    sources: list[int]
    output: str
    weights: list[Weight] = field(default_factory=list)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    feeds: tuple[str, ...] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    pads: tuple[str, ...] = ()
    """Ids of the padding nodes in front of it."""
    name: str = ""
    """The name of the port, of an input or output."""

    @property
    def main(self) -> Weight | None:
        """The weight with the most axes, and of those with the most values."""
        if not self.weights:
            return None
        return max(self.weights, key=lambda each: (len(each.shape), _count(each.shape)))

    @property
    def is_port(self) -> bool:
        """Whether it is an input or an output of the model."""
        return self.family in (families.INPUT, families.OUTPUT)


@dataclass(frozen=True)
class Canonical:
    """The parts of a graph in execution order; inputs first, outputs last."""

    graph: Graph
    parts: tuple[Part, ...]

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """The parts that read each part, in execution order."""
        found: list[list[int]] = [[] for _ in self.parts]
        for index, part in enumerate(self.parts):
            for source in dict.fromkeys(part.sources):
                if source >= 0:
                    found[source].append(index)
        return tuple(map(tuple, found))

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The sorted lengths above 1 of each part's output; of a hidden one, of its reader's."""
        found: list[tuple[int, ...]] = [()] * len(self.parts)
        for index in reversed(range(len(self.parts))):
            part = self.parts[index]
            tensor = part.output or (part.feeds[0] if part.family == families.OUTPUT else "")
            if tensor:
                shape = self.graph.tensors[tensor].shape
                found[index] = tuple(sorted(length for length in shape if length != 1))
            else:
                found[index] = next((found[reader] for reader in self.readers[index]), ())
        return tuple(found)


def canonicalise(graph: Graph, *, split_packed: bool = True) -> Canonical:
    """Return the canonical form of a graph.

    With `split_packed`, one product whose output is cut into query, key and value is three parts.
    """
    packed = find_packed(graph) if split_packed else {}
    parts = _Builder(graph, packed).build()
    for find_groups in (_find_attention, _find_chains, _find_gates):
        parts = _merge(parts, find_groups(parts, _list_readers(parts)))
    return Canonical(graph, tuple(parts))


class _Builder:
    """Turns nodes into parts, in execution order."""

    def __init__(self, graph: Graph, packed: Mapping[str, Packed]) -> None:
        self.graph = graph
        self.packed = packed
        self.packed_biases = {each.bias for each in packed.values() if each.bias}
        self.parts: list[Part] = []
        self.origin: dict[str, int] = {}
        # Weights that reach an operation through nodes without data: a broadcast class token.
        self.loose: dict[str, list[Weight]] = {}
        self.pads: dict[str, tuple[str, ...]] = {}
        self.thirds: dict[str, int] = {}

    def build(self) -> list[Part]:
        for port in self.graph.inputs:
            self.origin[port.tensor] = len(self.parts)
            self.parts.append(
                Part((), families.INPUT, families.INPUT, [], port.tensor, name=port.name)
            )
        useful = _find_useful(self.graph)
        for node in self.graph.nodes:
            if node.id in useful or node.parameters:
                self._add(node)
        for port in self.graph.outputs:
            source = self.origin.get(port.tensor, -1)
            self.parts.append(
                Part(
                    (),
                    families.OUTPUT,
                    families.OUTPUT,
                    [source],
                    "",
                    feeds=(port.tensor,),
                    name=port.name,
                )
            )
        return self.parts

    def _add(self, node: Node) -> None:
        weights = [Weight(each, each.role, each.shape) for each in node.parameters]
        for tensor in node.inputs:
            weights += self.loose.get(tensor, [])
        inputs = _order_operands(node)
        sources = [self.origin.get(tensor, -1) for tensor in inputs]
        if not any(source >= 0 for source in sources) and not self._is_layer(node):
            # Nothing of the model's inputs is in it: what it makes is a weight or a constant.
            for tensor in node.outputs:
                if weights or node.operation == PARAMETER:
                    self.loose[tensor] = weights
            return
        # A concatenation of one tensor is that tensor.
        is_single = node.kind == "concat" and len(node.inputs) == 1
        if (families.is_pass_through(node) or is_single) and not node.parameters:
            source = next(each for each in sources if each >= 0)
            pads = next((self.pads[each] for each in node.inputs if each in self.pads), ())
            for tensor in node.outputs:
                self.origin[tensor] = self.thirds.get(tensor, source)
                if pads:
                    self.pads[tensor] = pads
                passed = [each for name in node.inputs for each in self.loose.get(name, [])]
                if passed:
                    self.loose[tensor] = passed
            return
        if node.kind == "pad" and self._is_absorbable(node):
            self.origin[node.outputs[0]] = sources[0]
            self.pads[node.outputs[0]] = (*self.pads.get(node.inputs[0], ()), node.id)
            return
        pads = tuple(each for name in node.inputs for each in self.pads.get(name, ()))
        if node.id in self.packed:
            self._add_packed(node, sources, weights)
            return
        if node.id in self.packed_biases:
            self._add_packed_bias(node, sources[0], weights)
            return
        if kinds.properties(node.kind).adds and -1 in sources and weights:
            # A sum with a weight is that of a bias, also where layers read the weight as data.
            node, sources = replace(node, kind="bias_add"), [each for each in sources if each >= 0]
        first = len(self.parts)
        self.parts += _expand(node, sources, weights, len(self.parts))
        self.parts[first].pads = pads
        if len(self.parts) > first + 3:
            # The projections of an attention each read an input of their own.
            for part, tensor in zip(self.parts[first : first + 3], inputs, strict=False):
                part.weights += self.loose.get(tensor, [])
        for part in self.parts[first:]:
            part.feeds = inputs
        for tensor in node.outputs:
            self.origin[tensor] = len(self.parts) - 1

    def _is_layer(self, node: Node) -> bool:
        """Return whether a node is a layer that reads learned queries or a table of constants."""
        return bool(node.parameters) and any(each in self.loose for each in node.inputs)

    def _add_packed(self, node: Node, sources: list[int], weights: list[Weight]) -> None:
        """Add the three products of a packed one; its tensors stand for one of them each."""
        first = len(self.parts)
        for place in range(3):
            own = [_take(each, each.role, place, _output_axis(each)) for each in weights]
            part = Part((node.id,), "dense", families.LINEAR, list(sources), "", own)
            part.feeds = node.inputs
            self.parts.append(part)
        for tensor in node.outputs:
            self.origin[tensor] = first
        self.thirds |= {t: first + at for t, at in self.packed[node.id].thirds.items()}

    def _add_packed_bias(self, node: Node, first: int, weights: list[Weight]) -> None:
        """Add the bias of a packed product to its three parts."""
        for place in range(3):
            part = self.parts[first + place]
            part.nodes = (*part.nodes, node.id)
            part.weights += [_take(each, "bias", place) for each in weights]
        for tensor in node.outputs:
            self.origin[tensor] = first

    def _is_absorbable(self, node: Node) -> bool:
        """Return whether a padding is a part of the windows that read it."""
        outputs = {port.tensor for port in self.graph.outputs}
        waiting, seen = list(node.outputs), 0
        while waiting:
            tensor = waiting.pop()
            if tensor in outputs:
                return False
            for reader in self.graph.consumers.get(tensor, ()):
                seen += 1
                if families.is_pass_through(reader) or reader.kind == "pad":
                    waiting += reader.outputs
                elif not kinds.properties(reader.kind).windowed:
                    return False
        return seen > 0


def _order_operands(node: Node) -> tuple[str, ...]:
    """Return a node's inputs; of an einsum of two, in the order of their own axes in its output.

    It names its operands in any order, and a matrix product has the rows' one first.
    """
    operands, arrow, output = str(node.hyper.get("equation", "")).partition("->")
    terms = operands.split(",")
    if node.kind != "einsum" or not arrow or len(terms) != 2 or len(node.inputs) != 2:
        return node.inputs
    own = [[output.find(each) for each in term if each not in other and each in output]
           for term, other in (terms, terms[::-1])]  # fmt: skip
    return node.inputs[::-1] if all(own) and min(own[1]) < min(own[0]) else node.inputs


def _find_useful(graph: Graph) -> set[str]:
    """Return the ids of the nodes from which an output is reached."""
    wanted = {port.tensor for port in graph.outputs}
    useful: set[str] = set()
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.outputs):
            useful.add(node.id)
            wanted.update(node.inputs)
    return useful


def _expand(node: Node, sources: list[int], weights: list[Weight], first: int) -> list[Part]:
    """Return the parts of a node; `first` is the index of the first of them."""
    output = node.outputs[0] if node.outputs else ""
    family = families.find_family(node.kind)
    if kinds.properties(node.kind).recurrent:
        return _expand_recurrent(node, sources, weights, first)
    if node.kind == "multi_head_attention":
        return _expand_attention(node, sources, weights, first)
    parts = [Part((node.id,), node.kind, family, sources, output, weights, node.hyper)]
    activation = node.hyper.get("activation") or "linear"
    if activation != "linear" and family != families.ACTIVATION:
        last = first + len(parts) - 1
        parts[-1].output = ""
        parts.append(Part((node.id,), str(activation), families.ACTIVATION, [last], output))
    return parts


def _expand_recurrent(
    node: Node, sources: list[int], weights: list[Weight], first: int
) -> list[Part]:
    """Return one part a layer; weights that pack directions or both biases are taken apart."""
    weights = [piece for each in weights for piece in _unpack_recurrent(each)]
    layers: dict[int, list[Weight]] = {}
    for each in weights:
        found = re.search(r"_l(\d+)", each.role)
        layer = int(found.group(1)) if found else 0
        role = each.role.replace(f"_l{layer}", "") if found else each.role
        layers.setdefault(layer, []).append(replace(each, role=role))
    parts: list[Part] = []
    family = families.find_family(node.kind)
    output = node.outputs[0] if node.outputs else ""
    for at, layer in enumerate(sorted(layers)):
        is_last = at == len(layers) - 1
        parts.append(
            Part(
                (node.id,),
                node.kind,
                family,
                list(sources) if at == 0 else [first + at - 1],
                output if is_last else "",
                layers[layer],
                node.hyper,
            )
        )
    return parts or [Part((node.id,), node.kind, family, sources, output, [], node.hyper)]


def _unpack_recurrent(weight: Weight) -> list[Weight]:
    """Return the weights of both directions, and both biases, of an ONNX or Keras parameter."""
    axes = weight.parameter.axes
    if axes.startswith("D "):
        # The bias is that of the input and that of the state, one behind the other.
        found = []
        for direction in range(weight.shape[0]):
            suffix = "_reverse" if direction else ""
            part = Slice(0, direction, direction + 1)
            shape = (1, *weight.shape[1:])
            if weight.role != "bias":
                found.append(
                    Weight(weight.parameter, weight.role + suffix, shape, (part,), "1 " + axes[2:])
                )
                continue
            half = weight.shape[1] // 2
            for at, role in enumerate(("bias", "recurrent_bias")):
                own = Slice(1, at * half, (at + 1) * half)
                found.append(Weight(weight.parameter, role + suffix, (1, half), (part, own), "1 C"))
        return found
    if weight.role.startswith("bias") and len(weight.shape) == 2 and weight.shape[0] == 2:
        return [
            Weight(weight.parameter, role, (1, weight.shape[1]), (Slice(0, at, at + 1),), "1 C")
            for at, role in enumerate((weight.role, f"recurrent_{weight.role}"))
        ]
    return [weight]


def _expand_attention(
    node: Node, sources: list[int], weights: list[Weight], first: int
) -> list[Part]:
    """Return the projections of query, key and value, the attention, and the output projection."""
    by_role = {each.role: each for each in weights if each.role}
    output = node.outputs[0] if node.outputs else ""
    if "output_kernel" not in by_role or not {"packed_kernel", "query_kernel"} & set(by_role):
        family = families.find_family(node.kind)
        return [Part((node.id,), node.kind, family, sources, output, weights, node.hyper)]
    parts: list[Part] = []
    data = [*(source for source in sources if source >= 0), -1]
    for place, name in enumerate(("query", "key", "value")):
        found = []
        for role in ("kernel", "bias"):
            packed = by_role.get(f"packed_{role}")
            if f"{name}_{role}" in by_role:
                own = by_role[f"{name}_{role}"]
                found.append(Weight(own.parameter, role, own.shape))
            elif packed is not None:
                found.append(_take(packed, role, place))
        # A place of its own may be that of weights, which no part makes.
        source = sources[place] if len(sources) > place else data[0]
        parts.append(
            Part((node.id,), "dense", families.LINEAR, [source], "", found, axes={"": name})
        )
    inner = [first, first + 1, first + 2]
    attention = Part(
        (node.id,), "scaled_dot_product_attention", families.ATTENTION, inner, "", [], node.hyper
    )
    last = [
        Weight(by_role[f"output_{role}"].parameter, role, by_role[f"output_{role}"].shape)
        for role in ("kernel", "bias")
        if f"output_{role}" in by_role
    ]
    return [
        *parts,
        attention,
        Part((node.id,), "dense", families.LINEAR, [first + 3], output, last, axes={"": "output"}),
    ]


def _take(packed: Weight, role: str, place: int, axis: int = 0) -> Weight:
    """Return the third of a packed weight along an axis."""
    length = packed.shape[axis] // 3
    shape = (*packed.shape[:axis], length, *packed.shape[axis + 1 :])
    part = Slice(axis, place * length, (place + 1) * length)
    return Weight(packed.parameter, role, shape, (part,), packed.parameter.axes or None)


def _output_axis(weight: Weight) -> int:
    """Return the axis of a dense layer's weight that has the outputs: (O, I), (I, O) or (C)."""
    return len(weight.shape) - 1 if weight.parameter.axes.endswith("O") else 0


@dataclass(frozen=True)
class Packed:
    """What is behind a product that packs three: its tensors that are one third, and which.

    `bias` is the id of the addition of its bias, where that is an operation of its own.
    """

    thirds: Mapping[str, int]
    bias: str = ""


def find_packed(graph: Graph) -> dict[str, Packed]:
    """Return the products that pack query, key and value, by id.

    The channels are followed through the reshapes and transpositions up to the split.
    """
    found: dict[str, Packed] = {}
    outputs = {port.tensor for port in graph.outputs}
    for node in graph.nodes:
        if node.kind != "dense" or len(node.outputs) != 1 or node.outputs[0] in outputs:
            continue
        width = graph.tensors[node.outputs[0]].shape[-1]
        if width % 3 or node.hyper.get("activation", "linear") != "linear":
            continue
        thirds = _follow_thirds(graph, node.outputs[0], width)
        if thirds is not None:
            found[node.id] = thirds
    return found


def _follow_thirds(graph: Graph, tensor: str, width: int) -> Packed | None:
    """Return the tensors behind a packed product that hold a third of its channels each."""
    bias = ""
    first = graph.consumers.get(tensor, ())
    if len(first) == 1 and first[0].kind == "bias_add" and len(first[0].parameters) == 1:
        if first[0].parameters[0].shape != (width,):
            return None
        bias, tensor = first[0].id, first[0].outputs[0]
    channels = np.broadcast_to(np.arange(width, dtype=np.int32), graph.tensors[tensor].shape)
    while True:
        readers = graph.consumers.get(tensor, ())
        node = readers[0] if len(readers) == 1 else None
        if node is not None and (
            node.kind == "transpose" or kinds.properties(node.kind).keeps_order
        ):
            tensor = node.outputs[0]
            shape = graph.tensors[tensor].shape
            if node.kind == "transpose":
                channels = channels.transpose(node.hyper["perm"])
            else:
                channels = channels.reshape(shape)
            continue
        break
    pieces: dict[str, Any] = {}
    for node in readers:
        if node.kind == "split" and len(node.outputs) == 3 and len(readers) == 1:
            axis = int(node.hyper["axis"])
            pieces |= dict(zip(node.outputs, np.split(channels, 3, axis=axis), strict=True))
        elif node.kind == "slice" and len(node.hyper.get("axes", ())) == 1:
            axis, start, stop = (int(node.hyper[n][0]) for n in ("axes", "starts", "ends"))
            length = channels.shape[axis]
            pieces[node.outputs[0]] = channels.take(
                range(*slice(start, stop).indices(length)), axis
            )
        else:
            return None
    third = width // 3
    places = {}
    for name, values in pieces.items():
        place = int(values.min()) // third if values.size else -1
        if values.size == 0 or int(values.max()) // third != place:
            return None
        places[name] = place
    return Packed(places, bias) if sorted(places.values()) == [0, 1, 2] else None


def _list_readers(parts: Sequence[Part]) -> list[list[int]]:
    readers: list[list[int]] = [[] for _ in parts]
    for index, part in enumerate(parts):
        for source in dict.fromkeys(part.sources):
            if source >= 0:
                readers[source].append(index)
    return readers


Group = tuple[list[int], Part]
"""Parts that are one operation, in execution order, and what takes the place of the last one."""


def _merge(parts: Sequence[Part], groups: Iterable[Group]) -> list[Part]:
    """Return the parts with each group as one part."""
    owner: dict[int, int] = {}
    merged: dict[int, Part] = {}
    for members, whole in groups:
        if any(parts[each].weights or each in owner for each in members):
            continue
        merged[members[-1]] = whole
        owner.update(dict.fromkeys(members, members[-1]))
    kept = [index for index in range(len(parts)) if owner.get(index, index) == index]
    place = {old: new for new, old in enumerate(kept)}
    found = []
    for index in kept:
        part = merged.get(index, parts[index])
        part.sources = [place[owner.get(s, s)] if s >= 0 else -1 for s in part.sources]
        found.append(part)
    return found


def _find_attention(parts: Sequence[Part], readers: Sequence[Sequence[int]]) -> Iterator[Group]:
    """Find matrix product, softmax and matrix product, with what is between them."""
    for index, part in enumerate(parts):
        if part.kind != "softmax":
            continue
        inner = [index]
        above = part.sources[0]
        while (
            above >= 0
            and _applies_to_attention_scores(parts[above])
            and readers[above] == [inner[-1]]
        ):
            inner.append(above)
            above = parts[above].sources[0]
        below = readers[index]
        is_product = above >= 0 and parts[above].family == families.PRODUCT
        if not is_product or readers[above] != [inner[-1]] or len(below) != 1:
            continue
        last = parts[below[0]]
        if last.family != families.PRODUCT or len(last.sources) != 2:
            continue
        # A product with a constant in front of the scores is the scale.
        scales = {
            each: parts[each].sources[0]
            for each in parts[above].sources
            if each >= 0
            and parts[each].kind in ("multiply", "div")
            and len(parts[each].sources) == 1
            and not parts[each].weights
            and readers[each] == [above]
        }
        group = sorted([*scales, above, *inner, below[0]])
        value = next((each for each in last.sources if each != index), -1)
        extra = [s for each in inner for s in parts[each].sources if s not in (above, *inner)]
        yield (
            group,
            Part(
                tuple(node for each in group for node in parts[each].nodes),
                "scaled_dot_product_attention",
                families.ATTENTION,
                [*(scales.get(each, each) for each in parts[above].sources), value, *extra],
                last.output,
                feeds=parts[above].feeds,
            ),
        )


def _applies_to_attention_scores(part: Part) -> bool:
    return kinds.properties(part.kind).applies_to_attention_scores


def _find_chains(parts: Sequence[Part], readers: Sequence[Sequence[int]]) -> Iterator[Group]:
    """Find the kinds that are written as a chain of others: a hard sigmoid as sum and clip."""
    chains = [kind for kind in kinds.registry().values() if kind.written_as]
    for start in range(len(parts)):
        for kind in chains:
            group = _follow_chain(parts, readers, start, kind.written_as)
            if group is None:
                continue
            yield group, _unite(parts, group, kind.name)


def _find_gates(parts: Sequence[Part], readers: Sequence[Sequence[int]]) -> Iterator[Group]:
    """Find the kinds that are written as a product x·f(x): a SiLU with a sigmoid."""
    gated = [kind for kind in kinds.registry().values() if kind.gate]
    for last, product in enumerate(parts):
        if product.kind != _PRODUCT or len(product.sources) != 2:
            continue
        for x, end in (product.sources, product.sources[::-1]):
            for kind in gated:
                chain = _follow_back(parts, readers, end, kind.gate)
                if chain is None or x < 0 or parts[chain[0]].sources != [x]:
                    continue
                members = [*chain, last]
                yield members, _unite(parts, members, kind.name)


def _unite(parts: Sequence[Part], members: Sequence[int], kind: str) -> Part:
    """Return the part of a kind that takes the place of others; it reads what the first reads."""
    first, last = parts[members[0]], parts[members[-1]]
    return Part(
        tuple(node for each in members for node in parts[each].nodes),
        kind,
        families.find_family(kind),
        list(first.sources),
        last.output,
        feeds=first.feeds,
    )


_PRODUCT = "multiply"


def _follow_back(
    parts: Sequence[Part], readers: Sequence[Sequence[int]], end: int, steps: Sequence[str]
) -> list[int] | None:
    """Return the parts of these kinds, each read by the next alone, that end in `end`, or None."""
    group: list[int] = []
    for step in reversed(steps):
        if end < 0 or parts[end].kind != step or len(parts[end].sources) != 1:
            return None
        if len(readers[end]) != 1 or not _has_defaults(parts[end]):
            return None
        group.insert(0, end)
        end = parts[end].sources[0]
    return group


def _has_defaults(part: Part) -> bool:
    """Return whether all hyperparameters of a part that have a default have this one."""
    defaults = kinds.properties(part.kind).complete({})
    return all(
        name not in part.hyper or math.isclose(part.hyper[name], value, rel_tol=1e-6)
        for name, value in defaults.items()
        if isinstance(value, float)
    )


def _follow_chain(
    parts: Sequence[Part],
    readers: Sequence[Sequence[int]],
    start: int,
    steps: Sequence[frozenset[str]],
) -> list[int] | None:
    """Return the parts from `start` on that are a kind's steps, or None."""
    group: list[int] = []
    at = start
    for step in steps:
        if parts[at].kind not in step or len(parts[at].sources) != 1:
            return None
        group.append(at)
        if len(group) < len(steps):
            if len(readers[at]) != 1:
                return None
            at = readers[at][0]
    return group


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
