"""Operations that change one tensor by constants, in the form that all ways of writing them share.

A difference of a constant is a sum with its negative, a quotient a product with its inverse. What
hides scores before a softmax is a mask, whichever number it puts there.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof import tables
from parity.explain.proof.layer import Array
from parity.explain.proof.masks import Added, describe_other_mask, hides, split_added
from parity.explain.proof.region import agree, list_preferred, rearrange
from parity.network import kinds
from parity.network.graph import OPAQUE, Node

_MOST_ORDERS = 24
"""The orders of axes of two constants that are compared."""


class Form(enum.Enum):
    """What an operation does with its tensor."""

    SUM = enum.auto()
    PRODUCT = enum.auto()
    MASK = enum.auto()


@dataclass(frozen=True)
class Change:
    """A tensor and the constant that changes it, in the shape of the output.

    The constant of a mask is 1 where it shows the tensor, and 0 where it hides it.
    """

    form: Form
    tensor: str
    constant: Array
    written: Array
    """The constant as it is written."""
    is_inverse: bool = False
    """Whether it is subtracted, or divided by."""
    is_table: bool = False
    """Whether it has several values."""


@dataclass(frozen=True)
class Operand:
    """One of what an operation reads: its tensor's id, or "", and its values on one input."""

    tensor: str
    values: Array | None


def read_change(node: Node, operands: Sequence[Operand], shape: tuple[int, ...]) -> Change | None:
    """Return an operation with one constant in the shared form; None for any other.

    `operands` are in their order, a weight last; `shape` is that of the output.
    """
    if node.kind == OPAQUE or kinds.find(node.kind) is None:
        return None
    kind = kinds.properties(node.kind)
    if kind.selects:
        return _read_selection(operands, shape)
    mask = _read_added_mask(operands, shape) if kind.adds else None
    if mask is not None:
        return mask
    places = [at for at, each in enumerate(operands) if not each.tensor]
    if len(operands) != 2 or len(places) != 1:
        return None
    place = places[0]
    constant = operands[place].values
    if constant is None or not np.isfinite(constant).all():
        return None
    tensor = operands[1 - place].tensor
    is_sum = kind.adds or kind.python_operator == "-"
    is_product = kind.factor or (kind.affine and not kind.adds)
    if not is_sum and not is_product:
        return None
    is_inverse = kind.ordered
    if is_inverse and (place == 0 or (is_product and not constant.all())):
        return None
    try:
        written = np.broadcast_to(constant, shape)
    except ValueError:
        return None
    inverse = (-written if is_sum else 1.0 / written) if is_inverse else written
    form = Form.SUM if is_sum else Form.PRODUCT
    return Change(form, tensor, inverse, written, is_inverse, constant.size > 1)


def _read_selection(operands: Sequence[Operand], shape: tuple[int, ...]) -> Change | None:
    """Return what hides values of one tensor by a large negative number."""
    if len(operands) != 3 or operands[0].values is None:
        return None
    condition = operands[0].values != 0
    for place, other in ((1, 2), (2, 1)):
        data, hidden = operands[place], operands[other].values
        if not data.tensor or data.values is None or hidden is None:
            continue
        if hidden.size == 0 or (hidden != hidden.reshape(-1)[0]).any():
            continue
        visible = condition if place == 1 else ~condition
        try:
            shown = np.broadcast_to(visible, shape)
            seen = np.broadcast_to(data.values, shape)[shown]
        except ValueError:
            continue
        if hides(float(hidden.reshape(-1)[0]), seen):
            return _mask(data.tensor, shown)
    return None


def _read_added_mask(operands: Sequence[Operand], shape: tuple[int, ...]) -> Change | None:
    """Return what hides values of one tensor by the sum with one that is 0 or very small."""
    found = []
    for place in (0, 1):
        if len(operands) != 2 or operands[place].values is None or not operands[1 - place].tensor:
            continue
        added = split_added(np.asarray(operands[place].values))
        if added.visible.any() and not added.visible.all() and not added.has_bias:
            shown = np.broadcast_to(added.visible, shape)
            found.append(_mask(operands[1 - place].tensor, shown))
    return found[0] if len(found) == 1 else None


