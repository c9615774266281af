"""The scale of the loss in mixed precision of float16, for steps of several micro-batches."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from parity.runtimes.train import LOSS_SCALE, LOSS_SCALE_STEPS


class StepLossScale(keras.optimizers.LossScaleOptimizer):
    """Keras's scale of the loss, whose step is left out whole.

    Keras's own leaves out single micro-batches whose gradients are not finite, and the step is then
    the sum of the others, divided by the number of all. Here every micro-batch is added, so that
    one that is not finite makes the sum so; with the last one the step is taken or left out, and
    the scale changes, as PyTorch's `GradScaler` does it.
    """

    def __init__(self, inner_optimizer: Any) -> None:
        super().__init__(
            inner_optimizer, initial_scale=LOSS_SCALE, dynamic_growth_steps=LOSS_SCALE_STEPS
        )

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        number = self.inner_optimizer.gradient_accumulation_steps
        if not number:
            super().apply(grads, trainable_variables)
            return
        gradients, inner = list(grads), self.inner_optimizer
        variables = list(trainable_variables or self._trainable_variables)
        is_last = ops.equal((inner._iterations + 1) % number, 0)
        finite = ops.logical_and(
            self.check_finite(gradients), self.check_finite(inner._accumulated_gradients)
        )
        ops.cond(
            ops.logical_and(is_last, ops.logical_not(finite)),
            self._leave_out,
            lambda: self._add(gradients, variables, is_last),
        )

    def _add(self, gradients: list[Any], variables: list[Any], is_last: Any) -> None:
        """Add a micro-batch's gradients; with the last one, the step is taken."""
        scale = self.dynamic_scale
        unscaled = [None if each is None else ops.divide(each, scale) for each in gradients]
        self.inner_optimizer.apply(unscaled, variables)
        ops.cond(is_last, self._count, lambda: None)

    def _count(self) -> None:
        """Count a step with finite gradients; double the scale after enough of them."""

        def double() -> None:
            self.step_counter.assign(0)
            self.dynamic_scale.assign(ops.multiply(self.dynamic_scale, 2.0))

        def increment() -> None:
            self.step_counter.assign_add(1)

        ops.cond(ops.equal(self.step_counter, self.dynamic_growth_steps - 1), double, increment)

    def _leave_out(self) -> None:
        """Take no step, forget the gradients so far, and halve the scale."""
        self.step_counter.assign(0)
        self.dynamic_scale.assign(ops.multiply(self.dynamic_scale, 0.5))
        for accumulator in self.inner_optimizer._accumulated_gradients:
            accumulator.assign(ops.zeros_like(accumulator))
