"""The optimizers: one definition of each, and its map to every framework.

With the gradient g, the learning rate η of the step, and t the number of the step, from 1 on:

`sgd`       b ← μ b + g;  w ← w − η b, with Nesterov w ← w − η (g + μ b).
            The learning rate is outside the momentum, as in PyTorch. Keras keeps m = −η b: its
            slots are multiplied by η_new / η_old whenever the learning rate changes.
`adam`      m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;
            w ← w − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε).
            ε is added before the bias correction of v, as in Keras and in the last lines of section
            2 of Kingma & Ba (2015). PyTorch adds it afterwards: it gets ε / √(1 − β₂ᵗ) in step t.
`adamw`     First w ← w − η λ w, then the step of `adam` (Loshchilov & Hutter, 2019). Only kernels
            decay unless `decay_all`: neither biases nor the parameters of normalisations.
`rmsprop`   v ← ρ v + (1 − ρ) g²;  b ← μ b + η g / √(v + ε);  w ← w − b.
            ε is inside the root and η inside the momentum, as in Keras. No ε gives PyTorch's
            optimizer this step: its child has a class of its own.

The gradient of a step of several micro-batches is the mean of theirs, each of which is that of the
mean loss of its images. Keras sums them and divides by their number, which its optimizer has, and
PyTorch divides each loss by it. The last step of an epoch may have fewer: their sum is divided by
their own number, which Keras's optimizer then gets.

Gradients are clipped before all of this: by value, or by the norm of all gradients together. Then
`l2` adds λ w to the gradient of what decays: PyTorch's `weight_decay` of all but AdamW. Keras has
no such optimizer: its child adds it.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from parity.errors import UsageError
from parity.network.table import LayerTable
from parity.processes import registry
from parity.processes.registry import RuntimeInfo
from parity.processes.training_requests import TrainerRequest
from parity.text import quote, suggest

NAMES = ("sgd", "adam", "adamw", "rmsprop")

_MOMENTUM_USERS = ("sgd", "rmsprop")


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its hyperparameters; those that it does not have are ignored.

    Raises `UsageError` for a hyperparameter that is invalid, or that this optimizer lacks.
    """

    name: str
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    beta_1: float = 0.9
    beta_2: float = 0.999
    rho: float = 0.9
    epsilon: float = 1e-7
    weight_decay: float = 0.0
    decay_all: bool = False
    l2: float = 0.0
    clip_value: float | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            hint = suggest(self.name, NAMES, otherwise=f"known: {', '.join(NAMES)}")
            raise UsageError(f"unknown optimizer {quote(self.name)}{hint}")
        for name, low, high in (
            ("learning_rate", 0.0, math.inf),
            ("epsilon", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low < value < high):
                raise UsageError(
                    f"--{name.replace('_', '-')}: must be a finite number above 0, found {value!r}"
                )
        for name in ("momentum", "beta_1", "beta_2", "rho"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UsageError(
                    f"--{name.replace('_', '-')}: must be 0 or more and less than 1, "
                    f"found {value!r}"
                )
        for name in ("weight_decay", "l2"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(
                    f"--{name.replace('_', '-')}: must be a finite number, 0 or more, found "
                    f"{value!r}"
                )
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.momentum and self.name not in _MOMENTUM_USERS:
            raise UsageError(f"--momentum: {self.name} has none; sgd and rmsprop have")
        if self.nesterov and not (self.name == "sgd" and self.momentum):
            raise UsageError("--nesterov: needs sgd with a momentum above 0")
        if self.weight_decay and self.name != "adamw":
            raise UsageError(
                f"--weight-decay: {self.name} has none, since Keras decouples it and PyTorch adds "
                "it to the gradient; adamw has one, and --l2 adds it to the gradient in both"
            )
        if self.l2 and self.name == "adamw":
            raise UsageError("--l2: adamw has --weight-decay, which is decoupled; adam has --l2")
        for name in ("clip_value", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(
                    f"--{name.replace('_', '-')}: must be a finite number above 0, found {value!r}"
                )
        if self.clip_value is not None and self.clip_norm is not None:
            raise UsageError("--clip-value and --clip-norm: Keras clips by one of them; give one")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def step_epsilon(self, framework: str, step: int) -> float | None:
        """Return the ε of a step (from 1 on) where a framework's differs from step to step."""
        epsilon: float | None = _load_map(framework).step_epsilon(self, step)
        return epsilon

    def round_as(self, framework: str, step: int, rate: float) -> tuple[Optimizer, float]:
        """Return the optimizer and the learning rate of a step as a framework rounds them.

        These roundings are there in float64, too.
        """
        changes, factor = _load_map(framework).round_hyperparameters(self, step)
        return dataclasses.replace(self, **changes), rate * factor


def trainer_request(
    optimizer: Optimizer,
    framework: str,
    table: LayerTable,
    *,
    loss: str = "cross-entropy",
    label_smoothing: float = 0.0,
    seed: int = 0,
    accumulate: int = 1,
    device: str = "cpu",
    precision: str = "float32",
) -> TrainerRequest:
    """Return the request that gives a framework's child this optimizer.

    Raises `UsageError` for a framework without a map.
    """
    name, arguments = _load_map(framework).map_optimizer(optimizer)
    decayed = list_decayed(optimizer, table)
    no_weight_decay: tuple[str, ...] = ()
    if optimizer.weight_decay or optimizer.l2:
        no_weight_decay = tuple(w.name for _, w in table.weights() if w.name not in decayed)
    return TrainerRequest(
        optimizer=name,
        arguments=arguments,
        no_weight_decay=no_weight_decay,
        clip_value=optimizer.clip_value,
        clip_norm=optimizer.clip_norm,
        l2=optimizer.l2,
        loss=loss,
        label_smoothing=label_smoothing,
        seed=seed,
        accumulate=accumulate,
        device=device,
        precision=precision,
    )


def list_decayed(optimizer: Optimizer, table: LayerTable) -> frozenset[str]:
    """Return the weights to which the optimizer's decay applies: kernels, or all."""
    if not (optimizer.weight_decay or optimizer.l2):
        return frozenset()
    return frozenset(
        w.name for _, w in table.weights() if optimizer.decay_all or _is_kernel(w.role)
    )


def _is_kernel(role: str) -> bool:
    """Return whether weights of a role are kernels: those of products, and embeddings."""
    return role == "embeddings" or "kernel" in role.split("_")


def _load_map(framework: str) -> ModuleType:
    """Return the module `optimizers` of a runtime.

    It has `map_optimizer`, `step_epsilon` and `round_hyperparameters`. Raises `UsageError` for a
    runtime without one.
    """
    modules = {name: _name_map(info) for name, info in registry.frameworks().items()}
    if framework not in modules or importlib.util.find_spec(modules[framework]) is None:
        able = [name for name, module in modules.items() if importlib.util.find_spec(module)]
        raise UsageError(f"{framework}: cannot train; {' and '.join(able)} can")
    return importlib.import_module(modules[framework])


def _name_map(info: RuntimeInfo) -> str:
    return f"{info.module.rpartition('.')[0]}.optimizers"
