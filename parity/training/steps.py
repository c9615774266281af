"""The comparison of single training steps, each from the reference's state.

In float64 rounding is far below any difference of meaning: two frameworks that take the same step
agree to about 1e-13, and a learning rate that is off by 1e-6 shows as 1e-6. In float32 every part
is judged by its rounding floor. Each step starts from the reference's state, so that its error is
its own; the update is judged from the gradients that the subject itself computed. The arithmetic is
NumPy's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from parity.network.table import LayerTable
from parity.numerics.distance import measure_norms, sum_squares
from parity.numerics.floor import PRECISION_FACTORS, ROUNDOFF
from parity.numerics.losses import measure_losses
from parity.processes.training_requests import DROPOUT_RECORD
from parity.training.definition import Update
from parity.training.optimizers import Optimizer

Array = NDArray[Any]

Values = Mapping[str, Array]

Kind = Literal["dropout", "samples", "loss", "metric", "gradient", "statistics", "slot", "update"]

KINDS: tuple[Kind, ...] = (
    "dropout", "samples", "loss", "metric", "gradient", "statistics", "slot", "update"
)  # fmt: skip
"""The parts of a step in the order in which it computes them: the rates of its dropouts, without
which it is taken, the losses of the samples, the loss that the framework reports, the metric that
it reports, …"""

LIMIT = 1e-10
"""The largest relative error of a correct step in float64, with a margin of some hundred."""

FLOORS = 4.0
"""The largest error of a correct step in float32 or mixed precision, in rounding floors."""

_FLOAT64 = 2.0**-53


@dataclass(frozen=True)
class StepCause:
    """Why a step differs, proved: `error` is what is left when the reference takes it over.

    `rel_l2` is the error of the first difference before that.
    """

    name: str
    text: str
    remedy: str
    rel_l2: float
    error: float


@dataclass(frozen=True)
class PartError:
    """The relative L2 error of one part of a step, and the largest that rounding explains.

    `tensor` is empty for what belongs to the whole step.
    """

    kind: Kind
    tensor: str
    rel_l2: float
    limit: float = LIMIT

    @property
    def passes(self) -> bool:
        """Whether the error is within the limit; NaN is not."""
        return self.rel_l2 <= self.limit

    @property
    def x_floor(self) -> float:
        """The error in rounding floors; that of float64 is a `FLOORS`-th of its limit."""
        return FLOORS * self.rel_l2 / self.limit if self.rel_l2 else 0.0


@dataclass(frozen=True)
class OtherChoices:
    """Units on the other side of a ReLU's kink or a max-pool's tie, which rounding explains.

    With the subject's choices in the reference, its gradients are at the floor. `count` are the
    units in `rows`, `x_floor` the largest distance to the kink over the error of rounding there.
    """

    rows: tuple[str, ...]
    count: int
    x_floor: float


@dataclass(frozen=True)
class StepComparison:
    """The parts of one step of a subject; `missing` are those that one side has alone.

    `precision` is "float64", "float32" or that of mixed precision. `choices` are those that were
    proved to be rounding. `kinks` are layers whose derivative jumps and whose choices cannot be
    seen, where such a choice alone could explain what differs: the gradients in float32.
    """

    step: int
    errors: tuple[PartError, ...]
    missing: tuple[str, ...] = ()
    precision: str = "float64"
    choices: OtherChoices | None = None
    kinks: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every part is within its limit; nothing compared never agrees."""
        compared = {error.kind for error in self.errors}
        return (
            {"samples", "loss", "gradient", "update"} <= compared
            and not self.missing
            and all(error.passes for error in self.errors)
        )

    def worst(self, kind: Kind | None = None) -> PartError | None:
        """Return the part with the largest error in floors, of one kind or of all."""
        found = [error for error in self.errors if kind in (None, error.kind)]
        return max(found, key=lambda error: _order(error.x_floor), default=None)

    def first_difference(self) -> PartError | None:
        """Return the first part that differs, in the order in which a step computes them.

        Losses, gradients from the last layer to the first, statistics, slots, weights.
        """
        return next((error for error in self.errors if not error.passes), None)


