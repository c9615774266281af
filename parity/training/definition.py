"""One update of the weights by the definitions of `parity.training.optimizers`, in NumPy.

A step's update is judged from the gradients that the same framework computed: Adam divides a
gradient by its own size, which would amplify the rounding of the smallest ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.numerics.distance import measure_norms
from parity.training.optimizers import Optimizer

Array = NDArray[Any]

Values = Mapping[str, Array]


BLOCK = 8192
"""The values of a block: what is computed of one stays in a core's cache."""

_SLOTS = ("momentum", "first_moment", "second_moment", "mean_square")


@dataclass(frozen=True)
class Form:
    """How a step is written, where frameworks and people differ from the definition.

    `damped`: b ← μ b + (1 − μ) g. `rate_before`, the rate of the step before: it is inside the
    momentum, so that b ← (η_before / η) μ b + g. `outer_epsilon`: Adam's ε is added after the bias
    correction of v, RMSprop's outside the root. `inner_epsilon`: Adam's ε is inside the root.
    `uncorrected`: Adam's moments are not corrected for their start at 0.
    """

    damped: bool = False
    rate_before: float | None = None
    outer_epsilon: bool = False
    inner_epsilon: bool = False
    uncorrected: bool = False


@dataclass(frozen=True)
class Update:
    """One update: its number from 1 on, its rate, the weights and slots before it.

    `gradients` are by weight, before clipping. `before` has `weight/NAME` and `slot/KIND/NAME`;
    without a slot it is zero. `decayed` are the weights that decay; `l2` and `weight_decay` replace
    the optimizer's, which may have one of them alone.
    """

    optimizer: Optimizer
    number: int
    rate: float
    gradients: Values
    before: Values
    decayed: Collection[str]
    form: Form = Form()
    l2: float | None = None
    weight_decay: float | None = None

    def replace(self, **changes: Any) -> Update:
        """Return the update with other fields; those of the optimizer are given by their names."""
        own = {field.name for field in dataclasses.fields(Update)}
        hyper = {name: changes.pop(name) for name in list(changes) if name not in own}
        optimizer = changes.pop("optimizer", self.optimizer)
        if hyper:
            optimizer = dataclasses.replace(optimizer, **hyper)
        return dataclasses.replace(self, optimizer=optimizer, **changes)

    def map_gradients(self, change: Callable[[str, Array], Array]) -> Update:
        """Return the update of changed gradients."""
        changed = {name: change(name, value) for name, value in self.gradients.items()}
        return dataclasses.replace(self, gradients=changed)

    def take(self) -> dict[str, Array]:
        """Return `weight/NAME` and `slot/KIND/NAME` after the update, in float64."""
        clipped = clip(self.gradients, self.optimizer)
        found: dict[str, Array] = {}
        for name, gradient in clipped.items():
            if gradient.shape != self.before[f"weight/{name}"].shape:
                # It is of no use to the weight, and reported as a gradient.
                continue
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                found |= self._take_weight(name, gradient)
        return found

    def take_in_blocks(self) -> Iterator[tuple[str, slice, dict[str, Array]]]:
        """Yield what `take` returns in flat blocks: the weight, the block's place, its values."""
        limit = _find_limit(self.gradients, self.optimizer)
        for name, gradient in self.gradients.items():
            whole = self.before[f"weight/{name}"]
            if gradient.shape != whole.shape:
                continue
            keys = (f"weight/{name}", *(f"slot/{kind}/{name}" for kind in _SLOTS))
            before = {key: self.before[key].reshape(-1) for key in keys if key in self.before}
            flat = gradient.reshape(-1)
            for start in range(0, flat.size, BLOCK):
                place = slice(start, start + BLOCK)
                block = {key: value[place] for key, value in before.items()}
                own = dataclasses.replace(self, gradients={}, before=block)
                with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                    yield name, place, own._take_weight(name, limit(flat[place]))

    def _take_weight(self, name: str, gradient: Array) -> dict[str, Array]:
        optimizer, rate = self.optimizer, self.rate
        weight = np.asarray(self.before[f"weight/{name}"], np.float64)
        if name in self.decayed:
            l2 = optimizer.l2 if self.l2 is None else self.l2
            decay = optimizer.weight_decay if self.weight_decay is None else self.weight_decay
            gradient = gradient + l2 * weight
            weight = weight - rate * decay * weight
        slots, change = _STEPS[optimizer.name](self, name, gradient)
        found = {f"slot/{kind}/{name}": value for kind, value in slots.items()}
        found[f"weight/{name}"] = weight - change
        return found

    def slot(self, kind: str, name: str) -> Array | float:
        """Return a slot before the update; 0 before the first."""
        found = self.before.get(f"slot/{kind}/{name}")
        return 0.0 if found is None else np.asarray(found, np.float64)


