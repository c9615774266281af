"""Operations that exporters write as several nodes: SiLU and its like, GELU, norms.

A pattern becomes one node where nothing outside it reads a tensor inside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity.network.graph import Node, Parameter
from parity.runtimes.onnx.model_file import restore_decimal


@dataclass
class Match:
    """What a pattern found: a kind, the tensor that it reads, and the nodes inside it."""

    kind: str
    source: str
    inside: list[Node]
    hyper: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()


class _Nodes:
    """The nodes of a graph, by what they make."""

    def __init__(self, nodes: Sequence[Node], outputs: set[str]) -> None:
        self.producers = {tensor: node for node in nodes for tensor in node.outputs}
        self.outputs = outputs
        self.readers: dict[str, set[str]] = {}
        for node in nodes:
            for tensor in node.inputs:
                self.readers.setdefault(tensor, set()).add(node.id)

    def find(self, tensor: str, operation: str) -> Node | None:
        """Return the node that makes a tensor, if it is of this operation."""
        node = self.producers.get(tensor)
        return node if node is not None and node.operation == operation else None

    def is_closed(self, inside: Sequence[Node], last: Node) -> bool:
        """Return whether nothing else reads what the nodes inside make."""
        ids = {node.id for node in inside} | {last.id}
        made = [tensor for node in inside for tensor in node.outputs]
        return not any(
            tensor in self.outputs or self.readers.get(tensor, set()) - ids for tensor in made
        )


def join_patterns(nodes: Sequence[Node], outputs: set[str]) -> list[Node]:
    """Return the nodes, each pattern as one of them, at the place of its last node."""
    known = _Nodes(nodes, outputs)
    joined: dict[str, Node] = {}
    dropped: set[str] = set()
    # From the last node on: a normalisation with its weights is found before the one inside it.
    for node in reversed(nodes):
        if node.id in dropped or node.id in joined or len(node.outputs) != 1:
            continue
        for pattern in (_match_layer_norm, _match_group_norm, _match_gated, _match_gelu):
            match = pattern(node, known)
            if match is not None and known.is_closed(match.inside, node):
                operations = dict.fromkeys(each.operation for each in (*match.inside, node))
                joined[node.id] = replace(
                    node,
                    kind=match.kind,
                    operation=", ".join(operations),
                    inputs=(match.source,),
                    parameters=match.parameters,
                    hyper=match.hyper,
                    constants={},
                    constant_ids={},
                )
                dropped |= {each.id for each in match.inside}
                break
    return [joined.get(node.id, node) for node in nodes if node.id not in dropped]


def _number(node: Node) -> float | None:
    """Return the single number that a node combines with its one input, or None."""
    if len(node.inputs) != 1 or node.parameters or len(node.constants) != 1:
        return None
    (value,) = node.constants.values()
    found = np.asarray(value) if not isinstance(value, dict) else np.zeros(2)
    return float(found.reshape(-1)[0]) if found.size == 1 and found.dtype.kind in "fi" else None


# Gates ----------------------------------------------------------------------------------------


def _match_gated(node: Node, known: _Nodes) -> Match | None:
    """x · g(x): SiLU, hard-swish, mish."""
    if node.operation != "Mul" or len(node.inputs) != 2:
        return None
    for source, gate in (node.inputs, node.inputs[::-1]):
        made = known.producers.get(gate)
        if made is None:
            continue
        if made.operation == "Sigmoid" and made.inputs == (source,):
            return Match("silu", source, [made])
        sixth = made.hyper.get("slope") == 1 / 6 and made.hyper.get("offset") == 0.5
        if made.operation == "HardSigmoid" and made.inputs == (source,) and sixth:
            return Match("hard_swish", source, [made])
        if made.operation == "Tanh":
            inner = known.find(made.inputs[0], "Softplus")
            if inner is not None and inner.inputs == (source,):
                return Match("mish", source, [inner, made])
    return None


# GELU -----------------------------------------------------------------------------------------


def _match_gelu(node: Node, known: _Nodes) -> Match | None:
    """0.5 · x · (1 + erf(x / √2)), with its factors in any order."""
    coefficient, factors, inside = _factors(node, known)
    if len(factors) != 2:
        return None
    for source, other in (tuple(factors), tuple(factors[::-1])):
        total = known.find(other, "Add")
        offset = None if total is None else _number(total)
        if total is None or offset is None:
            continue
        scale, terms, parts = _factors(known.producers.get(total.inputs[0]), known)
        erf = known.find(terms[0] if terms else total.inputs[0], "Erf")
        if erf is None:
            continue
        stretch, sources, more = _factors(known.producers.get(erf.inputs[0]), known)
        same = sources == [source] and math.isclose(stretch, math.sqrt(0.5), rel_tol=1e-6)
        half = math.isclose(coefficient * offset, 0.5, rel_tol=1e-6)
        if same and half and math.isclose(scale if terms else 1.0, offset, rel_tol=1e-6):
            nodes = {each.id: each for each in (*inside, total, *parts, erf, *more)}
            nodes.pop(node.id, None)
            return Match("gelu", source, list(nodes.values()), {"approximate": False})
    return None


def _factors(node: Node | None, known: _Nodes) -> tuple[float, list[str], list[Node]]:
    """Return a product's number, its factors that are tensors, and the nodes that it is of.

    All are empty for a node that is no product.
    """
    if node is None or node.operation not in ("Mul", "Div"):
        return 1.0, [], []
    number = _number(node)
    if number is not None and (node.operation == "Mul" or "1" in node.constants):
        scale = number if node.operation == "Mul" else 1.0 / number if number else math.inf
        coefficient, factors, inside = _factors(known.producers.get(node.inputs[0]), known)
        return scale * coefficient, factors or [node.inputs[0]], [node, *inside]
    if node.operation != "Mul" or len(node.inputs) != 2 or node.constants:
        return 1.0, [], []
    coefficient, factors, inside = 1.0, list[str](), [node]
    for tensor in node.inputs:
        made = known.producers.get(tensor)
        number = None if made is None else _number(made)
        if made is not None and number is not None and made.operation == "Mul":
            coefficient *= number
            factors.append(made.inputs[0])
            inside.append(made)
            continue
        factors.append(tensor)
    return coefficient, factors, inside


# Layer-norm -----------------------------------------------------------------------------------


@dataclass
class _Spread:
    """1 / √(variance + ε) of a tensor, or its root, found in a graph."""

    source: str
    mean: str
    difference: str
    hyper: dict[str, Any]
    inside: list[Node]
    inverted: bool


def _match_layer_norm(node: Node, known: _Nodes) -> Match | None:
    return _match_affine(node, known) or _match_moments(node, known)


def _match_affine(node: Node, known: _Nodes) -> Match | None:
    """(x − mean) / √(variance + ε), then a scale, then a shift: as PyTorch's exporters write it."""
    current, inside, parameters = _follow_affine(node, known)
    if current is None or current.operation not in ("Div", "Mul") or len(current.inputs) != 2:
        return None
    pairs = [current.inputs] if current.operation == "Div" else [
        current.inputs, current.inputs[::-1]
    ]  # fmt: skip
    for difference, divisor in pairs:
        spread = _find_spread(divisor, known)
        inverted = current.operation == "Mul"
        if spread is None or spread.difference != difference or spread.inverted != inverted:
            continue
        every = {each.id: each for each in (*inside, current, *spread.inside)}
        every.pop(node.id, None)
        return Match(
            "layer_norm", spread.source, list(every.values()), spread.hyper, tuple(parameters)
        )
    return None


