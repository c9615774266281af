"""The change of a weight between two models: slice, reshape, permute, reshape, place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from parity.errors import WeightError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]


@dataclass(frozen=True, slots=True)
class Slice:
    """The places `start` to `stop` of an axis of a weight that packs several."""

    axis: int
    start: int
    stop: int

    def index(self) -> tuple[slice, ...]:
        """Return the index that takes the slice from an array."""
        return (*(slice(None),) * self.axis, slice(self.start, self.stop))


@dataclass(frozen=True, slots=True)
class Blocks:
    """The order of the entries of an axis: the gates of a recurrent layer."""

    axis: int
    order: tuple[int, ...]

    def apply(self, array: Array) -> Array:
        """Return the array with the entries in this order."""
        return array.take(self.order, axis=self.axis)

    def invert(self, array: Array) -> Array:
        """Return the array with the entries back in their first order."""
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return array.take(back, axis=self.axis)


@dataclass(frozen=True, slots=True)
class WeightTransform:
    """Turns a weight as the reference has it into the weight as the other model has it.

    `take` takes the part of a packed weight of the reference, one axis after the other. The array
    is reshaped to `split`, the entries of an axis are put in the order of `blocks`, its axes are
    permuted by `order`, and the result is reshaped to `merged`; an empty field leaves that step
    out. `place` says which part of the other's packed weight the result is.
    """

    split: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    merged: tuple[int, ...] = ()
    take: tuple[Slice, ...] = ()
    place: tuple[Slice, ...] = ()
    blocks: Blocks | None = None
    term: int | None = None
    """The place among the terms, where the other's weight is the sum of several of the reference's:
    the two biases of a recurrent layer. Undone, the first term is the sum, and the others are 0."""
    is_zero: bool = False
    """Whether the other's weight is 0: the second bias of a recurrent layer, where the reference
    has one bias."""

    @property
    def is_identity(self) -> bool:
        """Whether the transform changes nothing."""
        permuted = self.order and self.order != tuple(range(len(self.order)))
        moved = permuted or self.split or self.merged or self.take or self.place or self.blocks
        return not moved and self.term is None and not self.is_zero

    def apply(self, array: Array, shape: tuple[int, ...] = ()) -> Array:
        """Return the reference's array as the other's; `shape` is that of the other's weight.

        With `place` the result is the part that belongs there. Raises `WeightError` if the array
        does not fit.
        """
        try:
            for part in self.take:
                array = array[part.index()]
            if self.split:
                array = array.reshape(self.split)
            if self.blocks is not None:
                array = self.blocks.apply(array)
            if self.order:
                array = array.transpose(self.order)
            if self.merged:
                array = array.reshape(self.merged)
            if self.is_zero:
                array = array * 0
        except ValueError as error:
            raise WeightError(f"a weight of {array.shape} does not fit its partner") from error
        expected = _part_shape(shape, self.place)
        if expected and tuple(array.shape) != expected:
            raise WeightError(f"a weight of {array.shape} does not fit its partner of {expected}")
        return array

    def invert(self, array: Array, shape: tuple[int, ...] = ()) -> Array:
        """Return the other's array as the reference's; `shape` is that of the reference's weight.

        With `take` the result is the part that belongs there. Raises `WeightError` if the array
        does not fit.
        """
        wanted = _part_shape(shape, self.take)
        try:
            for part in self.place:
                array = array[part.index()]
            split = self.split or wanted
            if self.order:
                array = array.reshape(tuple(split[axis] for axis in self.order))
                back = sorted(range(len(self.order)), key=self.order.__getitem__)
                array = array.transpose(back)
            if self.blocks is not None:
                array = self.blocks.invert(array.reshape(split))
            if self.term or self.is_zero:
                array = array * 0
            return array.reshape(wanted) if wanted else array
        except (ValueError, IndexError) as error:
            raise WeightError(f"a weight of {array.shape} does not fit its partner") from error

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "split": list(self.split),
            "order": list(self.order),
            "joined": list(self.merged),
            "take": [[each.axis, each.start, each.stop] for each in self.take],
            "place": [[each.axis, each.start, each.stop] for each in self.place],
            "blocks": None if self.blocks is None else [self.blocks.axis, *self.blocks.order],
            "term": self.term,
            "is_zero": self.is_zero,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the transform that `to_json` serialised."""
        blocks = data["blocks"]
        return cls(
            tuple(data["split"]),
            tuple(data["order"]),
            tuple(data["joined"]),
            tuple(Slice(*each) for each in data["take"]),
            tuple(Slice(*each) for each in data["place"]),
            None if blocks is None else Blocks(blocks[0], tuple(blocks[1:])),
            data["term"],
            data.get("is_zero", False),
        )


def _part_shape(shape: tuple[int, ...], parts: tuple[Slice, ...]) -> tuple[int, ...]:
    """Return the shape of a part of a weight."""
    sizes = list(shape)
    for part in parts if shape else ():
        sizes[part.axis] = part.stop - part.start
    return tuple(sizes)
