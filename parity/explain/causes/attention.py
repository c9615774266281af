"""Attention with another scale, mask, order of heads or projections: it grows with length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof import tables
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import (
    Array,
    Layer,
    LayerChange,
    change_hyper,
    evaluate,
    replace_output,
)
from parity.explain.proof.masks import Added, describe_other_mask, read_added

MASK, SCALE, HEADS = "attention-mask", "attention-scale", "attention-heads"
PROJECTIONS, BIAS = "attention-projections", "attention-bias"
ADDED = "attention-score-bias"

_SAME_BIAS = 1e-5
"""The largest difference, relative to the largest value, of biases that are called equal: one that
is measured on scores has their rounding."""

_CORE, _WHOLE = "scaled_dot_product_attention", "multi_head_attention"
_PARTS = ("query", "key", "value")


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    layer = failing.reference_layer
    if layer.kind in (_CORE, _WHOLE):
        yield from _propose_settings(failing, layer)
    if layer.kind == _WHOLE:
        yield from _propose_projections(failing)
    stated = failing.subject_layer
    if stated is None or stated.kind not in (_CORE, _WHOLE):
        return
    if layer.kind != stated.kind:
        yield from _propose_of_stated(failing, stated)
    if stated.kind == _CORE:
        yield from _propose_other_heads(failing, stated)
    if stated.kind == layer.kind == _CORE:
        yield from _propose_as_stated(failing, layer, stated)


def _propose_settings(failing: FailingLayer, layer: Layer) -> Iterator[Candidate]:
    causal = bool(layer.hyper.get("causal", False))
    yield Candidate(
        MASK,
        change_hyper(causal=not causal),
        "Queries see later keys" if causal else "Queries see no later key: it is causal",
        f"{failing.label}: set the causal mask {'on' if causal else 'off'}",
        0.6,
    )
    if layer.kind == _CORE:
        width = layer.inputs[0].shape[-1]
        scale = layer.hyper.get("scale")
        remedy = (
            f"{failing.label}: multiply the scores by {scale:.4g}"
            if scale
            else f"{failing.label}: divide the scores by the root of {width}"
        )
        for text, value in _scales(layer, width):
            yield Candidate(
                SCALE,
                change_hyper(scale=value),
                f"The scores are multiplied by {text}",
                remedy,
                0.5,
            )
        for text, order in (("Query and key", (1, 0, 2)), ("Key and value", (0, 2, 1)),
                            ("Query and value", (2, 1, 0))):  # fmt: skip
            yield Candidate(
                PROJECTIONS,
                _permute_inputs(order),
                f"{text} are exchanged",
                f"{failing.label}: give it query, key and value in this order",
                0.4,
            )
    if len(layer.inputs) > 3:
        yield Candidate(
            MASK,
            lambda own: replace(own, inputs=own.inputs[:3]),
            "The mask is not applied",
            f"{failing.label}: apply the mask",
            0.6,
        )
        if layer.hyper.get("boolean_mask"):
            yield Candidate(
                MASK,
                _invert_mask,
                "The mask is inverted",
                f"{failing.label}: invert the mask",
                0.6,
            )


def _scales(layer: Layer, width: int) -> Iterator[tuple[str, float]]:
    heads = layer.inputs[0].shape[1] if layer.inputs[0].ndim == 4 else 1
    own = layer.hyper.get("scale") or 1.0 / math.sqrt(width)
    for text, value in (
        ("1, without a scale", 1.0),
        (f"the reciprocal of the root of {width}", 1.0 / math.sqrt(width)),
        (f"the reciprocal of {width}", 1.0 / width),
        (f"the reciprocal of the root of {width * heads}, all heads' width",
         1.0 / math.sqrt(width * heads)),
        ("the scale twice", own * own),
    ):  # fmt: skip
        if not math.isclose(value, own):
            yield text, value


def _propose_projections(failing: FailingLayer) -> Iterator[Candidate]:
    layer = failing.reference_layer
    for first, second in (("query", "key"), ("key", "value"), ("query", "value")):
        yield Candidate(
            PROJECTIONS,
            _exchange(first, second),
            f"The weights of {first} and {second} are exchanged",
            f"{failing.label}: map {first} to {first} and {second} to {second}",
            0.5,
        )
    heads = int(layer.hyper.get("heads") or 1)
    if heads > 1:
        yield Candidate(
            HEADS,
            _reorder_heads(heads),
            "The outputs of the projections are split with the heads last, not first",
            f"{failing.label}: split the width into (heads, width of a head)",
            0.5,
        )
    for count in (1, 2, 4, 8, 16):
        width = _width(layer)
        if count != heads and width % count == 0:
            yield Candidate(
                HEADS,
                change_hyper(heads=count),
                f"It has {count} heads, not {heads}",
                f"{failing.label}: use {heads} heads",
                0.45,
            )
    biases = [name for name in layer.weights if name.endswith("bias")]
    if biases:
        yield Candidate(
            BIAS,
            lambda own: own.with_weights(**{n: np.zeros_like(own.weights[n]) for n in biases}),
            "Its projections have no bias",
            f"{failing.label}: set the bias on, and copy it",
            0.5,
        )
        inner = [name for name in biases if not name.startswith("output")]
        yield Candidate(
            BIAS,
            lambda own: own.with_weights(**{n: np.zeros_like(own.weights[n]) for n in inner}),
            "Its projections of query, key and value have no bias",
            f"{failing.label}: set the bias of query, key and value on, and copy it",
            0.5,
        )


def _propose_of_stated(failing: FailingLayer, stated: Layer) -> Iterator[Candidate]:
    """Yield what turns the subject's one operation into the reference's several.

    The reference writes attention out, and only its last product is a layer. That the subject's
    operation gives the subject's output, and with the change the reference's, proves the cause.
    """
    options: list[tuple[str, str, Mapping[str, Any]]] = []
    if stated.hyper.get("causal"):
        options.append((MASK, "Queries see no later key: it is causal", {"causal": False}))
    else:
        options.append((MASK, "Queries see later keys, where the reference is causal",
                        {"causal": True}))  # fmt: skip
    if stated.kind == _CORE:
        width = stated.inputs[0].shape[-1]
        own = stated.hyper.get("scale") or 1.0 / math.sqrt(width)
        options += [
            (SCALE, f"The scores are multiplied by {own:.4g}, not {value:.4g}", {"scale": value})
            for _, value in _scales(stated, width)
        ]
    for name, text, hyper in options:
        if _gives(stated.with_hyper(**hyper), failing.expected, failing.floor.max_abs):
            yield Candidate(
                name,
                replace_output(evaluate(stated)),
                text,
                f"{failing.label}: set {', '.join(f'{k}={v}' for k, v in hyper.items())}",
                1.0,
                proof_method="With that changed the operation gives the reference's output, and as "
                "it is the subject's",
                replaces_output=True,
            )


def _propose_as_stated(failing: FailingLayer, layer: Layer, stated: Layer) -> Iterator[Candidate]:
    """Yield the subject's scale and mask, on the reference's query, key and value."""
    scale, wanted = (
        each.hyper.get("scale") or each.inputs[0].shape[-1] ** -0.5 for each in (stated, layer)
    )
    if not math.isclose(scale, wanted, rel_tol=1e-6):
        digits = 4 if not math.isclose(scale, wanted, rel_tol=1e-3) else 8
        numbers = [f"{each:.{digits}g}" for each in (scale, wanted)]
        yield Candidate(
            SCALE,
            change_hyper(scale=scale),
            f"The scores are multiplied by {numbers[0]}, not {numbers[1]}",
            f"{failing.label}: multiply the scores by {numbers[1]}",
            0.45,
            place="scale",
        )
    if not (stated.inputs[3:] or layer.inputs[3:]):
        # Of two without a mask one may be causal: that is tried without the subject's operation.
        return
    found, reference = read_added(stated), read_added(layer)
    try:
        shape = np.broadcast_shapes(found.visible.shape, reference.visible.shape)
    except ValueError:
        return
    found, reference = found.broadcast(shape), reference.broadcast(shape)
    difference = describe_other_mask(found, reference)
    if difference is not None:
        # What one of them hides has no bias: the subject's is taken.
        bias = np.where(reference.visible, reference.bias, found.bias)
        yield Candidate(
            MASK,
            partial(_change_added, visible=found.visible, bias=bias),
            f"It {difference}",
            f"{failing.label}: apply the reference's mask",
            0.55,
            place="mask",
        )
    both = found.visible & reference.visible
    first, second = (np.where(both, each.bias, 0.0) for each in (found, reference))
    scale = max(np.abs(first).max(initial=0.0), np.abs(second).max(initial=0.0))
    if np.abs(first - second).max(initial=0.0) > _SAME_BIAS * scale:
        bias = np.where(found.visible, found.bias, reference.bias)
        yield _describe_other_bias(failing, found=first, wanted=second, bias=bias)


def _describe_other_bias(
    failing: FailingLayer, *, found: Array, wanted: Array, bias: Array
) -> Candidate:
    """Return that another tensor is added to the scores; `found` and `wanted` are 0 where either
    model hides a key, `bias` is the subject's."""
    name = ADDED
    if not wanted.any():
        text, remedy = (
            "A bias is added to its scores, which the reference does not add",
            "remove it",
        )
    elif not found.any():
        text, remedy = "No bias is added to its scores", "add the reference's"
    else:
        relation = tables.compare(before=wanted, after=found)
        if relation.kind is tables.Change.OTHER and failing.constant_source_weights:
            name = "other-weights"
        texts = {
            tables.Change.FACTOR: f"is {relation.found} times the reference's",
            tables.Change.FACTORS: f"is {relation.found} times the reference's, along one axis",
            tables.Change.OFFSET: f"has at each place what the reference has {relation.found} it",
            tables.Change.ORDER: f"has another order: {relation.found}, not {relation.wanted}",
        }
        says = texts.get(relation.kind, f"has other values: {relation.found}")
        text, remedy = f"The bias that is added to its scores {says}", "add the reference's"
    return Candidate(
        name,
        partial(_change_added, bias=bias),
        text,
        f"{failing.label}: {remedy}",
        0.55,
        place="bias",
    )


