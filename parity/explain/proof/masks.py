"""What is added to the scores of attention: a mask, and a bias of the pairs that it leaves.

A mask is written as -inf, or as a large negative number: -100 in Swin, -10000 in BERT.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof.layer import Array, Layer
from parity.network import kinds

_LEAST_GAP = 20.0
"""The smallest step down to what a mask hides: e^-20 is below the rounding of float32."""

_GAP_OVER_SPREAD = 2.0
"""How much larger than the spread of the bias that step must be: a slope has no such step."""


@dataclass(frozen=True)
class Added:
    """What is added to scores: `visible` says which keys a query sees, and `bias` has the rest,
    which is 0 where they are hidden. Both have one shape, which fits that of the scores."""

    visible: NDArray[np.bool_]
    bias: Array

    @property
    def has_bias(self) -> bool:
        """Whether anything is added to the scores that are visible."""
        return bool(self.bias.any())

    def broadcast(self, shape: tuple[int, ...]) -> Added:
        """Return both in a shape that they fit."""
        return Added(np.broadcast_to(self.visible, shape), np.broadcast_to(self.bias, shape))

    @property
    def tensor(self) -> Array:
        """Both as one tensor that is added."""
        return np.where(self.visible, self.bias, -np.inf)


def split_added(tensor: Array) -> Added:
    """Return the mask and the bias of a tensor that is added to scores."""
    visible = tensor > -np.inf
    left = np.unique(tensor[visible])
    if len(left) > 1:
        gaps = np.diff(left)
        at = int(gaps.argmax())
        spread = max(left[at] - left[0], left[-1] - left[at + 1])
        if gaps[at] >= max(_LEAST_GAP, _GAP_OVER_SPREAD * spread):
            visible = tensor > left[at]
    return Added(visible, np.where(visible, tensor, 0.0))


def hides(number: float, seen: Array) -> bool:
    """Return whether a number in the place of scores hides them, beside those that are seen."""
    finite = seen[np.isfinite(seen)]
    if not finite.size:
        return False
    spread = float(np.ptp(finite))
    return float(finite.min()) - number >= max(_LEAST_GAP, _GAP_OVER_SPREAD * spread)


def read_added(layer: Layer) -> Added:
    """Return the mask and the bias of attention, a causal mask included."""
    found = Added(np.ones((1, 1), bool), np.zeros((1, 1)))
    if len(layer.inputs) > 3:
        (given,) = layer.inputs[3:]
        if layer.hyper.get("boolean_mask"):
            found = Added(given != 0, np.zeros(given.shape))
        else:
            found = split_added(given)
    if layer.hyper.get("causal"):
        axis = -3 if layer.hyper.get("time_before_heads") else -2
        lengths = [each.shape[axis] for each in layer.inputs[:2]]
        visible = found.visible & (np.tri(*lengths) != 0)
        found = Added(visible, np.where(visible, found.bias, 0.0))
    return found


def find_mask(layer: Layer) -> str | None:
    """Return in words what a constant hides that an operation adds; None if it is no mask."""
    tables = [layer.inputs[place] for place in sorted(layer.constants)]
    if not kinds.get(layer.kind).adds or len(tables) != 1 or tables[0].ndim < 2:
        return None
    added = split_added(tables[0])
    return None if added.visible.all() or added.has_bias else describe_hidden(added.visible)


def describe_other_mask(found: Added, wanted: Added) -> str | None:
    """Return in words what one mask hides and another does not; None if both hide the same, or
    their shapes do not fit."""
    try:
        shape = np.broadcast_shapes(found.visible.shape, wanted.visible.shape)
    except ValueError:
        return None
    first, second = (np.broadcast_to(each.visible, shape) for each in (found, wanted))
    if np.array_equal(first, second):
        return None
    # Of a mask that no order of queries changes these say nothing.
    for words, turned in _list_turned(second):
        if turned.shape == first.shape and np.array_equal(first, turned):
            return f"is the reference's {words}"
    hidden, others = describe_hidden(first), describe_hidden(second)
    others = "as many others" if hidden == others else others
    return f"hides {hidden}, where the reference hides {others}"


def _list_turned(visible: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the ways in which masks are built wrongly, in words, and what they make of one."""
    yield "inverted: it hides what that shows", ~visible
    # What is the same for every query has no such order.
    if visible.ndim > 1 and (visible != visible[..., :1, :]).any():
        yield "transposed", visible.swapaxes(-1, -2)
        yield "upside down", visible[..., ::-1, :]
        yield "mirrored", visible[..., ::-1]


def describe_hidden(visible: NDArray[np.bool_]) -> str:
    """Return in words which keys (..., T, S) are hidden from which queries."""
    visible = drop_repeats(np.atleast_2d(visible))
    if visible.all():
        return "no key"
    if visible.shape[-2] > 1 and (visible == (np.tri(*visible.shape[-2:]) != 0)).all():
        return "later keys"
    if (visible == visible[..., :1, :]).all():
        visible = visible[..., :1, :]
        counts = (~visible).sum(-1)
        most = "" if counts.size == 1 else "up to "
        return f"{most}{counts.max()} of {visible.shape[-1]} keys from every query"
    return f"{int((~visible).sum())} of {visible.size} pairs of query and key"


def drop_repeats(tensor: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a tensor with the leading axes along which nothing changes at the length 1."""
    for axis in range(tensor.ndim - 2):
        first = tensor.take([0], axis)
        tensor = first if (tensor == first).all() else tensor
    return tensor
