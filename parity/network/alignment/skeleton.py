"""The skeleton of a graph: its weighted parts, and the features by which they are recognised.

A unit is a weighted part with the affine parts behind it, which exporters fold into it: a
convolution with its batch-norm, a matrix product with its bias. Inputs and outputs are units too.
The colours are those of Weisfeiler and Lehman (1968), forwards and backwards.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import kinds
from parity.network.alignment import families
from parity.network.alignment.canonical import Canonical, Part

RADII = (1, 2, 3, 6)
"""How far the colours see, in units."""

_ROUTE = 2
"""How many ordered joins behind a unit are told apart."""

_SETTINGS = ("kernel", "stride", "dilation", "groups")


def crc(value: object) -> int:
    """Return a hash that is the same in every process."""
    return zlib.crc32(repr(value).encode())


@dataclass(slots=True)
class Unit:
    """A weighted part, the affine parts behind it, and its nearest units both ways."""

    head: int
    tail: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The part that makes the unit's output."""
        return self.tail[-1] if self.tail else self.head


class Skeleton:
    """The units of a canonical graph, in execution order, and one array of hashes per feature."""

    def __init__(
        self,
        canonical: Canonical,
        *,
        port_names: frozenset[str] = frozenset(),
        alone: frozenset[int] = frozenset(),
    ) -> None:
        """`port_names` are those that both graphs have: inputs and outputs are told by them.

        The parts in `alone` are units without the affine parts behind them, which are their own.
        """
        self.canonical = canonical
        self._alone = alone
        self._port_names = port_names
        self.parts: Sequence[Part] = canonical.parts
        self.units: list[Unit] = []
        self.unit_of: dict[int, int] = {}
        self._collect_units()
        self._connect()

    def __len__(self) -> int:
        return len(self.units)

    def head(self, unit: int) -> Part:
        """Return a unit's weighted part."""
        return self.parts[self.units[unit].head]

    def _collect_units(self) -> None:
        for index, part in enumerate(self.parts):
            if index in self.unit_of or not (part.weights or part.is_port):
                continue
            unit = Unit(index)
            self.unit_of[index] = len(self.units)
            is_linear = part.family in (families.LINEAR, "conv_transpose")
            if is_linear and index not in self._alone:
                self._absorb(unit)
            self.units.append(unit)

    def _depthwise_channels(self, index: int) -> int:
        """Return the output channels of a depthwise convolution, whose kernel may hold factors."""
        part = self.parts[index]
        if part.kind != "depthwise_conv" or part.main is None:
            return 1
        window = part.hyper.get("kernel") or (1,)
        return math.prod(part.main.shape) // math.prod(window)

    def _absorb(self, unit: Unit) -> None:
        """Take the affine parts behind a linear one into its unit."""
        main = self.parts[unit.head].main
        last = unit.head
        seen: set[str] = set()
        while main is not None:
            readers = self.canonical.readers[last]
            if len(readers) != 1:
                return
            part = self.parts[readers[0]]
            is_affine = kinds.properties(part.kind).affine and len(part.sources) == 1
            if not is_affine or part.kind in seen or not part.weights:
                return
            channels = max(part.weights[0].shape, default=1)
            if any(max(each.shape, default=1) != channels for each in part.weights):
                return
            if (
                channels not in (1, *main.shape, self._depthwise_channels(unit.head))
                or len([n for n in part.weights[0].shape if n > 1]) > 1
            ):
                return
            seen.add(part.kind)
            last = readers[0]
            unit.tail.append(last)
            self.unit_of[last] = len(self.units)

    def _connect(self) -> None:
        """Find the nearest units in front of each unit, through weightless parts."""
        near: list[frozenset[int]] = []
        for index, part in enumerate(self.parts):
            found: set[int] = set()
            for source in part.sources:
                if source < 0:
                    continue
                unit = self.unit_of.get(source)
                if unit is None:
                    found |= near[source]
                elif unit != self.unit_of.get(index):
                    found.add(unit)
            near.append(frozenset(found))
        for number, each in enumerate(self.units):
            each.before = sorted(near[each.head])
            for source in each.before:
                self.units[source].behind.append(number)

    # Features: one value a unit.

    @cached_property
    def kinds(self) -> list[Any]:
        """The family and the sorted lengths of the main weight: what partners must share."""
        return [(self.family(unit), self.signature(unit)) for unit in range(len(self))]

    def family(self, unit: int) -> str:
        """Return the family of a unit's weighted part."""
        return self.head(unit).family

    def signature(self, unit: int) -> tuple[Any, ...]:
        """Return the sorted lengths above 1 of the main weight; of a port, of its tensor."""
        part = self.head(unit)
        if part.is_port:
            tensor = self.canonical.graph.tensors[part.output or part.feeds[0]]
            return (*self.canonical.shapes[self.units[unit].head], _numeric_class(tensor.dtype))
        main = part.main
        assert main is not None
        if _is_depthwise(part):
            # One framework joins the two axes of channels that the other has apart.
            return ("depthwise", main.parameter.size)
        ends = [part.hyper.get("in"), part.hyper.get("out")]
        if part.kind == "dense" and all(isinstance(each, int) for each in ends) and not main.take:
            # One framework has the heads of an attention as axes of the kernel.
            return tuple(sorted(each for each in ends if each != 1))
        return tuple(sorted(length for length in main.shape if length != 1))

    @cached_property
    def filters(self) -> list[int | None]:
        """The output channels of each convolution; None for another unit, or where unknown."""
        found: list[int | None] = []
        for unit in range(len(self)):
            part = self.head(unit)
            count = part.hyper.get("out")
            known = part.kind == "conv" and isinstance(count, int) and not _is_depthwise(part)
            found.append(count if known else None)
        return found

    @cached_property
    def settings(self) -> list[Any]:
        """The window of each unit: kernel, stride, dilation, groups."""
        found: list[Any] = []
        for unit in range(len(self)):
            hyper = self.head(unit).hyper
            values = tuple(_plain(hyper.get(name)) for name in _SETTINGS)
            found.append((self.head(unit).kind == "conv_transpose", values))
        return found

    @cached_property
    def following(self) -> list[Any]:
        """The kinds of the activations that read each unit."""
        found = []
        for unit in self.units:
            readers = (self.parts[each] for each in self.canonical.readers[unit.last])
            kinds = {part.kind for part in readers if part.family == families.ACTIVATION}
            found.append(tuple(sorted(kinds)))
        return found

    @cached_property
    def sizes(self) -> list[Any]:
        """The sorted lengths of each unit's output."""
        return [self.canonical.shapes[unit.last] for unit in self.units]

    @cached_property
    def context_before(self) -> list[Any]:
        """The pools, concatenations and products between each unit and those in front of it."""
        return self._context(forwards=False)

    @cached_property
    def context_behind(self) -> list[Any]:
        """The pools, concatenations and products between each unit and those behind it."""
        return self._context(forwards=True)

    def _context(self, *, forwards: bool) -> list[Any]:
        order = range(len(self.parts))
        near: list[frozenset[str]] = [frozenset()] * len(self.parts)
        for index in reversed(order) if forwards else order:
            part = self.parts[index]
            links = self.canonical.readers[index] if forwards else part.sources
            found: set[str] = set()
            for link in links:
                if link >= 0 and link not in self.unit_of:
                    found |= near[link]
                    name = families.find_landmark(self.parts[link].kind)
                    if name:
                        found.add(name)
            near[index] = frozenset(found)
        ends = [unit.last if forwards else unit.head for unit in self.units]
        return [tuple(sorted(near[end])) for end in ends]

    @cached_property
    def slots(self) -> list[Any]:
        """The place of each unit among the inputs of the ordered joins that it reaches first."""
        return [self._find_slot(unit) for unit in range(len(self))]

    def _find_slot(self, unit: int) -> Any:
        part = self.head(unit)
        if part.is_port and part.name in self._port_names:
            return part.name
        return next(self._follow_joins(unit), ())

    @cached_property
    def routes(self) -> list[tuple[Any, ...]]:
        """The places of each unit in the first ordered joins on its way to the next units.

        They tell a key from a value: a key is in two products, the scores and what they weigh. One
        model may scale the scores by a weight, and another by a number.
        """
        return [
            tuple(itertools.islice(self._follow_joins(unit, through_affine=True), _ROUTE))
            for unit in range(len(self))
        ]

    def _follow_joins(
        self, unit: int, *, through_affine: bool = False
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the places of a unit in the joins that it reaches, from the nearest ones on."""
        front, seen = [self.units[unit].last], set[int]()
        while front:
            places: set[Any] = set()
            following: list[int] = []
            for index in front:
                for reader in self.canonical.readers[index]:
                    part = self.parts[reader]
                    if families.is_ordered(part.kind) and len(part.sources) > 1:
                        places.add(self._place(part, index))
                    passes = reader not in self.unit_of or (
                        through_affine and kinds.properties(part.kind).affine
                    )
                    if passes and reader not in seen:
                        seen.add(reader)
                        following.append(reader)
            if places:
                yield tuple(sorted(places, key=repr))
            front = following

    def _place(self, part: Part, source: int) -> Any:
        positions = [at for at, each in enumerate(part.sources) if each == source]
        if part.family != "concat" or not part.output:
            return (part.family, *positions)
        tensors = self.canonical.graph.tensors
        shapes = [tensors[name].shape for name in part.feeds]
        whole = tensors[part.output].shape
        axis = next(
            (
                axis
                for axis in range(len(whole))
                if all(len(each) == len(whole) for each in shapes)
                and len({each[axis] for each in shapes} | {whole[axis]}) > 1
            ),
            0,
        )
        if not shapes or any(len(each) <= axis for each in shapes):
            return (part.family, *positions)
        # Offsets, since one model concatenates at once what the other does in pairs.
        offsets = tuple(sum(each[axis] for each in shapes[:at]) for at in positions)
        return (part.family, *offsets)

    @cached_property
    def roles(self) -> list[Any]:
        """What a part of a fused node is by its node's kind: query, key, value."""
        return [self.head(unit).axes.get("", "") for unit in range(len(self))]

    @cached_property
    def before_kinds(self) -> list[Any]:
        """The sorted kinds of the units in front of each."""
        return [self._sorted(unit.before) for unit in self.units]

    @cached_property
    def behind_kinds(self) -> list[Any]:
        """The sorted kinds of the units behind each."""
        return [self._sorted(unit.behind) for unit in self.units]

    def _sorted(self, units: Iterable[int]) -> Any:
        return tuple(sorted(repr(self.kinds[each]) for each in units))

    @cached_property
    def _own(self) -> list[int]:
        return [crc(kind) for kind in self.kinds]

    @cached_property
    def before_colours(self) -> list[list[int]]:
        """By radius from 0, the colours of what is in front."""
        return self._colour(lambda unit: unit.before)

    @cached_property
    def behind_colours(self) -> list[list[int]]:
        """By radius from 0, the colours of what is behind."""
        return self._colour(lambda unit: unit.behind)

    def _colour(self, links: Any) -> list[list[int]]:
        colours = [self._own]
        for _ in range(max(RADII)):
            last = colours[-1]
            colours.append(
                [
                    crc((own, sorted(last[each] for each in links(unit))))
                    for own, unit in zip(self._own, self.units, strict=True)
                ]
            )
        return colours

    @cached_property
    def full_colours(self) -> list[int]:
        """The colours of the whole graph as each unit sees it, both ways, with all features."""
        own = [
            crc(values)
            for values in zip(
                self.kinds, self.context_before, self.context_behind, self.slots, self.sizes,
                self.settings, self.following, strict=True,
            )
        ]  # fmt: skip
        for _ in range(2):
            before, behind = list(own), list(own)
            for number, unit in enumerate(self.units):
                before[number] = crc((own[number], sorted(before[each] for each in unit.before)))
            for number in reversed(range(len(self))):
                links = self.units[number].behind
                behind[number] = crc((own[number], sorted(behind[each] for each in links)))
            own = [crc(pair) for pair in zip(before, behind, strict=True)]
        return own

    @cached_property
    def depths(self) -> list[int]:
        """The length of the longest path to each unit, in units."""
        found: list[int] = []
        for unit in self.units:
            found.append(1 + max((found[each] for each in unit.before), default=0))
        return found

    @cached_property
    def heights(self) -> list[int]:
        """The length of the longest path from each unit to an end, in units."""
        found = [0] * len(self)
        for number in reversed(range(len(self))):
            found[number] = 1 + max((found[each] for each in self.units[number].behind), default=0)
        return found

    @cached_property
    def links(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The matrices of the units in front of and behind each unit, (units, units)."""
        before = np.zeros((len(self), len(self)), np.float32)
        for number, unit in enumerate(self.units):
            before[number, unit.before] = 1
        return before, np.ascontiguousarray(before.T)

    def orders(self) -> dict[str, list[int]]:
        """Return the units in the orders in which a common subsequence is looked for."""
        ties = [
            (
                repr(self.kinds[unit]),
                self.context_before[unit],
                repr(self.slots[unit]),
                repr(self.routes[unit]),
                self.before_colours[6][unit],
                self.behind_colours[6][unit],
            )
            for unit in range(len(self))
        ]
        every = range(len(self))
        return {
            "depth": sorted(every, key=lambda unit: (self.depths[unit], ties[unit])),
            "height": sorted(every, key=lambda unit: (-self.heights[unit], ties[unit])),
            "execution": list(every),
        }


def _is_depthwise(part: Part) -> bool:
    if part.kind == "conv":
        groups = part.hyper.get("groups", 1)
        return bool(groups != 1 and groups == part.hyper.get("in"))
    return part.kind == "depthwise_conv"


def _numeric_class(dtype: str) -> str:
    return "float" if "float" in dtype else "bool" if dtype == "bool" else "integer"


def _plain(value: Any) -> Any:
    """Return a setting as one number where all its lengths are equal."""
    if isinstance(value, list | tuple):
        return value[0] if len(set(map(repr, value))) == 1 else tuple(value)
    return value