def clip(gradients: Values, optimizer: Optimizer) -> dict[str, Array]:
    """Return gradients in float64, limited as the optimizer limits them."""
    limit = _find_limit(gradients, optimizer)
    return {name: limit(value) for name, value in gradients.items()}


def _find_limit(gradients: Values, optimizer: Optimizer) -> Callable[[Array], Array]:
    """Return the function that limits a part of the gradients, and returns it in float64."""
    largest, scale = optimizer.clip_value, 1.0
    if largest is None and optimizer.clip_norm is not None:
        norm = measure_norm(gradients)
        if norm > optimizer.clip_norm:
            scale = optimizer.clip_norm / norm

    def limit(part: Array) -> Array:
        wide = np.asarray(part, np.float64)
        if largest is not None:
            return np.clip(wide, -largest, largest)
        return wide if scale == 1.0 else wide * scale

    return limit


def measure_norm(values: Values) -> float:
    """Return the L2 norm of all values together."""
    norms = (measure_norms(actual=value, expected=value)[1] for value in values.values())
    return math.sqrt(math.fsum(norm**2 for norm in norms))


def _take_sgd(update: Update, name: str, gradient: Array) -> tuple[dict[str, Array], Array]:
    optimizer, form, rate = update.optimizer, update.form, update.rate
    if not optimizer.momentum:
        return {}, rate * gradient
    kept = optimizer.momentum * update.slot("momentum", name)
    if form.rate_before is not None:
        kept = kept * (form.rate_before / rate)
    own = (1 - optimizer.momentum) * gradient if form.damped else gradient
    buffer = kept + own
    step = gradient + optimizer.momentum * buffer if optimizer.nesterov else buffer
    return {"momentum": buffer}, rate * step


def _take_adam(update: Update, name: str, gradient: Array) -> tuple[dict[str, Array], Array]:
    optimizer, form = update.optimizer, update.form
    beta_1, beta_2, epsilon = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
    first = beta_1 * update.slot("first_moment", name) + (1 - beta_1) * gradient
    second = beta_2 * update.slot("second_moment", name) + (1 - beta_2) * gradient * gradient
    slots = {"first_moment": first, "second_moment": second}
    if form.uncorrected:
        return slots, update.rate * first / (np.sqrt(second) + epsilon)
    correction = math.sqrt(1 - beta_2**update.number)
    if form.outer_epsilon:
        epsilon *= correction
    scale = update.rate * correction / (1 - beta_1**update.number)
    if form.inner_epsilon:
        return slots, scale * first / np.sqrt(second + epsilon)
    return slots, scale * first / (np.sqrt(second) + epsilon)


def _take_rmsprop(update: Update, name: str, gradient: Array) -> tuple[dict[str, Array], Array]:
    optimizer, form = update.optimizer, update.form
    square = optimizer.rho * update.slot("mean_square", name) + (1 - optimizer.rho) * gradient**2
    slots = {"mean_square": square}
    root = (
        np.sqrt(square) + optimizer.epsilon
        if form.outer_epsilon
        else np.sqrt(square + optimizer.epsilon)
    )
    change = update.rate * gradient / root
    if optimizer.momentum:
        change = optimizer.momentum * update.slot("momentum", name) + change
        slots["momentum"] = change
    return slots, change


_STEPS: Mapping[str, Callable[[Update, str, Array], tuple[dict[str, Array], Array]]] = {
    "sgd": _take_sgd,
    "adam": _take_adam,
    "adamw": _take_adam,
    "rmsprop": _take_rmsprop,
}
