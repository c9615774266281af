"""Attention that a model writes out in several operations, read as one layer by what it computes.

Of the operations the tensors alone are used: what the softmax reads, over the products of query and
key, is their scale, and what the softmax makes 0 is hidden by a mask. So it does not matter how a
model writes a mask, or where it divides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explain.misread_tensors import agree, find_agreeing
from parity.explain.proof.layer import Layer, evaluate
from parity.explain.proof.masks import split_added
from parity.network import kinds
from parity.network.graph import Graph, Node

Array = NDArray[np.float64]

ATTENTION = "scaled_dot_product_attention"

_ROUNDING = 1e-6
"""The relative rounding of scores in float32, which a difference of them has."""


@dataclass(frozen=True)
class _Product:
    """A product of two tensors as one of matrices, with the axes (..., T, S).

    `left` is (..., T, D) and `right` (..., S, D); the tensor that the model has is the product with
    its axes in the order `axes`.
    """

    left: Array
    right: Array
    axes: tuple[int, ...]


def read_attention(
    graph: Graph, nodes: Sequence[Node], values: Mapping[str, Array]
) -> tuple[Layer, tuple[int, ...]] | None:
    """Return the attention that operations compute together, and the axes of what they give.

    `nodes` are in execution order, `values` the tensors by id, in the model's axes. The layer gives
    (..., T, C); transposed by the axes it is the last operation's output. What is added to the
    scores, such as a bias of positions, is its mask. None where the operations are no attention.
    """
    own = {node.id for node in nodes}
    # A dropout is no operation of a row: it is passed over where a model runs.
    by_output = {
        tensor: node
        for node in graph.nodes
        if node.id in own or kinds.properties(node.kind).passive
        for tensor in node.outputs
    }
    softmaxes = [node for node in nodes if node.kind == "softmax"]
    if len(softmaxes) != 1 or not nodes:
        return None
    softmax, last = softmaxes[0], nodes[-1]
    product = _find_scores(softmax, by_output)
    if product is None:
        return None
    scores = _as_product(product, values)
    attended = _find_attended(last, softmax, by_output)
    raised, weights = values.get(softmax.inputs[0]), values.get(softmax.outputs[0])
    if scores is None or attended is None or raised is None or weights is None:
        return None
    axis = int(softmax.hyper.get("axis", -1)) % raised.ndim
    if scores.axes.index(scores.left.ndim - 1) != axis:
        # It is taken over the queries.
        return None
    back = np.argsort(scores.axes)
    raised, weights = raised.transpose(back), weights.transpose(back)
    summed = _as_product(last, {**values, attended: values[softmax.outputs[0]]}, first=attended)
    factor = _follow_factor(softmax, product, by_output, values)
    settings = _measure_scores(scores, raised, weights, factor)
    output = values.get(last.outputs[0])
    if summed is None or settings is None or output is None:
        return None
    hyper, mask = settings
    value = summed.right.swapaxes(-1, -2)
    layer = Layer(ATTENTION, (scores.left, scores.right, value, *mask), hyper)
    try:
        with np.errstate(all="ignore"):
            found = evaluate(layer).transpose(summed.axes)
    except (ValueError, IndexError):
        return None
    return (layer, summed.axes) if agree(found, output) else None


def _find_scores(softmax: Node, by_output: Mapping[str, Node]) -> Node | None:
    """Return the product of query and key, whose values reach the softmax one by one."""
    waiting, found = [*softmax.inputs], []
    while waiting:
        node = by_output.get(waiting.pop())
        if node is None:
            continue
        if kinds.properties(node.kind).landmark == "product":
            found.append(node)
        else:
            waiting += node.inputs
    return found[0] if len({node.id for node in found}) == 1 else None


def _find_attended(last: Node, softmax: Node, by_output: Mapping[str, Node]) -> str | None:
    """Return the tensor with the softmax's values that the last product reads."""
    if kinds.properties(last.kind).landmark != "product":
        return None
    for tensor in last.inputs:
        node, steps = by_output.get(tensor), 0
        while node is not None and node is not softmax and steps < len(by_output):
            if not kinds.properties(node.kind).passive or len(node.inputs) != 1:
                node = None
                break
            node, steps = by_output.get(node.inputs[0]), steps + 1
        if node is softmax:
            return tensor
    return None


def _as_product(
    node: Node, values: Mapping[str, Array], *, first: str | None = None
) -> _Product | None:
    """Return a product as one of matrices, the operand `first` on its left."""
    if len(node.inputs) != 2 or any(each not in values for each in node.inputs):
        return None
    one, two = (values[each] for each in node.inputs)
    equation = str(node.hyper.get("equation", ""))
    if not equation:
        if one.ndim != two.ndim or one.ndim < 2 or first not in (None, node.inputs[0]):
            return None
        return _Product(one, two.swapaxes(-1, -2), tuple(range(one.ndim)))
    terms, _, result = equation.replace(" ", "").partition("->")
    names = terms.split(",")
    if len(names) != 2 or not (terms + result).replace(",", "").isalpha():
        return None
    if first == node.inputs[1]:
        one, two, names = two, one, names[::-1]
    left, right = names
    batch = [each for each in result if each in left and each in right]
    rows = [each for each in result if each in left and each not in right]
    columns = [each for each in result if each in right and each not in left]
    shared = [each for each in left if each in right and each not in result]
    if [len(rows), len(columns), len(shared)] != [1, 1, 1]:
        return None
    if len(left) != len(right) or len(left) != len(batch) + 2 or len(result) != len(left):
        return None
    order = batch + rows + columns
    return _Product(
        one.transpose([left.index(each) for each in batch + rows + shared]),
        two.transpose([right.index(each) for each in batch + columns + shared]),
        tuple(order.index(each) for each in result),
    )


