"""The differences of structure between aligned graphs, and whether they change a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.layout import is_signal, move_channels_first
from parity.comparison.graphs.state import SubjectModel
from parity.network import kinds
from parity.network.alignment import Alignment, NodePair, families, infer_axes
from parity.network.graph import OPAQUE, Graph, Node
from parity.network.graph_weights import to_canonical_weight
from parity.network.kind import tuples_to_lists

Array = NDArray[Any]

TRAINING_ONLY = frozenset({"momentum", "rate", "p", "inplace"})
"""The settings that change nothing in inference."""

_SHAPE_ONLY = frozenset(
    {
        "in",
        "out",
        "bias",
        "activation",
        "kernel",
        "target",
        "full_shape",
        "channels_last",
        "keepdims",
    }
)
_WAY_OF_WRITING = frozenset({"gates", "time_major", "last", "layers", "units", "time_before_heads"})
"""What a layer's weights, inputs and outputs are arranged by; the pairs are by the same names."""


@dataclass(frozen=True)
class PairDifference:
    """One hyperparameter, or the kind, in which a pair of operations differs.

    `value` and `expected` are the subject's and the reference's. `where` names both operations with
    their source lines.
    """

    subject: str
    reference_node: str
    node: str
    field: str
    expected: Any
    value: Any
    where: str
    training_only: bool = False
    is_part: bool = False
    """Whether the two operations give no pair of tensors: each does the same with others only."""
    hyper: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """All hyperparameters of the subject's operation, with the axes of channels-first tensors."""


def find_differences(
    reference: SubjectModel, model: SubjectModel, alignment: Alignment
) -> list[PairDifference]:
    """Return the differences of the paired operations, in the reference's execution order."""
    found: list[PairDifference] = []
    axes = infer_axes(reference.graph), infer_axes(model.graph)
    for pair in alignment.pairs:
        first, second = (
            main_node(reference.graph, pair.reference),
            main_node(model.graph, pair.other),
        )
        if first is None or second is None:
            continue
        first, second = fold_padding(reference.graph, first), fold_padding(model.graph, second)
        first = move_channels_first(reference.graph, first, axes[0])
        second = move_channels_first(model.graph, second, axes[1])
        found += _compare_nodes(model.subject.name, pair, first, second)
    return found


def leave_out_shared(
    differences: Sequence[PairDifference], sources: Mapping[str, str]
) -> list[PairDifference]:
    """Return the differences without those of an export that its model has too.

    `sources` are the models by the names of their exports.
    """

    def identify(subject: str, each: PairDifference) -> tuple[str, ...]:
        return (subject, each.reference_node, each.field, repr(each.value))

    known = {identify(each.subject, each) for each in differences}
    return [each for each in differences if identify(sources[each.subject], each) not in known]


def fold_padding(graph: Graph, node: Node) -> Node:
    """Return an operation whose padding includes that of the zero padding that it reads.

    It then reads what the padding reads.
    """
    padding = node.hyper.get("padding")
    if padding is None or node.kind == "pad" or not node.inputs:
        return node
    before = graph.producers.get(node.inputs[0])
    if before is None or before.kind != "pad" or before.hyper.get("value", 0.0) != 0.0:
        return node
    added = before.hyper.get("padding", ())
    if len(added) != len(padding) or before.hyper.get("mode", "constant") != "constant":
        return node
    if len(graph.consumers.get(before.outputs[0], ())) > 1:
        return node
    total = [[a + c, b + d] for (a, b), (c, d) in zip(padding, added, strict=True)]
    hyper = {**node.hyper, "padding": total}
    if "pool" in node.kind:
        counts = kinds.get(node.kind).complete(node.hyper).get("count_padding")
        # What is padded with zeros counts in a mean, and the pool's own padding may not.
        if counts is None or (not counts and any(map(any, padding))):
            return node
        hyper["count_padding"] = True
    return replace(node, inputs=(before.inputs[0], *node.inputs[1:]), hyper=hyper)


def main_node(graph: Graph, ids: Sequence[str]) -> Node | None:
    """Return the node of a pair that has the weights, else the first one."""
    nodes = [graph.by_id[each] for each in ids if each in graph.by_id]
    with_weights = [node for node in nodes if node.parameters]
    return next(iter(with_weights or nodes), None)