def _change_added(
    layer: Layer, *, visible: NDArray[np.bool_] | None = None, bias: Array | None = None
) -> Layer:
    """Return attention with another mask, or another bias of the scores that it leaves."""
    own = read_added(layer)
    changed = Added(own.visible if visible is None else visible, own.bias if bias is None else bias)
    layer = replace(layer, inputs=(*layer.inputs[:3], changed.tensor))
    return layer.with_hyper(causal=False, boolean_mask=False)


def _propose_other_heads(failing: FailingLayer, stated: Layer) -> Iterator[Candidate]:
    """Yield heads of another width: the same features are split into more, or fewer, heads.

    That the subject's operation gives the reference's output if its data is split as the
    reference's is, and the subject's own if not, proves the cause.
    """
    heads, width = _split(stated)
    if stated.hyper.get("grouped") or not heads:
        return
    where = f", in {', '.join(failing.input_reshapes)}" if failing.input_reshapes else ""
    for count in _list_counts(failing.reference_layer, stated):
        if count == heads or heads * width % count:
            continue
        split = _split_into(stated, count)
        if split is None or not _gives(split, failing.expected, failing.floor.max_abs):
            continue
        yield Candidate(
            HEADS,
            replace_output(evaluate(stated)),
            f"It has {heads} heads of width {width}, not {count} of {heads * width // count}",
            f"{failing.label}: split the {heads * width} features into {count} heads{where}",
            1.0,
            proof_method="With its data split into as many heads as the reference's, the "
            "operation gives the reference's output, and as it is the subject's",
            replaces_output=True,
        )


