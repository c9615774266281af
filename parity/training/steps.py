"""The comparison of single training steps in float64, each from the reference's state.

In float64 rounding is far below any difference of meaning: two frameworks that take the same step
agree to about 1e-13, and a learning rate that is off by 1e-6 shows as 1e-6. Each step starts from
the reference's state, so that its error is its own. The arithmetic is NumPy's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from parity.numerics.distance import measure_error
from parity.training.optimizers import Optimizer

Array = NDArray[Any]

Kind = Literal["loss", "gradient", "statistics", "slot", "update"]

LIMIT = 1e-10
"""The largest relative error of a correct step in float64, with a margin of some hundred."""


@dataclass(frozen=True)
class PartError:
    """The relative L2 error of one part of a step; `tensor` is empty for the loss."""

    kind: Kind
    tensor: str
    rel_l2: float


@dataclass(frozen=True)
class StepComparison:
    """The parts of one step, compared; `missing` are those that one side has alone."""

    step: int
    errors: tuple[PartError, ...]
    missing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every part is within `LIMIT`; nothing compared never agrees."""
        compared = {error.kind for error in self.errors}
        return (
            {"loss", "gradient", "update"} <= compared
            and not self.missing
            and all(error.rel_l2 <= LIMIT for error in self.errors)
        )

    def worst(self, kind: Kind | None = None) -> PartError | None:
        """Return the part with the largest error, of one kind or of all."""
        found = [error for error in self.errors if kind in (None, error.kind)]
        return max(found, key=lambda error: _order(error.rel_l2), default=None)

    def first_difference(self) -> PartError | None:
        """Return the first part that differs, in the order in which a step computes them.

        Loss, gradients from the last layer to the first, statistics, slots, weights.
        """
        return next((error for error in self.errors if not error.rel_l2 <= LIMIT), None)


def round_as_keras(optimizer: Optimizer, step: int, rate: float) -> tuple[Optimizer, float]:
    """Return the optimizer and the rate of a step with the roundings that Keras makes in float64.

    Keras converts the momentum, the weight decay and Adam's β, where it raises them to the power of
    the step, through float32. It is exact arithmetic: 2e-8 of a momentum of 0.9, 7e-6 of Adam's
    first step.
    """
    rounded = dataclasses.replace(
        optimizer,
        momentum=float(np.float32(optimizer.momentum))
        if optimizer.name == "sgd"
        else optimizer.momentum,
        weight_decay=float(np.float32(optimizer.weight_decay)),
    )
    if optimizer.name not in ("adam", "adamw"):
        return rounded, rate

    def size(beta_1: float, beta_2: float) -> float:
        return math.sqrt(1 - beta_2**step) / (1 - beta_1**step)

    exact = size(optimizer.beta_1, optimizer.beta_2)
    other = size(float(np.float32(optimizer.beta_1)), float(np.float32(optimizer.beta_2)))
    new_rate = rate * other / exact
    # The decay is by rate · weight decay, which the rounding of β does not change.
    decay = rounded.weight_decay * rate / new_rate
    return dataclasses.replace(rounded, weight_decay=decay), new_rate


def compare_step(
    *,
    step: int,
    before: Mapping[str, Array],
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    statistics: Mapping[str, Mapping[str, Any]],
    order: Sequence[str],
) -> StepComparison:
    """Compare the parts of one step of the reference (`expected`) and of a subject.

    Names are those of `Float64StepRequest`. `statistics` says how the reference updated each moving
    variance; the subject's is the biased one, to which the reference's is converted.
    """
    names = _in_order_of_computation(expected, order)
    missing = sorted(set(expected) ^ set(actual))
    errors = []
    for name in names:
        if name not in actual:
            continue
        kind, _, tensor = name.partition("/")
        reference, subject = expected[name], actual[name]
        if kind == "weight":
            if tensor in statistics:
                reference = _as_biased(reference, before[name], statistics[tensor])
            is_trained = f"gradient/{tensor}" in expected
            kind = "update" if is_trained else "statistics"
            reference, subject = reference - before[name], subject - before[name]
        error = measure_error(actual=subject, expected=reference)
        errors.append(PartError(kind, tensor, error.rel_l2))  # type: ignore[arg-type]
    return StepComparison(step, tuple(errors), tuple(missing))


def _as_biased(after: Array, before: Array, update: Mapping[str, Any]) -> Array:
    """Return the moving variance that the biased variance of the batch would have given."""
    count, keep = update["count"], update["keep"]
    share = (count - 1) / count if update["unbiased"] else 1.0
    kept: Array = keep * before
    return kept + (after - kept) * share


def _in_order_of_computation(names: Mapping[str, Array], order: Sequence[str]) -> list[str]:
    """Return the loss, gradients from the last weight to the first, statistics, slots, weights."""
    place = {name: index for index, name in enumerate(order)}

    def key(name: str) -> tuple[int, int, str]:
        kind, _, rest = name.partition("/")
        index = place.get(rest.partition("/")[2] if kind == "slot" else rest, len(place))
        if kind == "gradient":
            return 1, -index, name
        group = {"loss": 0, "slot": 3}.get(kind, 2 if _is_statistic(name) else 4)
        return group, index, name

    return sorted(names, key=key)


def _is_statistic(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var"))


def _order(error: float) -> float:
    return math.inf if math.isnan(error) else error
