"""The optimizers in the words of Keras, read by the parent process: no framework is imported."""

from __future__ import annotations

from typing import Any

from parity.processes.training_requests import OptimizerDefinition


def epsilon_at(optimizer: OptimizerDefinition, step: int) -> float | None:
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