def _mask(tensor: str, shown: NDArray[np.bool_]) -> Change:
    values = shown.astype(np.float64)
    return Change(Form.MASK, tensor, values, values, is_table=True)


def has_other_constant(wanted: Change, own: Change, order: Sequence[int] | None) -> bool:
    """Return whether two changes of one form have other constants.

    `order` are the subject's axes in the reference's, if they are known.
    """
    turned = _turn(own.constant, wanted.constant, order)
    return bool(turned) and not any(agree(wanted.constant, each) for each in turned)


def describe_other_constant(
    wanted: Change, own: Change, order: Sequence[int] | None
) -> tuple[str, str]:
    """Return in words how the subject's constant differs from the reference's, and the remedy."""
    if wanted.form is Form.MASK:
        nearest = _find_nearest(wanted.constant, _turn(own.constant, wanted.constant, order))
        found = describe_other_mask(_as_mask(nearest), _as_mask(wanted.constant))
        return f"the mask {found}", "use the reference's mask"
    written = _turn(own.written, wanted.written, order)
    if wanted.is_inverse is own.is_inverse:
        relation = _compare(wanted.written, written)
        return tables.describe(relation, "the constant")
    if any(agree(wanted.written, each) for each in written):
        verbs = [_VERBS[each.form, each.is_inverse] for each in (own, wanted)]
        return f"the constant is {verbs[0]}, not {verbs[1]}", f"it must be {verbs[1]}"
    # What the subject's operation would have to read, to do what the reference's does.
    with np.errstate(divide="ignore"):
        needed = -wanted.written if wanted.form is Form.SUM else 1.0 / wanted.written
    inverse = _INVERSES[wanted.form]
    both = "the operation and the constant of the reference"
    if not np.isfinite(needed).all():
        return f"the constant is not {inverse} of the reference's", f"use {both}"
    if len(np.unique(needed)) == len(np.unique(own.written)) == 1:
        wrong, right = (f"{each.flat[0]:.7g}" for each in (own.written, needed))
        return f"the constant is {wrong}, where {inverse} of the reference's is {right}", (
            f"write {right}"
        )
    relation = _compare(needed, written)
    if relation.kind in (tables.Change.OFFSET, tables.Change.FREQUENCIES):
        # In what words these are told depends on the sign.
        relation = replace(relation, kind=tables.Change.OTHER, found="at most of its places")
    return tables.describe(relation, "the constant", inverse=inverse, constant=both)


def _compare(wanted: Array, turned: Sequence[Array]) -> tables.Relation:
    """Return how a constant became another, in the nearest order of axes.

    Its shape is that of the output: an axis of it has another number there.
    """
    after = _find_nearest(wanted, turned)
    return tables.compare(before=wanted, after=after, has_own_axes=False)


_INVERSES = {Form.SUM: "the negative", Form.PRODUCT: "the inverse"}

_VERBS = {
    (Form.SUM, False): "added",
    (Form.SUM, True): "subtracted",
    (Form.PRODUCT, False): "a factor",
    (Form.PRODUCT, True): "a divisor",
}


def _turn(own: Array, wanted: Array, order: Sequence[int] | None) -> list[Array]:
    """Return a constant in the orders of axes in which it may be compared with another."""
    if own.size != wanted.size:
        return []
    orders = [tuple(order)] if order is not None else list_preferred(own.shape, wanted.shape)
    return [rearrange(own, each, wanted.shape) for each in orders[:_MOST_ORDERS]]


def _find_nearest(wanted: Array, turned: Sequence[Array]) -> Array:
    return min(turned, key=lambda each: float(np.abs(each - wanted).sum()))


def _as_mask(visible: NDArray[np.float64]) -> Added:
    shown = visible != 0
    return Added(shown, np.zeros(shown.shape))
