"""What happens after an epoch: best checkpoint, reduce on plateau, early stopping.

The counting is that of Keras's callbacks. PyTorch's `ReduceLROnPlateau` reduces when more than
`patience` epochs were no better, Keras's when `patience` were: there a patience of p is PyTorch's
p − 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from parity.errors import UsageError


@dataclass(frozen=True)
class Plateau:
    """Reduce the learning rate where the validation loss stays: Keras's `ReduceLROnPlateau`."""

    factor: float = 0.5
    patience: int = 3
    min_delta: float = 1e-4
    min_rate: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise UsageError(f"plateau: factor must be between 0 and 1, found {self.factor!r}")
        if self.patience < 1:
            raise UsageError(f"plateau: patience must be 1 or more, found {self.patience}")
        for name in ("min_delta", "min_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"plateau: {name} must be 0 or more, found {value!r}")


@dataclass(frozen=True)
class EarlyStopping:
    """Stop where the validation loss does not fall, and restore the weights of its minimum."""

    patience: int = 8

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise UsageError(f"early stopping: patience must be 1 or more, found {self.patience}")


@dataclass(frozen=True)
class EpochMetrics:
    """The figures of one epoch; the training figures are means over its steps as they were."""

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True)
class CallbackState:
    """What the callbacks remember from epoch to epoch; an epoch of 0 is none."""

    best_accuracy: float = -math.inf
    best_accuracy_epoch: int = 0
    plateau_loss: float = math.inf
    plateau_wait: int = 0
    reduction: float = 1.0
    """The factor on the schedule's learning rate."""
    lowest_loss: float = math.inf
    lowest_loss_epoch: int = 0
    stopping_wait: int = 0
    stopped_epoch: int = 0

    def to_json(self) -> dict[str, Any]:
        # JSON has no infinity.
        return {k: v for k, v in dataclasses.asdict(self).items() if math.isfinite(v)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True)
class Callbacks:
    """The callbacks of a run; None is without that one."""

    plateau: Plateau | None = None
    early_stopping: EarlyStopping | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def after_epoch(self, state: CallbackState, metrics: EpochMetrics) -> CallbackState:
        """Return the state after an epoch.

        The epoch has the best accuracy if `best_accuracy_epoch` is its number, the lowest loss if
        `lowest_loss_epoch` is; training ends if `stopped_epoch` is.
        """
        if metrics.validation_accuracy > state.best_accuracy:
            state = replace(
                state,
                best_accuracy=metrics.validation_accuracy,
                best_accuracy_epoch=metrics.epoch,
            )
        if self.plateau is not None:
            state = _watch_plateau(self.plateau, state, metrics)
        return _watch_loss(self.early_stopping, state, metrics)


def _watch_plateau(plateau: Plateau, state: CallbackState, metrics: EpochMetrics) -> CallbackState:
    if metrics.validation_loss < state.plateau_loss - plateau.min_delta:
        return replace(state, plateau_loss=metrics.validation_loss, plateau_wait=0)
    wait = state.plateau_wait + 1
    if wait < plateau.patience:
        return replace(state, plateau_wait=wait)
    rate = metrics.learning_rate
    if rate <= plateau.min_rate:
        # As in Keras, the count goes on.
        return replace(state, plateau_wait=wait)
    reduced = max(rate * plateau.factor, plateau.min_rate)
    return replace(state, plateau_wait=0, reduction=state.reduction * (reduced / rate))


def _watch_loss(
    stopping: EarlyStopping | None, state: CallbackState, metrics: EpochMetrics
) -> CallbackState:
    if metrics.validation_loss < state.lowest_loss or not state.lowest_loss_epoch:
        return replace(
            state,
            lowest_loss=metrics.validation_loss,
            lowest_loss_epoch=metrics.epoch,
            stopping_wait=0,
        )
    wait = state.stopping_wait + 1
    stops = stopping is not None and wait >= stopping.patience
    return replace(state, stopping_wait=wait, stopped_epoch=metrics.epoch if stops else 0)