def _follow_affine(node: Node, known: _Nodes) -> tuple[Node | None, list[Node], list[Parameter]]:
    """Return what a scale and a shift by weights are applied to, both nodes, and their weights."""
    inside: list[Node] = []
    parameters: list[Parameter] = []
    current: Node | None = node
    for kind, role in (("bias_add", "beta"), ("layer_scale", "gamma")):
        if current is None or current.kind != kind or len(current.inputs) != 1:
            continue
        # A constant that the graph computes is no weight.
        if not current.parameters:
            return None, [], []
        parameters.insert(0, replace(current.parameters[0], role=role))
        inside.append(current)
        current = known.producers.get(current.inputs[0])
    return current, inside, parameters


def _match_group_norm(node: Node, known: _Nodes) -> Match | None:
    """Groups of channels as the channels of an instance-norm without weights, then a scale and a
    shift: as PyTorch's exporters write it below opset 21."""
    current, inside, parameters = _follow_affine(node, known)
    chain: list[Node] = []
    for operation in ("Reshape", "InstanceNormalization", "Reshape"):
        if current is None or current.operation != operation or len(current.inputs) != 1:
            return None
        chain.append(current)
        current = known.producers.get(current.inputs[0])
    back, norm, apart = chain
    grouped: Sequence[int] = apart.hyper.get("shape") or ()
    whole: Sequence[int] = back.hyper.get("shape") or ()
    if len(grouped) != 3 or len(whole) < 3 or grouped[0] != whole[0]:
        return None
    gamma, beta = norm.find_parameter("gamma"), norm.find_parameter("beta")
    if not (_is_constant(gamma, 1.0) and _is_constant(beta, 0.0)):
        return None
    # Each weight has one value a channel.
    if any(each.size != whole[1] for each in parameters) or whole[1] % grouped[1]:
        return None
    every = {each.id: each for each in (*inside, *chain)}
    every.pop(node.id, None)
    hyper = {"epsilon": norm.hyper["epsilon"], "groups": grouped[1]}
    source = apart.inputs[0]
    return Match("group_norm", source, list(every.values()), hyper, tuple(parameters))


