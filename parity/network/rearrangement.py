"""The change of a tensor's axes between two models: reshape, permute, reshape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]


@dataclass(frozen=True, slots=True)
class Rearrangement:
    """Turns a tensor as one model has it into the tensor as the reference has it.

    The tensor is reshaped to `split`, its axes are permuted by `order` as `numpy.transpose` takes
    it, and the result is reshaped to `merged`. An empty field leaves that step out. The batch axis
    is -1 in both shapes, so one rearrangement serves every batch size; the batch must be the
    leading axis and must not be merged with another. Every step is a bijection of the values, which
    `invert` reverses.
    """

    split: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    merged: tuple[int, ...] = ()

    @property
    def is_identity(self) -> bool:
        """Whether the rearrangement changes nothing."""
        return not self.split and not self.merged and self.order == tuple(range(len(self.order)))

    def apply(self, array: Array) -> Array:
        """Return the array with the reference's axes; raises `ValueError` if it does not fit."""
        if self.split:
            array = array.reshape(self.split)
        if self.order:
            array = array.transpose(self.order)
        return array.reshape(self.merged) if self.merged else array

    def infer_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that `apply` gives a tensor of this shape."""
        if self.split:
            shape = self._resolve(self.split, shape)
        if self.order:
            shape = tuple(shape[axis] for axis in self.order)
        return self._resolve(self.merged, shape) if self.merged else shape

    def invert(self, array: Array, original_shape: tuple[int, ...]) -> Array:
        """Return the array to which `apply` gives these values, of `original_shape`."""
        split = self._resolve(self.split, original_shape) if self.split else original_shape
        if self.order:
            permuted = tuple(split[axis] for axis in self.order)
            array = array.reshape(permuted)
            back = sorted(range(len(self.order)), key=self.order.__getitem__)
            array = array.transpose(back)
        return array.reshape(original_shape)

    @staticmethod
    def _resolve(sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return `sizes` with the length that its -1 stands for in a tensor of this shape."""
        known = math.prod(length for length in sizes if length != -1)
        missing = math.prod(shape) // max(known, 1)
        return tuple(missing if length == -1 else length for length in sizes)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {"split": list(self.split), "order": list(self.order), "joined": list(self.merged)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the rearrangement that `to_json` serialised."""
        return cls(tuple(data["split"]), tuple(data["order"]), tuple(data["joined"]))


IDENTITY = Rearrangement()