def _compare_nodes(subject: str, pair: NodePair, first: Node, second: Node) -> list[PairDifference]:
    where = f"{locate(first)} against {locate(second)}"
    outputs = {(each.reference, each.other) for each in pair.tensors}
    is_part = bool(pair.tensors) and (first.outputs[0], second.outputs[0]) not in outputs
    if len(pair.reference) == len(pair.other) == 1 and first.kind != second.kind:
        is_step = families.is_step(first.kind, second.kind)
        if is_step or {first.kind, second.kind} <= {"conv", "depthwise_conv"}:
            pass
        else:
            kinds_differ = PairDifference(
                subject, first.id, second.id, "kind", first.kind, second.kind, where
            )
            return [replace(kinds_differ, hyper=second.hyper, is_part=is_part)]
    return [
        PairDifference(
            subject, first.id, second.id, name, expected, value, where, name in TRAINING_ONLY
        )
        for name, expected, value in compare_settings(first, second)
    ]


def compare_settings(first: Node, second: Node) -> list[tuple[str, Any, Any]]:
    """Return the settings in which two operations differ: name, the first's value, the other's.

    Their axes are counted in channels-first tensors. Settings that only one states, and those that
    shapes state, are left out.
    """
    own = kinds.find(first.kind), kinds.find(second.kind)
    if own[0] is None or own[1] is None:
        return []
    # Of several operations the main ones may be of two kinds, each with its own defaults.
    expected, value = _drop_unit_axes(own[0].complete(first.hyper), own[1].complete(second.hyper))
    return [
        (name, expected[name], value[name])
        for name in sorted(expected.keys() & value.keys())
        if name not in _SHAPE_ONLY | _WAY_OF_WRITING and not _equal(expected[name], value[name])
    ]


_WINDOW = {"kernel": 1, "stride": 1, "dilation": 1, "padding": [0, 0]}
"""The settings of a windowed operation that have one value for each spatial axis, and the values
with which it leaves an axis of length 1 as it is."""


