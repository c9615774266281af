"""The check of an alignment by the values of the tensors, in a run with the same weights.

Two tensors are compared by random projections that depend on the position of every value: an
exchange, a reversal or a shift of axes changes them, which sums and moments would not show. The
projections are not divided by the square root of the number of values, so that a difference of one
tensor against another has the scale of the tensor itself.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parity.network.alignment.ambiguity import Judgement
from parity.network.alignment.assembly import Assembly
from parity.network.alignment.rearrangements import iterate_by_shape
from parity.network.alignment.result import Alignment, Confidence, NodePair, TensorPair
from parity.network.alignment.skeleton import Skeleton
from parity.network.alignment.weightless import Weightless, pair_weightless
from parity.network.rearrangement import Rearrangement

Array = NDArray[np.generic]
Read = Callable[[str], Array]

NOISE = 1e-3
"""The relative distance up to which two tensors agree. Float32 leaves up to 1e-5 in deep models;
another axis order, an exchange of branches or a missing activation gives 0.3 and more."""

_PROJECTIONS = 8
_MAX_REARRANGEMENTS = 24
_CHUNK = 1 << 14
"""Short enough for the signs of a chunk to stay in the processor's cache."""
_STEP = 7919
_ROUNDS = 3


def check_values(
    alignment: Alignment,
    reference: ValueReader | Read,
    other: ValueReader | Read,
    *,
    noise: float = NOISE,
) -> Alignment:
    """Return the alignment that the values of a run show, in which both hold the same weights.

    The two return a tensor by its id; `list_tensors` says which may be asked for. They raise
    `KeyError` for one that the run did not keep, which then shows nothing. A `ValueReader` keeps
    what it has computed for the next check.

    A pair whose tensors agree becomes sure, if no other partner agrees too. Where they do not
    agree, and a partner of the same kind does, that one is taken. Rearrangements that the
    shapes left open are decided. Pairs that nothing explains are left as they are: a model may be
    wrong.
    """
    check = _ValueCheck(_to_reader(reference), _to_reader(other), noise)
    assembly = alignment.assembly
    if not isinstance(assembly, Assembly):
        raise TypeError("the alignment does not come from `align`")
    current = alignment
    for _ in range(_ROUNDS):
        repaired = _repair(assembly, check)
        if repaired is None:
            break
        assembly, current = repaired, repaired.build()
    pairs = tuple(_judge(pair, assembly, check) for pair in current.pairs)
    open_nodes = {
        node for pair in pairs if pair.confidence is Confidence.AMBIGUOUS for node in pair.reference
    }
    groups = (tuple(n for n in group if n in open_nodes) for group in current.ambiguous)
    return replace(current, pairs=pairs, ambiguous=tuple(group for group in groups if group))


def find_agreeing(
    alignment: Alignment, reference: ValueReader | Read, other: ValueReader | Read
) -> frozenset[str]:
    """Return the reference's tensors, by id, whose values are those of their partners.

    The arguments are those of `check_values`. A tensor of one value throughout agrees with any.
    """
    check = _ValueCheck(_to_reader(reference), _to_reader(other), NOISE)
    return frozenset(
        tensor.reference
        for _, tensor in alignment.tensors
        if not check.is_evidence(tensor.reference)
        or check.agrees(tensor.reference, tensor.other, tensor.rearrangement)
    )


