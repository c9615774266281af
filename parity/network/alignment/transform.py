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
class WeightTransform:
    """Turns a weight as the reference has it into the weight as the other model has it.

    `take` takes the part of a packed weight of the reference. The array is reshaped to `split`, its
    axes are permuted by `order`, and the result is reshaped to `joined`; an empty field leaves
    that step out. `place` says which part of the other's packed weight the result is.
    """

    split: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    take: Slice | None = None
    place: Slice | None = None

    @property
    def is_identity(self) -> bool:
        """Whether the transform changes nothing."""
        permuted = self.order and self.order != tuple(range(len(self.order)))
        return not (permuted or self.split or self.joined or self.take or self.place)

    def apply(self, array: Array, shape: tuple[int, ...] = ()) -> Array:
        """Return the reference's array as the other's; `shape` is that of the other's weight.

        With `place` the result is the part that belongs there. Raises `WeightError` if the array
        does not fit.
        """
        try:
            if self.take is not None:
                array = array[self.take.index()]
            if self.split:
                array = array.reshape(self.split)
            if self.order:
                array = array.transpose(self.order)
            if self.joined:
                array = array.reshape(self.joined)
        except ValueError as error:
            raise WeightError(f"a weight of {array.shape} does not fit its partner") from error
        expected = self._part_shape(shape)
        if expected and tuple(array.shape) != expected:
            raise WeightError(f"a weight of {array.shape} does not fit its partner of {expected}")
        return array

    def undo(self, array: Array, shape: tuple[int, ...] = ()) -> Array:
        """Return the other's array as the reference's; `shape` is that of the reference's weight.

        With `take` the result is the part that belongs there. Raises `WeightError` if the array
        does not fit.
        """
        wanted = shape
        if self.take is not None and shape:
            sizes = list(shape)
            sizes[self.take.axis] = self.take.stop - self.take.start
            wanted = tuple(sizes)
        try:
            if self.place is not None:
                array = array[self.place.index()]
            split = self.split or wanted
            if self.order:
                array = array.reshape(tuple(split[axis] for axis in self.order))
                back = sorted(range(len(self.order)), key=self.order.__getitem__)
                array = array.transpose(back)
            return array.reshape(wanted) if wanted else array
        except (ValueError, IndexError) as error:
            raise WeightError(f"a weight of {array.shape} does not fit its partner") from error

    def _part_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape or self.place is None:
            return tuple(shape)
        sizes = list(shape)
        sizes[self.place.axis] = self.place.stop - self.place.start
        return tuple(sizes)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        slices = {
            name: None if each is None else [each.axis, each.start, each.stop]
            for name, each in (("take", self.take), ("place", self.place))
        }
        return {
            "split": list(self.split),
            "order": list(self.order),
            "joined": list(self.joined),
            **slices,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the transform that `to_json` serialised."""
        take, place = (
            None if data[name] is None else Slice(*data[name]) for name in ("take", "place")
        )
        return cls(tuple(data["split"]), tuple(data["order"]), tuple(data["joined"]), take, place)