@dataclass(frozen=True)
class StepTerms:
    """What a step computes with: the same for all sides.

    `labels` are class indices (N,), `images` (N, C, H, W).
    """

    number: int
    optimizer: Optimizer
    rate: float
    images: Array
    labels: Array
    decayed: frozenset[str]
    loss: str
    label_smoothing: float
    order: tuple[str, ...]
    """The weights in the order of the network."""
    layers: Mapping[str, str]
    """The layer of each weight."""
    sum_terms: float
    """See `count_sum_terms`."""
    micro_batch_sizes: tuple[int, ...] = ()
    """The numbers of images of the micro-batches; () is one."""


@dataclass(frozen=True)
class StepRecord:
    """What one side computed in a step, by the names of `ObservedStepRequest`, and its metric."""

    values: Values
    correct: int
    statistics: Mapping[str, Mapping[str, Any]]
    weights: frozenset[str] = frozenset()
    """The names of all weights after the step, `weight/NAME`, of which a record may lack values."""

    def gradients(self) -> dict[str, Array]:
        """Return the gradients before clipping, by weight."""
        return {
            name.removeprefix("gradient/"): value
            for name, value in self.values.items()
            if name.startswith("gradient/")
        }

    def statistic(self, name: str) -> Array:
        """Return a moving statistic; a variance as the biased ones of the batches make it."""
        return self.values.get(f"biased/{name}", self.values[f"weight/{name}"])

    def sample_losses(self, terms: StepTerms) -> Array:
        return measure_losses(
            self.values["logits"],
            terms.labels,
            loss=terms.loss,
            label_smoothing=terms.label_smoothing,
        )


def count_sum_terms(table: LayerTable, batch: int, statistics: Mapping[str, Any]) -> float:
    """Return the terms of the one sum whose rounding error equals that of the sums of a step.

    A sum's squared error is proportional to its terms. A gradient passes the products of each
    kernel and the batch's mean and variance in each batch-norm, forwards and backwards; it is
    itself a sum over the batch and its pixels.
    """
    kernels = [math.prod(w.shape[1:]) for _, w in table.weights() if len(w.shape) > 1]
    norms = [float(update["count"]) for update in statistics.values()]
    pixels = [math.prod(row.shape[1:]) for row in table.rows if row.weights and row.shape]
    own = max([1.0, *(float(batch * n) for n in pixels), *norms])
    return own + 2 * (sum(kernels) + sum(norms))


def measure_least_floor(terms: StepTerms) -> float:
    """Return the relative rounding error of one running sum over the terms of all a step's sums."""
    return ROUNDOFF * max(1.0, math.sqrt(terms.sum_terms / 6))


def define_update(terms: StepTerms, framework: str, record: StepRecord, before: Values) -> Update:
    """Return the update of a framework's own gradients, by the optimizer's definition."""
    optimizer, rate = terms.optimizer.round_as(framework, terms.number, terms.rate)
    return Update(optimizer, terms.number, rate, record.gradients(), before, terms.decayed)


def compare_step(
    terms: StepTerms,
    framework: str,
    *,
    before: Values,
    expected: StepRecord,
    actual: StepRecord,
    updated: Values | None = None,
    floors: Mapping[str, float] | None = None,
    precision: str = "float32",
) -> StepComparison:
    """Compare the parts of a framework's step (`actual`) with those of the reference (`expected`).

    `before` is the state that both start from. `updated` replaces what the definition makes of
    the subject's own gradients. Without `floors` both steps are in float64; with them `actual` is
    in float32, or in mixed precision, and they are the floors of `samples`, `gradient/NAME` and
    the statistics (`weight/NAME`) there, which are read last.
    """
    missing = sorted(_parts(expected) ^ _parts(actual))
    blocks = (
        define_update(terms, framework, actual, before).take_in_blocks()
        if updated is None
        else _list_blocks(updated)
    )
    judge = _Float64Judge() if floors is None else _Float32Judge(terms, floors, precision)
    # Floors may be waited for: what needs none of them is measured first.
    updates = list(_compare_updates(terms, before, blocks, actual, judge))
    gradients = list(_compare_gradients(terms, expected, actual, judge))
    errors = [
        *_compare_dropouts(expected, actual),
        *_compare_losses(terms, expected, actual, judge),
        *gradients,
        *_compare_statistics(terms, before, expected, actual, judge),
        *updates,
    ]
    precision = "float64" if floors is None else precision
    return StepComparison(terms.number, tuple(errors), tuple(missing), precision)