def _is_constant(parameter: Parameter | None, value: float) -> bool:
    """Return whether all values of a weight are `value`."""
    return (
        parameter is not None
        and parameter.moments is not None
        and parameter.moments[2:] == (value, value)
    )


def _match_moments(node: Node, known: _Nodes) -> Match | None:
    """x·s + (shift − mean·s) with s = scale / √(variance + ε): as tf2onnx writes Keras's."""
    if node.operation != "Add" or len(node.inputs) != 2:
        return None
    for left, right in (node.inputs, node.inputs[::-1]):
        product, shifted = known.find(left, "Mul"), known.producers.get(right)
        if product is None or shifted is None or len(product.inputs) != 2:
            continue
        if shifted.kind != "bias_add" or len(shifted.inputs) != 1 or not shifted.parameters:
            continue
        moved = known.find(shifted.inputs[0], "Mul")
        if moved is None or len(moved.inputs) != 2:
            continue
        for source, scale in (product.inputs, product.inputs[::-1]):
            scaled = known.producers.get(scale)
            if scaled is None or scale not in moved.inputs or scaled.kind != "layer_scale":
                continue
            if not scaled.parameters:
                continue
            spread = _find_spread(scaled.inputs[0], known)
            (negated,) = (name for name in moved.inputs if name != scale)
            negative = known.find(negated, "Neg")
            if spread is None or not spread.inverted or negative is None:
                continue
            if spread.source != source or negative.inputs[0] != spread.mean:
                continue
            parameters = (
                replace(scaled.parameters[0], role="gamma"),
                replace(shifted.parameters[0], role="beta"),
            )
            inside = [product, shifted, moved, scaled, negative, *spread.inside]
            return Match("layer_norm", source, inside, spread.hyper, parameters)
    return None


def _find_spread(tensor: str, known: _Nodes) -> _Spread | None:
    """Follow a tensor back to the variance of another: root, sum with ε, mean of squares."""
    inside: list[Node] = []
    inverse = known.find(tensor, "Reciprocal")
    if inverse is not None:
        inside.append(inverse)
        tensor = inverse.inputs[0]
    chain: list[Node] = []
    for operation in ("Sqrt", "Add", "ReduceMean"):
        node = known.find(tensor, operation)
        if node is None or len(node.inputs) != 1:
            return None
        chain.append(node)
        tensor = node.inputs[0]
    _, added, mean_square = chain
    epsilon = _number(added)
    square = known.producers.get(tensor)
    if epsilon is None or square is None:
        return None
    squared = (square.operation == "Mul" and len(set(square.inputs)) == 1) or (
        square.operation == "Pow" and _number(square) == 2
    )  # fmt: skip
    difference = known.find(square.inputs[0], "Sub") if squared else None
    if difference is None or len(difference.inputs) != 2:
        return None
    source, centre = difference.inputs
    inside += [*chain, square, difference]
    # The mean may be reshaped before it is subtracted.
    moved = known.find(centre, "Reshape")
    if moved is not None:
        inside.append(moved)
        centre = moved.inputs[0]
    mean = known.find(centre, "ReduceMean")
    axes = mean_square.hyper.get("axes")
    if mean is None or mean.inputs != (source,) or mean.hyper.get("axes") != axes:
        return None
    hyper = {"epsilon": restore_decimal(epsilon), "axes": axes}
    return _Spread(
        source, centre, difference.outputs[0], hyper, [*inside, mean], inverse is not None
    )
