"""Schedules of the learning rate: constant, in steps, along a cosine; with a warm-up."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from parity.errors import UsageError
from parity.text import quote, suggest

NAMES = ("constant", "step", "cosine")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes from step to step.

    `step` multiplies it by `factor` every `step_epochs` epochs, as PyTorch's `StepLR`. `cosine`
    falls from the learning rate to `minimum` over all steps after the warm-up, as PyTorch's
    `CosineAnnealingLR` that is stepped once a batch (Loshchilov & Hutter, 2017, without restarts).
    In the first `warmup_steps` steps the rate rises linearly: step i of n has i/n of it.

    Raises `UsageError` for values that are invalid.
    """

    name: str = "constant"
    warmup_steps: int = 0
    step_epochs: int = 10
    factor: float = 0.1
    minimum: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            hint = suggest(self.name, NAMES, otherwise=f"known: {', '.join(NAMES)}")
            raise UsageError(f"unknown schedule {quote(self.name)}{hint}")
        if self.warmup_steps < 0:
            raise UsageError(f"--warmup-steps: must be 0 or more, found {self.warmup_steps}")
        if self.step_epochs < 1:
            raise UsageError(f"--step-epochs: must be 1 or more, found {self.step_epochs}")
        if not 0 < self.factor <= 1:
            raise UsageError(f"--factor: must be above 0 and at most 1, found {self.factor!r}")
        if not (math.isfinite(self.minimum) and self.minimum >= 0):
            raise UsageError(f"--minimum-rate: must be 0 or more, found {self.minimum!r}")

    @property
    def depends_on_epochs(self) -> bool:
        """Whether another number of epochs changes the rate of the same step."""
        return self.name == "cosine"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def rate_at(self, step: int, *, base: float, steps_per_epoch: int, epochs: int) -> float:
        """Return the learning rate of a step; steps of the whole run count from 0."""
        if step < self.warmup_steps:
            return base * (step + 1) / self.warmup_steps
        if self.name == "step":
            passed = step // steps_per_epoch // self.step_epochs
            return base * math.pow(self.factor, passed)
        if self.name == "cosine":
            length = max(1, epochs * steps_per_epoch - self.warmup_steps)
            share = (step - self.warmup_steps) / length
            return self.minimum + (base - self.minimum) * (1 + math.cos(math.pi * share)) / 2
        return base