def replace_gradients(
    terms: StepTerms, comparison: StepComparison, *, expected: StepRecord, actual: StepRecord,
    floors: Mapping[str, float] | None, choices: OtherChoices,
) -> StepComparison:  # fmt: skip
    """Return the comparison with the gradients judged by another step of the reference.

    That is its step with the subject's choices at kinks and ties.
    """
    judge = _Float32Judge(terms, floors) if floors is not None else _Float64Judge()
    gradients = iter(_compare_gradients(terms, expected, actual, judge))
    errors = [next(gradients) if e.kind == "gradient" else e for e in comparison.errors]
    return dataclasses.replace(comparison, errors=tuple(errors), choices=choices)


class _Float64Judge:
    """The limits in float64: `LIMIT`, and some roundings of the value that a change is added to."""

    def gradient(self, name: str) -> float:
        return LIMIT

    def statistics(self, name: str) -> float:
        return LIMIT

    def samples(self) -> float:
        return LIMIT

    def loss(self, ratio: float, logit: float) -> float:
        return LIMIT + 16 * _FLOAT64 * logit

    def state(self, kind: str, scale: float, whole: float, rate: float) -> float:
        """Return the limit of a slot or an update of norm `scale`, added to one of `whole`."""
        return LIMIT + 16 * _FLOAT64 * whole / scale if scale else math.inf


class _Float32Judge:
    """The limits in float32, `FLOORS` rounding floors.

    A floor is the largest of the measured one, and of the root mean square of one running sum
    (docs/design.md, "The verdict") over the terms of all the step's sums. Mixed precision has
    floors of its own; its slots and weights are float32, and so are their limits.
    """

    def __init__(
        self, terms: StepTerms, floors: Mapping[str, float], precision: str = "float32"
    ) -> None:
        self._terms = terms
        self._floors = floors
        self._least = measure_least_floor(terms)
        if precision != "float32":
            # What mixed precision computes is rounded at least once.
            self._least = max(self._least, ROUNDOFF * PRECISION_FACTORS[precision])

    def gradient(self, name: str) -> float:
        return FLOORS * max(self._floors[f"gradient/{name}"], self._least)

    def statistics(self, name: str) -> float:
        return FLOORS * max(self._floors[f"weight/{name}"], self._least)

    def samples(self) -> float:
        return FLOORS * max(self._floors["samples"], self._least)

    def loss(self, ratio: float, logit: float) -> float:
        """The limit of the mean: its error is at most the root mean square of the samples'.

        That is `ratio` times the mean loss. A framework computes a loss as a difference of numbers
        of the size of the logits, `logit` times the mean loss, and rounds those.
        """
        return self.samples() * ratio + FLOORS * ROUNDOFF * (1 + logit)

    def state(self, kind: str, scale: float, whole: float, rate: float) -> float:
        """One rounding of the sum, some of what is added, Adam's of 1 − β₂ᵗ."""
        if not scale:
            return math.inf
        terms = self._terms
        relative = 8.0
        if kind == "update" and terms.optimizer.name in ("adam", "adamw"):
            relative += 1 / (1 - terms.optimizer.beta_2**terms.number)
        return FLOORS * ROUNDOFF * (relative + (1 if kind == "update" else 4) * whole / scale)


_Judge = _Float64Judge | _Float32Judge


def _parts(record: StepRecord) -> set[str]:
    # Slots are those of the definition, which the update names.
    return {
        name
        for name in {*record.values, *record.weights}
        if not name.startswith(("slot/", "biased/")) and name != DROPOUT_RECORD
    }


def _compare_dropouts(expected: StepRecord, actual: StepRecord) -> Iterable[PartError]:
    """Yield the difference of each dropout's rate; infinite for one that one side has alone.

    A dropout is the same if it acts on as many values.
    """
    none = np.zeros((0, 2))
    wanted, found = (each.values.get(DROPOUT_RECORD, none) for each in (expected, actual))
    for index in range(max(len(wanted), len(found))):
        pair = [each[index] for each in (wanted, found) if index < len(each)]
        alike = len(pair) == 2 and pair[0][1] == pair[1][1]
        error = abs(float(pair[1][0] - pair[0][0])) if alike else math.inf
        yield PartError("dropout", f"{index + 1}", error, 1e-6)


