"""The optimizers in the words of PyTorch, read by the parent process: no framework is imported."""

from __future__ import annotations

import math
from typing import Any

from parity.processes.training_requests import OptimizerDefinition


def step_epsilon(optimizer: OptimizerDefinition, step: int) -> float | None:
    """Return the ε of a step, from 1 on; None where it is that of the definition in every step.

    PyTorch adds Adam's ε after the bias correction of v, the definition before it.
    """
    if optimizer.name in ("adam", "adamw"):
        return optimizer.epsilon / math.sqrt(1 - optimizer.beta_2**step)
    return None


def map_optimizer(optimizer: OptimizerDefinition) -> tuple[str, dict[str, Any]]:
    """Return the class in PyTorch and its arguments; ε is that of the first step."""
    rate = {"lr": optimizer.learning_rate}
    adam = {
        **rate,
        "betas": [optimizer.beta_1, optimizer.beta_2],
        "eps": step_epsilon(optimizer, 1) or optimizer.epsilon,
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
                "alpha": optimizer.rho,
                "momentum": optimizer.momentum,
                "eps": optimizer.epsilon,
            }


def round_hyperparameters(
    optimizer: OptimizerDefinition, step: int
) -> tuple[dict[str, float], float]:
    """Return no changes, and the factor 1: PyTorch rounds no hyperparameter in float64."""
    return {}, 1.0