def _list_counts(layer: Layer, stated: Layer) -> Iterable[int]:
    """Return the numbers of heads from 1 on that the reference's attention may have.

    Of a part of it they are those whose scores are no more values than that part reads.
    """
    if layer.kind == _CORE:
        heads = _split(layer)[0]
        return range(heads, heads + 1) if heads else ()
    query, key = stated.inputs[:2]
    of_one = query.shape[0] * math.prod(
        each.shape[3 - _heads_axis(stated)] for each in (query, key)
    )
    most = max((each.size for each in layer.inputs), default=0) // max(of_one, 1)
    return range(1, min(most, math.prod(_split(stated))) + 1)


def _split(layer: Layer) -> tuple[int, int]:
    """Return the heads of attention and their width; no heads where its data has no such axis."""
    shapes = {(each.shape[_heads_axis(layer)], each.shape[-1])
              for each in layer.inputs[:3] if each.ndim == 4}  # fmt: skip
    return shapes.pop() if len(shapes) == 1 and len(layer.inputs) >= 3 else (0, 0)


def _split_into(layer: Layer, heads: int) -> Layer | None:
    """Return attention whose features are split into as many heads; None with a mask for each."""
    axis = _heads_axis(layer)
    if any(each.ndim == 4 and each.shape[axis] != 1 for each in layer.inputs[3:]):
        return None
    inputs = []
    for each in layer.inputs[:3]:
        last = np.moveaxis(each, axis, -2)
        split = last.reshape(*last.shape[:-2], heads, last.shape[-2] * last.shape[-1] // heads)
        inputs.append(np.moveaxis(split, -2, axis))
    scale = layer.hyper.get("scale")
    if scale is not None and math.isclose(scale, _split(layer)[1] ** -0.5, rel_tol=1e-5):
        # That of the width, which is another one then.
        layer = layer.with_hyper(scale=None)
    return replace(layer, inputs=(*inputs, *layer.inputs[3:]))


def _heads_axis(layer: Layer) -> int:
    return 2 if layer.hyper.get("time_before_heads") else 1


def _gives(layer: Layer, expected: Array, floor: float) -> bool:
    try:
        output = evaluate(layer)
    except (ValueError, KeyError, IndexError):
        return False
    if output.shape != expected.shape:
        return False
    return bool(np.abs(output - expected).max(initial=0.0) <= 8.0 * floor)


def _permute_inputs(order: tuple[int, ...]) -> LayerChange:
    return lambda layer: replace(
        layer, inputs=(*(layer.inputs[index] for index in order), *layer.inputs[3:])
    )


def _invert_mask(layer: Layer) -> Layer:
    mask = np.asarray(layer.inputs[3] == 0, np.float64)
    return replace(layer, inputs=(*layer.inputs[:3], mask, *layer.inputs[4:]))


def _exchange(first: str, second: str) -> LayerChange:
    def change(layer: Layer) -> Layer:
        weights = dict(layer.weights)
        for part in ("kernel", "bias"):
            packed = f"packed_{part}"
            if packed in weights:
                pieces = np.split(weights[packed], 3)
                one, two = _PARTS.index(first), _PARTS.index(second)
                pieces[one], pieces[two] = pieces[two], pieces[one]
                weights[packed] = np.concatenate(pieces)
            elif f"{first}_{part}" in weights and f"{second}_{part}" in weights:
                names = f"{first}_{part}", f"{second}_{part}"
                weights[names[0]], weights[names[1]] = weights[names[1]], weights[names[0]]
        return replace(layer, weights=weights)

    return change


def _reorder_heads(heads: int) -> LayerChange:
    """Return the change to (width, heads) for (heads, width) in the rows of each projection."""

    def change(layer: Layer) -> Layer:
        weights = dict(layer.weights)
        for name, value in layer.weights.items():
            if name.startswith("packed"):
                parts = [_turn(piece, heads) for piece in np.split(value, 3)]
                weights[name] = np.concatenate(parts)
            elif name.split("_")[0] in _PARTS:
                weights[name] = _turn(value, heads)
        weights["output_kernel"] = _turn(layer.weights["output_kernel"].T, heads).T
        return replace(layer, weights=weights)

    return change


def _turn(value: Array, heads: int) -> Array:
    shape = value.shape
    return value.reshape(shape[0] // heads, heads, *shape[1:]).swapaxes(0, 1).reshape(shape)


def _width(layer: Layer) -> int:
    kernel = layer.weights.get("packed_kernel")
    if kernel is not None:
        return len(kernel) // 3
    return len(layer.weights["query_kernel"]) if "query_kernel" in layer.weights else 1