def _drop_unit_axes(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the settings of two windowed operations over as many spatial axes.

    A convolution of a signal may be written as one of an image of height 1. The axes that it adds
    are left out where they are the only ones with which the window does nothing.
    """
    ranks = [len(each.get("kernel", ())) for each in (first, second)]
    if 0 in ranks or ranks[0] == ranks[1]:
        return first, second
    longer = first if ranks[0] > ranks[1] else second
    rank = max(ranks)
    settings = {
        name: tuples_to_lists(longer[name])
        for name in _WINDOW
        if name in longer and len(longer[name]) == rank
    }
    kept = [at for at in range(rank) if any(settings[n][at] != _WINDOW[n] for n in settings)]
    # A window of 1×1 does nothing on any axis.
    kept = kept or list(range(min(ranks)))
    if len(kept) != min(ranks):
        return first, second
    short = {**longer, **{name: [each[at] for at in kept] for name, each in settings.items()}}
    return (short, second) if longer is first else (first, short)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, float) or isinstance(second, float):
        # A framework may store a constant in float32, a relative change of up to 6e-8.
        return bool(np.isclose(float(first), float(second), rtol=1e-7, atol=0.0))
    return bool(tuples_to_lists(first) == tuples_to_lists(second))


def locate(node: Node) -> str:
    """Return an operation's path and source line for a message."""
    name = node.path or node.operation
    return f"{name} ({node.source})" if node.source else name


def summarise(differences: Sequence[PairDifference]) -> list[str]:
    """Return one sentence for each difference, whatever the number of layers that share it."""
    groups: dict[tuple[str, str, str, str], list[PairDifference]] = {}
    for each in differences:
        key = (each.subject, each.field, repr(each.expected), repr(each.value))
        groups.setdefault(key, []).append(each)
    lines = []
    for (subject, name, expected, value), group in groups.items():
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        lines.append(
            f"{subject}: {name} is {_plain(value)}, expected {_plain(expected)}: "
            f"{group[0].where}{more}"
        )
    return lines


def _plain(text: str) -> str:
    return text.strip("'")


def list_inputs(graph: Graph, differences: Sequence[PairDifference]) -> list[str]:
    """Return the reference's tensors that `is_same_function` reads."""
    nodes = [fold_padding(graph, graph.by_id[each.reference_node]) for each in differences]
    return list(dict.fromkeys(tensor for node in nodes for tensor in node.inputs))


def is_same_function(
    graph: Graph,
    difference: PairDifference,
    tensors: Mapping[str, Array],
    values: Mapping[str, Array],
    *,
    outputs_agree: bool = False,
) -> bool | None:
    """Return whether a difference changes no number that the operation gives, in float64.

    None where the subject's operation is one of several that do the same together, or cannot be
    evaluated alone: then the numbers of the comparison show it. With `outputs_agree`, all compared
    tensors have agreed. Two kinds that give other numbers on this very input are then parts of
    operations that agree, as the sigmoid in x·sigmoid(x) is of a SiLU; two axes are one, where a
    model has turned the tensor. Parts are also two that give other shapes, as a transposed
    convolution whose output is cropped later, and one that cannot be evaluated alone, as x to the
    power of a constant, and any other.

    The reference's operation is evaluated as it is and with the subject's value, on its own inputs
    (`tensors`, by id, channels first) and on noise of ten times their scale. False where the
    kind has no operator, or the inputs are not known: the difference then stands.
    """
    if difference.is_part:
        return None
    if outputs_agree and OPAQUE in (difference.expected, difference.value):
        return None
    node = fold_padding(graph, graph.by_id[difference.reference_node])
    if any(tensor not in tensors for tensor in node.inputs):
        return False
    axes = infer_axes(graph)
    node = move_channels_first(graph, node, axes)
    inputs = [tensors[tensor] for tensor in node.inputs]
    if is_signal(graph, node, axes):
        inputs = [each.swapaxes(1, 2) for each in inputs]
    weights = {
        each.role: to_canonical_weight(node.kind, each, values[each.name])
        for each in node.parameters
        if each.role and each.name in values
    }
    kind, hyper = node.kind, dict(node.hyper)
    if difference.field == "kind":
        kind, hyper = difference.value, dict(difference.hyper)
    else:
        hyper[difference.field] = difference.value
    for number, tried in enumerate(_make_inputs(node, inputs)):
        expected = _evaluate(node, tried, weights)
        if expected is None:
            return None if outputs_agree and difference.field == "kind" else False
        answer = _agree(expected, node.kind, kind, hyper, tried, weights)
        if answer is None:
            return None if outputs_agree or difference.field in _ARRANGED else False
        if not answer:
            is_seen = outputs_agree and difference.field in _LAYOUT and number == 0
            return None if is_seen else False
    return True


def _make_inputs(node: Node, inputs: Sequence[Array]) -> Iterator[Sequence[Array]]:
    """Yield an operation's inputs, noise of ten times their scale, zeros, and negative numbers.

    Functions bend or saturate there. The ids of an embedding are no such values, and are alone.
    """
    yield inputs
    if node.kind in ("embedding", "gather"):
        return
    scale = max((float(np.abs(each).max(initial=0.0)) for each in inputs), default=1.0) or 1.0
    rng = np.random.default_rng(0)
    noise = [10.0 * scale * rng.standard_normal(each.shape) for each in inputs]
    yield noise
    yield [0.0 * each for each in inputs]
    yield [-np.abs(each) for each in noise]


_LAYOUT = frozenset({"kind", "axis", "axes"})
"""Fields that may be read otherwise than they act: of a part, or of a tensor with turned axes.
Where what they say would show on this input and no output shows it, nothing differs in them."""

_ARRANGED = frozenset({"kind", "axes"})
"""Fields in which one operation and several that do the same together may differ."""


def _evaluate(
    node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]
) -> NDArray[np.float64] | None:
    try:
        with np.errstate(all="ignore"):
            return kinds.evaluate(node.kind, inputs, weights, node.hyper)
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _agree(
    expected: NDArray[np.float64],
    own_kind: str,
    kind: str,
    hyper: Mapping[str, Any],
    inputs: Sequence[Array],
    weights: Mapping[str, Array],
) -> bool | None:
    """Return whether both give the same numbers; None where the second gives none of this shape."""
    other = kinds.find(kind)
    if other is not None and other.joins_branches and len(inputs) < 2:
        # The last operation of a formula, which joins what the others give.
        return None
    try:
        with np.errstate(all="ignore"):
            value = _evaluate_as(own_kind, kind, inputs, weights, hyper)
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    if _long_axes(expected) != _long_axes(value):
        return None
    bound = 1e-12 * float(np.abs(expected).max(initial=0.0))
    difference = np.abs(expected.reshape(-1) - value.reshape(-1))
    return bool(difference.max(initial=0.0) <= bound)


def _long_axes(array: Array) -> list[int]:
    """Return the lengths without those of 1, which a reduction may keep."""
    return [length for length in array.shape if length != 1]


def _evaluate_as(
    kind: str,
    other: str,
    inputs: Sequence[Array],
    weights: Mapping[str, Array],
    hyper: Mapping[str, Any],
) -> Array:
    """Evaluate an operation of `kind` as one of another kind."""
    if (kind, other) == ("dense", "conv"):
        image = inputs[0].reshape(*inputs[0].shape, 1, 1)
        kernel = weights["kernel"].reshape(*weights["kernel"].shape, 1, 1)
        return kinds.evaluate("conv", [image], {**weights, "kernel": kernel}, hyper)
    if (kind, other) == ("conv", "dense"):
        kernel = weights["kernel"]
        flat = inputs[0].reshape(inputs[0].shape[:2])
        return kinds.evaluate(
            "dense", [flat], {**weights, "kernel": kernel.reshape(kernel.shape[:2])}, hyper
        )
    return kinds.evaluate(other, inputs, weights, hyper)
