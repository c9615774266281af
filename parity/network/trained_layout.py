"""How a model that is trained holds the canonical weights, and where its derivative jumps.

Canonical weights are those of the reference framework's model, by the names of its state dict.
Another framework's model has the same numbers in other variables: axes turned, packed, flattened in
another order. Its weight map says which number is where; since it only moves numbers, it serves
gradients, optimizer slots and moving statistics as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from parity.errors import WeightError
from parity.network.alignment import WeightPair, transfer_weights
from parity.network.alignment.transform import WeightTransform
from parity.network.checkpoint_fit import join_first
from parity.network.rearrangement import IDENTITY, Rearrangement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Shapes = Mapping[str, tuple[int, ...]]

WEIGHT_PAIRS = "weight_pairs"
"""The key, in a checkpoint's metadata, of the pairs that turn its weights into a model's own."""


@dataclass(frozen=True)
class Segment:
    """The numbers that a variable and one canonical weight have in common.

    `places` are flat indices in the canonical weight, `positions` those in the variable, in the
    same order; None stands for all of them in their own order. With `axes` the variable is the
    whole weight with its axes in that order.
    """

    name: str
    places: Array | None = None
    positions: Array | None = None
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class WeightMap:
    """Which canonical numbers each variable of a model holds.

    `shapes` are those of the canonical weights; `segments` and `variables`, the shapes of the
    variables, are by the variable's name.
    """

    shapes: Shapes
    variables: Shapes
    segments: Mapping[str, tuple[Segment, ...]]

    @classmethod
    def identity(cls, shapes: Shapes) -> Self:
        """Return the map of a model whose variables are the canonical weights."""
        return cls(shapes, shapes, {name: (Segment(name),) for name in shapes})

    @classmethod
    def from_numbers(cls, shapes: Shapes, numbers: Mapping[str, Array], *, source: str) -> Self:
        """Return the map that copying made of `number_weights(shapes)`, by variable.

        Raises `WeightError` unless every number is in one place.
        """
        starts = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())])
        names = list(shapes)
        owners = _find_owners(numbers, int(starts[-1]), source=source)
        missing = [
            name
            for name, start, end in zip(names, starts, starts[1:], strict=False)
            if (owners[start:end] == 0).any()
        ]
        if missing:
            raise WeightError(
                f"{source}: no variable holds {join_first(missing)}: it has no partner, or is one "
                "of several that are one variable there (tied, or summed)"
            )
        segments = {}
        for variable, value in numbers.items():
            segments[variable] = tuple(
                _make_segment(names[index], np.asarray(value), mask, int(starts[index]),
                              shapes[names[index]])
                for index, mask in _split_numbers(np.asarray(value).reshape(-1), starts)
            )  # fmt: skip
        return cls(shapes, {n: np.shape(value) for n, value in numbers.items()}, segments)

    def with_names(self, names: Mapping[str, str]) -> WeightMap:
        """Return the map of a model with the same variables under other names."""
        return WeightMap(
            self.shapes,
            {names[name]: shape for name, shape in self.variables.items()},
            {names[name]: segments for name, segments in self.segments.items()},
        )

    def names_of(self, variable: str) -> tuple[str, ...]:
        """Return the canonical weights that a variable holds; none if it is not mapped."""
        return tuple(segment.name for segment in self.segments.get(variable, ()))

    def to_variable(self, variable: str, values: Mapping[str, Array]) -> Array:
        """Return a mapped variable's array from canonical arrays by name; a view where one can."""
        shape = self.variables[variable]
        first, *others = self.segments[variable]
        if first.axes is not None:
            return np.asarray(values[first.name]).transpose(first.axes)
        if first.positions is None and not others:
            return _take(values[first.name], first.places).reshape(shape)
        found = np.empty(math.prod(shape), values[first.name].dtype)
        for segment in (first, *others):
            found[segment.positions] = _take(values[segment.name], segment.places)
        return found.reshape(shape)

    def to_canonical(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Return canonical arrays by name from arrays by variable, which may be some of them.

        A canonical weight of which no variable is given is left out; numbers of one that is given
        in part are 0. Where axes alone are turned, it is a view.
        """
        found: dict[str, Array] = {}
        for variable, value in values.items():
            axes = self.segments[variable][0].axes if self.segments[variable] else None
            if axes is not None:
                own = np.asarray(value).reshape(self.variables[variable])
                found[self.segments[variable][0].name] = own.transpose(np.argsort(axes))
                continue
            flat = np.asarray(value).reshape(-1)
            for segment in self.segments[variable]:
                part = flat if segment.positions is None else flat[segment.positions]
                if segment.name not in found:
                    size = math.prod(self.shapes[segment.name])
                    found[segment.name] = np.zeros(size, flat.dtype)
                if segment.places is None:
                    found[segment.name][:] = part
                else:
                    found[segment.name][segment.places] = part
        return {
            name: found[name].reshape(shape) for name, shape in self.shapes.items() if name in found
        }


def number_weights(shapes: Shapes) -> dict[str, Array]:
    """Return canonical weights whose values are their places in all of them, one by one."""
    found, start = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        found[name] = np.arange(start, start + size, dtype=np.int64).reshape(shape)
        start += size
    return found


def _find_owners(numbers: Mapping[str, Array], total: int, *, source: str) -> Array:
    """Return whether a variable holds each number, at most one. Raises `WeightError`."""
    owners = np.zeros(total, bool)
    for variable, value in numbers.items():
        flat = np.asarray(value).reshape(-1)
        if not flat.size:
            continue
        low, high = int(flat.min()), int(flat.max())
        own = np.zeros(high - low + 1 if low >= 0 and high < total else 0, bool)
        if own.size:
            own[flat - low] = True
        # A number that is there twice marks one place.
        if np.count_nonzero(own) != flat.size:
            raise WeightError(
                f"{source}: {variable} is computed from its partners (their sum, or 0), so that it "
                "cannot be trained like them"
            )
        if owners[flat].any():
            raise WeightError(
                f"{source}: {variable} holds numbers that another variable holds too: the "
                "reference has one weight, tied in several places, where this model has several"
            )
        owners[flat] = True
    return owners


def _split_numbers(flat: Array, starts: Array) -> Iterator[tuple[int, Array | None]]:
    """Yield the place of each weight of which a variable has numbers, and where they are in it.

    `starts` are the first numbers of the weights. None for a variable that has those of one alone.
    """
    if not flat.size:
        return
    first, last = np.searchsorted(starts, (flat.min(), flat.max()), side="right") - 1
    if first == last:
        yield int(first), None
        return
    which = np.searchsorted(starts, flat, side="right") - 1
    for index in np.unique(which):
        yield int(index), np.flatnonzero(which == index)


def _make_segment(
    name: str, numbers: Array, positions: Array | None, start: int, shape: tuple[int, ...]
) -> Segment:
    """Return what a variable's numbers, those at `positions`, have of a weight of this shape."""
    flat, size = numbers.reshape(-1), math.prod(shape)
    places = (flat if positions is None else flat[positions]) - start
    if len(places) == size and (places == np.arange(size)).all():
        return Segment(name, None, positions)
    if positions is None and len(places) == size:
        axes = _find_axes(places.reshape(numbers.shape), shape)
        if axes is not None:
            return Segment(name, axes=axes)
    return Segment(name, places.astype(np.int32 if size < 2**31 else np.int64), positions)


def _find_axes(places: Array, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the order of axes that makes places of an array of this shape; None if none does."""
    if places.ndim != len(shape):
        return None
    whole = np.arange(places.size).reshape(shape)
    steps = {
        stride // whole.itemsize: axis
        for axis, stride in enumerate(whole.strides)
        if shape[axis] > 1
    }
    first = (0,) * places.ndim
    axes = []
    for axis, length in enumerate(places.shape):
        step = int(places[(*first[:axis], 1, *first[axis + 1 :])]) if length > 1 else None
        axes.append(-1 if step is None else steps.get(step, -1))
    # Axes of length 1 have no step; any order of them is the same.
    rest = iter(axis for axis in range(len(shape)) if axis not in axes)
    order = tuple(next(rest, -1) if axis < 0 else axis for axis in axes)
    if sorted(order) != list(range(len(shape))):
        return None
    turned = whole.transpose(order)
    return order if turned.shape == places.shape and (turned == places).all() else None


def _take(value: Array, places: Array | None) -> Array:
    flat = np.asarray(value).reshape(-1)
    return flat if places is None else flat[places]


# Layouts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChoicePoint:
    """A ReLU or max-pool in both models, by the layer's name in the table.

    `call` is its place among a model's calls of its kind in a forward pass, from 0 on.
    `rearrangement` turns the model's tensor into the reference's axes; `crop` is what an operation
    before a max-pool pads on the last axes but the channels': top, bottom, left, right.
    """

    name: str
    kind: str
    call: int
    rearrangement: Rearrangement = IDENTITY
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class TrainedLayout:
    """What a runtime must know of a model that is no registered one, to train it.

    `weights` are the canonical weights and their shapes. `pairs` turn them into the variables of
    this model; none where the names are its own. `choices` are the points whose sides are compared,
    and `calls` the number of calls of each kind in a forward pass: where a step has another number,
    no choice is known. `classes` is the length of the output's last axis.
    """

    weights: Shapes
    classes: int
    pairs: tuple[WeightPair, ...] = ()
    choices: tuple[ChoicePoint, ...] = ()
    calls: Mapping[str, int] | None = None

    def build_map(self, variables: Shapes, *, source: str) -> WeightMap:
        """Return the weight map of a model with these variables. Raises `WeightError`."""
        if not self.pairs:
            return WeightMap.identity(self.weights)
        numbers = number_weights(self.weights)
        copied = transfer_weights(self.pairs, numbers.__getitem__, variables)
        return WeightMap.from_numbers(self.weights, copied, source=source)

    def to_json(self) -> dict[str, Any]:
        return {
            "weights": {name: list(shape) for name, shape in self.weights.items()},
            "classes": self.classes,
            "pairs": pairs_to_json(self.pairs),
            "choices": [
                {
                    "name": each.name,
                    "kind": each.kind,
                    "call": each.call,
                    "view": each.rearrangement.to_json(),
                    "crop": list(each.crop),
                }
                for each in self.choices
            ],
            "calls": None if self.calls is None else dict(self.calls),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            {name: tuple(shape) for name, shape in data["weights"].items()},
            data["classes"],
            pairs_from_json(data["pairs"]),
            tuple(
                ChoicePoint(
                    each["name"],
                    each["kind"],
                    each["call"],
                    Rearrangement.from_json(each["view"]),
                    (each["crop"][0], each["crop"][1], each["crop"][2], each["crop"][3]),
                )
                for each in data["choices"]
            ),
            data["calls"],
        )


def pairs_to_json(pairs: Iterable[WeightPair]) -> list[list[Any]]:
    """Return pairs of weights as plain data."""
    return [[each.reference, each.other, each.transform.to_json()] for each in pairs]


def pairs_from_json(data: Iterable[Any]) -> tuple[WeightPair, ...]:
    """Return the pairs that `pairs_to_json` serialised."""
    return tuple(
        WeightPair(reference, other, WeightTransform.from_json(transform))
        for reference, other, transform in data
    )
