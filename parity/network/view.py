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
class View:
    """Turns a tensor as one model has it into the tensor as the reference has it.

    The tensor is reshaped to `split`, its axes are permuted by `order` as `numpy.transpose` takes
    it, and the result is reshaped to `joined`. An empty field leaves that step out. The shapes have
    the batch axis, as -1: so a view serves every batch size, if the batch is a leading axis that
    is joined with no other. Every step is a bijection of the values; `inverse` undoes it.
    """

    split: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()

    @property
    def is_identity(self) -> bool:
        """Whether the view changes nothing."""
        return not self.split and not self.joined and self.order == tuple(range(len(self.order)))

    def apply(self, array: Array) -> Array:
        """Return the array with the reference's axes; raises `ValueError` if it does not fit."""
        if self.split:
            array = array.reshape(self.split)
        if self.order:
            array = array.transpose(self.order)
        return array.reshape(self.joined) if self.joined else array

    def result_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the result of `apply` for a tensor of this shape."""
        if self.split:
            shape = self._resolve(self.split, shape)
        if self.order:
            shape = tuple(shape[axis] for axis in self.order)
        return self._resolve(self.joined, shape) if self.joined else shape

    def undo(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Return the array with the model's own axes, of which `shape` is the result's shape."""
        split = self._resolve(self.split, shape) if self.split else shape
        if self.order:
            permuted = tuple(split[axis] for axis in self.order)
            array = array.reshape(permuted)
            back = sorted(range(len(self.order)), key=self.order.__getitem__)
            array = array.transpose(back)
        return array.reshape(shape)

    @staticmethod
    def _resolve(sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return `sizes` with the length that its -1 stands for in a tensor of this shape."""
        known = math.prod(length for length in sizes if length != -1)
        missing = math.prod(shape) // max(known, 1)
        return tuple(missing if length == -1 else length for length in sizes)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {"split": list(self.split), "order": list(self.order), "joined": list(self.joined)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the view that `to_json` serialised."""
        return cls(tuple(data["split"]), tuple(data["order"]), tuple(data["joined"]))


IDENTITY = View()