def list_tensors(alignment: Alignment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the reference's and the other's tensors that `check_values` reads.

    Those without partner are among them: one of them may be the right one.
    """
    assembly = alignment.assembly
    if not isinstance(assembly, Assembly):
        raise TypeError("the alignment does not come from `align`")
    left, right = (
        [part.output for part in skeleton.parts if part.output and not part.is_port]
        for skeleton in (assembly.a, assembly.b)
    )
    left += [tensor.reference for _, tensor in alignment.tensors]
    right += [tensor.other for _, tensor in alignment.tensors]
    return tuple(dict.fromkeys(left)), tuple(dict.fromkeys(right))


class ValueReader:
    """The tensors of one run by id, with what the check computes of each, once."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._measured: dict[str, _Measured] = {}
        self._projected: dict[tuple[str, Rearrangement], _Projected | None] = {}

    def measure(self, name: str) -> _Measured:
        """Return the size and norm of a tensor, and its shape; zeros for one that is not kept."""
        if name not in self._measured:
            try:
                self._measured[name] = _measure(self._read(name))
            except KeyError:
                self._measured[name] = _Measured(0.0, 0.0, ())
        return self._measured[name]

    def project(self, name: str, rearrangement: Rearrangement) -> _Projected | None:
        """Return the projections of a rearranged tensor; None if the rearrangement does not fit."""
        key = (name, rearrangement)
        if key not in self._projected:
            try:
                self._projected[key] = _project(rearrangement.apply(self._read(name)))
            except (KeyError, ValueError):
                self._projected[key] = None
        return self._projected[key]


def _to_reader(values: ValueReader | Read) -> ValueReader:
    return values if isinstance(values, ValueReader) else ValueReader(values)


class _ValueCheck:
    """Distances between the tensors of two runs."""

    def __init__(self, reference: ValueReader, other: ValueReader, noise: float) -> None:
        self.readers = reference, other
        self.noise = noise

    def distance(self, reference: str, other: str, rearrangement: Rearrangement) -> float:
        """Return the relative distance of two tensors; NaN where the reference is constant."""
        norm = self.readers[0].measure(reference).norm
        one, two = (
            self.readers[0].project(reference, Rearrangement()),
            self.readers[1].project(other, rearrangement),
        )
        if one is None or two is None or one.shape != two.shape:
            return math.inf
        if not norm:
            return math.nan
        difference = np.asarray(one.values) - np.asarray(two.values)
        return float(np.sqrt((difference**2).mean()) / norm)

    def agrees(self, reference: str, other: str, rearrangement: Rearrangement) -> bool:
        """Return whether two tensors have the same values."""
        return (
            self._may_agree(reference, other)
            and self.distance(reference, other, rearrangement) <= self.noise
        )

    def find_rearrangements(
        self, reference: str, other: str, first: Rearrangement | None = None
    ) -> list[Rearrangement]:
        """Return the rearrangements under which two tensors agree; `first` is tried first."""
        return list(self._iterate_rearrangements(reference, other, first))

    def has_rearrangement(self, reference: str, other: str) -> bool:
        """Return whether two tensors agree under any rearrangement."""
        return any(True for _ in self._iterate_rearrangements(reference, other))

    def _iterate_rearrangements(
        self, reference: str, other: str, first: Rearrangement | None = None
    ) -> Iterator[Rearrangement]:
        if not self._may_agree(reference, other):
            return
        shape = self.readers[0].measure(reference).shape
        every = itertools.chain(
            () if first is None else (first,),
            iterate_by_shape(shape, self.readers[1].measure(other).shape),
        )
        for rearrangement in dict.fromkeys(itertools.islice(every, _MAX_REARRANGEMENTS)):
            if self.distance(reference, other, rearrangement) <= self.noise:
                yield rearrangement

    def is_evidence(self, reference: str) -> bool:
        """Return whether a tensor has values that differ."""
        return self.readers[0].measure(reference).norm > 0

    def _may_agree(self, reference: str, other: str) -> bool:
        """Return whether two tensors agree in size, norm and sum, which no rearrangement changes.

        The margin is that of a projected distance, which may be several times the true one.
        """
        one, two = self.readers[0].measure(reference), self.readers[1].measure(other)
        count = math.prod(one.shape)
        if not one.norm or count != math.prod(two.shape):
            return False
        most = _MARGIN * self.noise * one.norm
        return abs(one.norm - two.norm) <= most and abs(one.total - two.total) <= most * math.sqrt(
            count
        )


_MARGIN = 10.0


@dataclass(frozen=True, slots=True)
class _Measured:
    """A tensor's sum, its L2 norm (0 of a constant or non-finite one) and its shape."""

    total: float
    norm: float
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Projected:
    """A tensor's projections, and its shape."""

    values: tuple[float, ...]
    shape: tuple[int, ...]


def _measure(array: Array) -> _Measured:
    shape = tuple(array.shape)
    values = _flatten(array)
    if not len(values):
        return _Measured(0.0, 0.0, shape)
    total = squares = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            total += float(part.sum())
            squares += float(part @ part)
    if not math.isfinite(squares) and values.dtype == np.float32:
        # The square of a large float32 overflows.
        return _measure(np.asarray(array, np.float64))
    if not math.isfinite(squares) or bool((values == values[0]).all()):
        return _Measured(total, 0.0, shape)
    return _Measured(total, math.sqrt(squares), shape)


def _project(array: Array) -> _Projected:
    values = _flatten(array)
    signs = _signs(values.dtype.name)
    total = np.zeros(_PROJECTIONS)
    for number, start in enumerate(range(0, len(values), _CHUNK)):
        part = values[start : start + _CHUNK]
        # Each chunk begins at another place of the signs, so that an exchange of chunks shows.
        first = number * _STEP % _CHUNK
        total += signs[:, first : first + len(part)] @ part
    return _Projected(tuple(total), tuple(array.shape))


def _flatten(array: Array) -> NDArray[np.floating]:
    """Return the values of a tensor in C order: float32 as they are, others in float64."""
    wide: NDArray[np.floating]
    wide = np.asarray(array, np.float32 if array.dtype == np.float32 else np.float64)
    return wide.ravel()


@functools.cache
def _signs(dtype: str) -> NDArray[np.floating]:
    """Return random signs, (projections, 2 · chunk)."""
    generator = np.random.default_rng(20261126)
    return generator.choice([-1.0, 1.0], (_PROJECTIONS, 2 * _CHUNK)).astype(dtype)


def _judge(pair: NodePair, assembly: Assembly, check: _ValueCheck) -> NodePair:
    """Return a pair with the rearrangements and the confidence that its values show."""
    tensors: list[TensorPair] = []
    agreeing = evidence = 0
    for tensor in pair.tensors:
        if not check.is_evidence(tensor.reference):
            tensors.append(tensor)
            continue
        evidence += 1
        if tensor.open:
            rearrangements = check.find_rearrangements(
                tensor.reference, tensor.other, tensor.rearrangement
            )
        else:
            # The axes are named on both sides: no other rearrangement can be meant.
            agrees = check.agrees(tensor.reference, tensor.other, tensor.rearrangement)
            rearrangements = [tensor.rearrangement] if agrees else []
        if rearrangements:
            agreeing += 1
            is_open = tensor.open and len(rearrangements) > 1
            tensors.append(replace(tensor, rearrangement=rearrangements[0], open=is_open))
        else:
            tensors.append(tensor)
    found = replace(pair, tensors=tuple(tensors))
    if not evidence or agreeing < evidence or pair.confidence is Confidence.SURE:
        return found
    if pair.confidence is Confidence.AMBIGUOUS and _has_rival(pair, assembly, check):
        return found
    return replace(found, confidence=Confidence.SURE, reason="the values agree")


def _has_rival(pair: NodePair, assembly: Assembly, check: _ValueCheck) -> bool:
    """Return whether another tensor of the same kind of part agrees as well."""
    nodes = set(pair.reference)
    for part in assembly.a.parts:
        if nodes.isdisjoint(part.nodes) or not part.output:
            continue
        for other in assembly.b.parts:
            if other.family != part.family or not other.output:
                continue
            if set(other.nodes) <= set(pair.other):
                continue
            if check.has_rearrangement(part.output, other.output):
                return True
    return False


def _repair(assembly: Assembly, check: _ValueCheck) -> Assembly | None:
    """Return an assembly in which wrong partners are exchanged; None if there is none to change."""
    a, b = assembly.a, assembly.b
    matching = assembly.matching
    fixed = matching.features.fixed
    weighted = {
        unit: partner
        for unit, partner in matching.pairs
        if not a.head(unit).is_port and unit not in fixed.units.partners
    }
    free = [
        u
        for u in range(len(b))
        if matching.inverse[u] < 0 and not b.head(u).is_port and u not in fixed.units.alone
    ]
    alone = [
        u
        for u in range(len(a))
        if matching.partners[u] < 0 and not a.head(u).is_port and u not in fixed.units.partners
    ]
    changed = _find_partners(
        weighted,
        alone,
        free,
        lambda u, q: _find_common(a, a.units[u].last, b, b.units[q].last),
        lambda u, q: bool(matching.features.same_kind[u, q]),
        check,
    )
    lighter = assembly.weightless
    if changed:
        matching = matching.copy()
        for unit, partner in changed.items():
            matching.partners[matching.partners == partner] = -1
            matching.partners[unit] = partner
        lighter = pair_weightless(matching)
    taken = {*lighter.partners.values(), *fixed.parts.alone}
    settled = {*lighter.partners, *fixed.parts.partners}
    moved = _find_partners(
        {p: q for p, q in lighter.partners.items() if p not in fixed.parts.partners},
        [p for p in _weightless(a) if p not in settled],
        [p for p in _weightless(b) if p not in taken],
        lambda p, q: _find_common(a, p, b, q),
        lambda p, q: a.parts[p].family == b.parts[q].family,
        check,
    )
    if not changed and not moved:
        return None
    kept = {p: q for p, q in lighter.partners.items() if q not in moved.values()}
    lighter = Weightless(kept | moved, lighter.twins - set(moved))
    confidence, reasons = dict(assembly.judgement.confidence), dict(assembly.judgement.reasons)
    for unit in changed:
        confidence[unit], reasons[unit] = Confidence.SURE, "the values agree"
    for unit, _ in matching.pairs:
        confidence.setdefault(unit, Confidence.PROBABLE)
        reasons.setdefault(unit, "the best fit by its neighbours")
    groups = [
        tuple(unit for unit in group if unit not in changed) for group in assembly.judgement.groups
    ]
    judgement = Judgement(confidence, reasons, [group for group in groups if group])
    return Assembly(matching, lighter, judgement)


def _weightless(skeleton: Skeleton) -> list[int]:
    return [part for part in range(len(skeleton.parts)) if part not in skeleton.unit_of]


def _find_partners(
    partners: Mapping[int, int],
    alone: Sequence[int],
    free: Sequence[int],
    find_tensors: Callable[[int, int], tuple[str, str] | None],
    fits: Callable[[int, int], bool],
    check: _ValueCheck,
) -> dict[int, int]:
    """Return the new partners, by their values, of those that do not agree with the old ones."""

    def agree(one: int, two: int) -> bool | None:
        """Return whether the tensors agree, None where there are none or they show nothing."""
        tensors = find_tensors(one, two)
        if tensors is None or not check.is_evidence(tensors[0]):
            return None
        return check.has_rearrangement(*tensors)

    wrong = [one for one, two in partners.items() if agree(one, two) is False]
    rights = [*(partners[one] for one in wrong), *free]
    agreeing: dict[int, list[int]] = {}
    for one in [*wrong, *alone]:
        found = [two for two in rights if fits(one, two) and agree(one, two)]
        if found:
            agreeing[one] = found
    counts = Counter(two for found in agreeing.values() for two in found)
    return {
        one: found[0]
        for one, found in agreeing.items()
        if len(found) == 1 and counts[found[0]] == 1 and partners.get(one) != found[0]
    }


def _find_common(left: Skeleton, one: int, right: Skeleton, two: int) -> tuple[str, str] | None:
    """Return the tensors of two parts; where one is inside a fused node, those of their readers."""
    while not (left.parts[one].output and right.parts[two].output):
        readers = left.canonical.readers[one], right.canonical.readers[two]
        if len(readers[0]) != 1 or len(readers[1]) != 1:
            return None
        one, two = readers[0][0], readers[1][0]
        if left.parts[one].family != right.parts[two].family:
            return None
    return left.parts[one].output, right.parts[two].output