def _measure_scores(
    scores: _Product, raised: Array, weights: Array, factor: float | None
) -> tuple[dict[str, Any], tuple[Array, ...]] | None:
    """Return the hyperparameters and the mask with which scores become what the softmax reads.

    `factor` is what the operations between them multiply by, None where that is not known: then
    nothing but a mask is added.
    """
    raw = scores.left @ scores.right.swapaxes(-1, -2)
    if raw.shape != raised.shape or not np.isfinite(weights).all():
        return None
    visible = weights != 0.0
    if not visible.any() or not np.isfinite(raised[visible]).all():
        return None
    seen = raw[visible]
    scale = float(seen @ raised[visible]) / (float(seen @ seen) or 1.0)
    # A weight is also 0 where a score is far below the row's largest: no mask hides that.
    shown = visible | find_agreeing(scale * raw, raised)
    hyper: dict[str, Any] = {"causal": False, "grouped": False}
    if agree(scale * raw[shown], raised[shown]):
        mask = _as_mask(shown)
    elif factor is not None:
        scale = factor
        added = split_added(np.where(raised > -np.inf, raised - factor * raw, -np.inf))
        mask = ({"boolean_mask": True}, (added.visible.astype(np.float64),))
        if added.has_bias and not agree(raised[added.visible], (factor * raw)[added.visible]):
            mask = {"boolean_mask": False}, (_drop_repeats(added.tensor, raised),)
        elif added.visible.all():
            mask = {}, ()
        else:
            mask = _as_mask(added.visible)
    else:
        return None
    if not np.isclose(scale, scores.left.shape[-1] ** -0.5, rtol=1e-5):
        hyper["scale"] = scale
    return {**hyper, **mask[0]}, mask[1]


def _as_mask(visible: NDArray[np.bool_]) -> tuple[dict[str, Any], tuple[Array, ...]]:
    """Return the hyperparameters and the mask of what queries see."""
    if visible.all():
        return {}, ()
    if (visible == (np.tri(*visible.shape[-2:]) != 0)).all():
        return {"causal": True}, ()
    for axis in range(visible.ndim):
        first = visible.take([0], axis)
        visible = first if (visible == first).all() else visible
    return {"boolean_mask": True}, (visible.astype(np.float64),)


def _drop_repeats(added: Array, raised: Array) -> Array:
    """Return what is added to scores, once for all samples and heads that have the same.

    It was measured as a difference, with the rounding of `raised`.
    """
    scale = float(np.abs(raised[np.isfinite(raised)]).max(initial=0.0))
    for axis in range(added.ndim - 2):
        first = added.take([0], axis)
        with np.errstate(invalid="ignore"):
            same = (added == first) | (np.abs(added - first) <= _ROUNDING * scale)
        added = first if same.all() else added
    return added


def _follow_factor(
    softmax: Node, product: Node, by_output: Mapping[str, Node], values: Mapping[str, Array]
) -> float | None:
    """Return what the operations from a product to a softmax multiply it by.

    None where one does something else than to multiply by a number, to add or to replace values.
    """
    factor, tensor = 1.0, softmax.inputs[0]
    while (node := by_output.get(tensor)) is not None and node is not product:
        before = [each for each in node.inputs
                  if _leads_to(each, product, by_output)]  # fmt: skip
        if len(before) != 1 or before[0] not in values or tensor not in values:
            return None
        one, two = values[before[0]].reshape(-1), values[tensor].reshape(-1)
        if one.size != two.size:
            return None
        if not (kinds.properties(node.kind).adds or node.kind == "where"):
            finite = np.isfinite(one) & np.isfinite(two)
            ratio = float(one[finite] @ two[finite]) / (float(one[finite] @ one[finite]) or 1.0)
            error = np.abs(ratio * one[finite] - two[finite]).max(initial=0.0)
            if not finite.any() or error > _ROUNDING * np.abs(two[finite]).max():
                return None
            factor *= ratio
        (tensor,) = before
    return factor if node is product else None


def _leads_to(tensor: str, product: Node, by_output: Mapping[str, Node]) -> bool:
    """Return whether a tensor is made of a product by operations of this row."""
    waiting, seen = [tensor], set[str]()
    while waiting:
        node = by_output.get(waiting.pop())
        if node is product:
            return True
        if node is not None and node.id not in seen:
            seen.add(node.id)
            waiting += node.inputs
    return False
