"""The optimizers in the words of Keras, read by the parent process: no framework is imported."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parity.processes.training_requests import OptimizerDefinition


def step_epsilon(optimizer: OptimizerDefinition, step: int) -> float | None:
    """Return None: Keras adds the same ε in every step, as the definition does."""
    return None


def map_optimizer(optimizer: OptimizerDefinition) -> tuple[str, dict[str, Any]]:
    """Return the class in Keras and its arguments; ε is that of the first step."""
    rate = {"learning_rate": optimizer.learning_rate}
    adam = {
        **rate,
        "beta_1": optimizer.beta_1,
        "beta_2": optimizer.beta_2,
        "epsilon": optimizer.epsilon,
    }
    match optimizer.name:
        case "sgd":
            return "SGD", {**rate, "momentum": optimizer.momentum, "nesterov": optimizer.nesterov}
        case "adam":
            return "Adam", adam
        case "adamw":
            return "AdamW", {**adam, "weight_decay": optimizer.weight_decay}
        case _:
            return "RMSprop", {
                **rate,
                "rho": optimizer.rho,
                "momentum": optimizer.momentum,
                "epsilon": optimizer.epsilon,
            }


def round_hyperparameters(
    optimizer: OptimizerDefinition, step: int
) -> tuple[dict[str, float], float]:
    """Return the hyperparameters that Keras rounds in float64, and the factor of the learning rate.

    Keras converts the momentum, the weight decay and Adam's β, where it raises them to the power of
    the step, through float32. It is exact arithmetic: 2e-8 of a momentum of 0.9, 7e-6 of Adam's
    first step.
    """
    changes = {"weight_decay": float(np.float32(optimizer.weight_decay))}
    if optimizer.name == "sgd":
        changes["momentum"] = float(np.float32(optimizer.momentum))
    if optimizer.name not in ("adam", "adamw"):
        return changes, 1.0

    def correct_bias(beta_1: float, beta_2: float) -> float:
        """Return the factor of the learning rate by Adam's bias corrections."""
        return math.sqrt(1 - beta_2**step) / (1 - beta_1**step)

    exact = correct_bias(optimizer.beta_1, optimizer.beta_2)
    rounded = correct_bias(float(np.float32(optimizer.beta_1)), float(np.float32(optimizer.beta_2)))
    factor = rounded / exact
    # The decay is by rate · weight decay, which the rounding of β does not change.
    changes["weight_decay"] /= factor
    return changes, factor