def _compare_losses(
    terms: StepTerms, expected: StepRecord, actual: StepRecord, judge: _Judge
) -> Iterable[PartError]:
    if "logits" not in expected.values or "logits" not in actual.values:
        return
    if expected.values["logits"].shape != actual.values["logits"].shape:
        # Another batch, or another number of classes.
        yield PartError("samples", "", math.inf)
        return
    wanted, found = expected.sample_losses(terms), actual.sample_losses(terms)
    yield PartError("samples", "", _error(found, wanted), judge.samples())
    mean = max(float(wanted.mean()), 1e-300)
    ratio = math.sqrt(float((wanted**2).mean())) / mean
    logit = float(np.abs(expected.values["logits"]).max()) / mean
    # What a framework reports is the mean of the losses.
    reported, loss = (np.asarray(each.values["loss"], np.float64) for each in (expected, actual))
    yield PartError("loss", "", _error(loss, reported), judge.loss(ratio, logit))
    own = int((actual.values["logits"].argmax(-1) == terms.labels).sum())
    yield PartError("metric", "accuracy", abs(own - actual.correct) / len(terms.labels), 0.0)


def _compare_gradients(
    terms: StepTerms, expected: StepRecord, actual: StepRecord, judge: _Judge
) -> Iterable[PartError]:
    """Yield the errors from the last layer to the first.

    A gradient that is zero but for rounding, as that of a bias before a batch-norm, is measured by
    the largest of its layer.
    """
    wanted, found = expected.gradients(), actual.gradients()
    norms: dict[str, float] = {}
    distances: dict[str, float] = {}
    for name, value in wanted.items():
        # One that the other side lacks, or has in another shape, is infinitely far.
        own = found.get(name, np.zeros(0))
        fits = own.shape == value.shape
        distance, norms[name] = measure_norms(actual=own if fits else value, expected=value)
        distances[name] = distance if fits else math.inf
    largest: dict[str, float] = {}
    for name, norm in norms.items():
        layer = terms.layers.get(name, name)
        largest[layer] = max(largest.get(layer, 0.0), norm)
    for name in reversed(_sorted(wanted, terms.order)):
        if name not in found:
            yield PartError("gradient", name, math.inf)
        else:
            scale = largest[terms.layers.get(name, name)]
            error = distances[name] / scale if scale else distances[name]
            # A measured floor is relative to the tensor itself.
            share = norms[name] / scale if scale else 1.0
            yield PartError("gradient", name, error, _scaled(judge, name, share))


def _scaled(judge: _Judge, name: str, share: float) -> float:
    if isinstance(judge, _Float64Judge):
        return judge.gradient(name)
    floor = judge._floors[f"gradient/{name}"] * share
    return FLOORS * max(floor, judge._least)


def _compare_statistics(
    terms: StepTerms, before: Values, expected: StepRecord, actual: StepRecord, judge: _Judge
) -> Iterable[PartError]:
    for name in _sorted(_statistics(expected), terms.order):
        key = f"weight/{name}"
        if key not in actual.values:
            continue
        wanted, found = expected.statistic(name), actual.statistic(name)
        if isinstance(judge, _Float64Judge):
            start = np.asarray(before[key], np.float64)
            error = _error(found - start, wanted - start, _least_scale(wanted))
        else:
            error = _error(found, wanted)
        yield PartError("statistics", name, error, judge.statistics(name))


def _least_scale(value: Array) -> float:
    """Statistics that do not change are compared by their size."""
    return 1e-3 * float(np.linalg.norm(value))


Blocks = Iterable[tuple[str, slice, Values]]
"""Parts of updates: the weight, the place of the part in it, and what it should be there by key."""


def _list_blocks(updated: Values) -> Blocks:
    """Yield whole updates, one for each weight and slot."""
    for key, value in updated.items():
        yield key.split("/", 2)[2 if key.startswith("slot/") else 1], slice(None), {key: value}


@dataclass
class _Sums:
    """Sums of squares over a slot or an update: of its error, of itself, of the value before."""

    error: float = 0.0
    own: float = 0.0
    start: float = 0.0

    def add(self, error: Array, own: Array, start: Array | None) -> None:
        self.error += sum_squares(error)
        self.own += sum_squares(own)
        self.start += 0.0 if start is None else sum_squares(np.asarray(start, np.float64))

    @property
    def rel_l2(self) -> float:
        error, scale = math.sqrt(self.error), math.sqrt(self.own)
        return error / scale if scale else error


def _measure_updates(before: Values, blocks: Blocks, actual: StepRecord) -> dict[str, _Sums]:
    """Return the sums of each slot, and of each change of a weight, by key."""
    flat = {name: np.asarray(value).reshape(-1) for name, value in before.items()}
    found = {
        key: value.reshape(-1)
        for key, value in actual.values.items()
        if key.startswith(("weight/", "slot/"))
    }
    sums: dict[str, _Sums] = {}
    for name, place, block in blocks:
        start = flat[f"weight/{name}"]
        for key, value in block.items():
            wanted = np.asarray(value).reshape(-1)
            own = sums.setdefault(key, _Sums())
            # A slot that the subject has not is zero; a weight that it has not is missing.
            taken = found.get(key)
            if key.startswith("slot/") and (taken is None or taken.shape == start.shape):
                slot = flat.get(key)
                part = 0.0 if taken is None else taken[place]
                own.add(part - wanted, wanted, None if slot is None else slot[place])
            elif taken is None or taken.shape != start.shape:
                own.error = math.inf
            else:
                origin = np.asarray(start[place], np.float64)
                change = wanted - origin
                own.add((taken[place] - origin) - change, change, origin)
    return sums


def _compare_updates(
    terms: StepTerms, before: Values, blocks: Blocks, actual: StepRecord, judge: _Judge
) -> Iterable[PartError]:
    """Yield the errors of slots, then of weights, by what the definition makes of gradients."""
    statistics = _statistics(actual)
    names = _sorted(
        (
            name.partition("/")[2]
            for name in actual.values
            if name.startswith("weight/") and name.partition("/")[2] not in statistics
        ),
        terms.order,
    )
    with np.errstate(all="ignore"):
        sums = _measure_updates(before, blocks, actual)
        # A weight without a gradient stays.
        still = {name: before[f"weight/{name}"] for name in names if f"weight/{name}" not in sums}
        unmoved = ((name, slice(None), {f"weight/{name}": v}) for name, v in still.items())
        sums |= _measure_updates(before, unmoved, actual)
    slots = [key for key in sums if key.startswith("slot/")]
    for key in sorted(slots, key=lambda key: names.index(key.split("/", 2)[2])):
        scale = math.sqrt(sums[key].own)
        limit = judge.state("slot", scale, scale + math.sqrt(sums[key].start), terms.rate)
        yield PartError("slot", key.removeprefix("slot/"), sums[key].rel_l2, limit)
    for name in names:
        own = sums[f"weight/{name}"]
        scale, whole = math.sqrt(own.own), math.sqrt(own.start)
        # Where nothing should change, nothing may.
        limit = judge.state("update", scale, whole, terms.rate) if scale else 0.0
        yield PartError("update", name, own.rel_l2, limit)


def _statistics(record: StepRecord) -> set[str]:
    """Return the weights without a gradient that a step changes: the moving statistics."""
    return {
        name.removeprefix("weight/")
        for name in record.values
        if name.startswith("weight/") and name.endswith((".running_mean", ".running_var"))
    }


def _sorted(names: Iterable[str], order: Sequence[str]) -> list[str]:
    place = {name: index for index, name in enumerate(order)}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))


def _error(actual: Array, expected: Array, least: float = 0.0) -> float:
    """Return the L2 error relative to the norm of `expected`, or to `least` if that is larger.

    Infinite for another shape, NaN for a NaN; absolute where the scale is zero.
    """
    if actual.shape != expected.shape:
        return math.inf
    error, norm = measure_norms(actual=actual, expected=expected)
    scale = max(norm, least)
    return error / scale if scale else error


def _order(error: float) -> float:
    return math.inf if math.isnan(error) else error
