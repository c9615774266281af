"""The requests by which a child trains its model, as typed data and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

DROPOUT = "dropout"
"""The name, in the record of a step, of its dropouts: a row of rate and number of values each."""


class OptimizerDefinition(Protocol):
    """An optimizer as `parity.training.optimizers` defines it, which a runtime maps to its own."""

    @property
    def name(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def nesterov(self) -> bool: ...
    @property
    def beta_1(self) -> float: ...
    @property
    def beta_2(self) -> float: ...
    @property
    def rho(self) -> float: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


@dataclass(frozen=True)
class TrainerRequest:
    """The optimizer and the loss of a run, in the words of the child's framework.

    `optimizer` is the framework's class and `arguments` are that class's. `undecayed` are the
    weights, by canonical name, to which the weight decay among the arguments does not apply.
    `clip_value` limits every gradient's values, `clip_norm` the norm of all gradients together.
    `l2` times the weight is added to its gradient after that, but for the undecayed.
    `loss` is one of `parity.numerics.losses`, `label_smoothing` that of the labels. `seed` is that
    of the framework's own random numbers, which dropout draws.
    """

    optimizer: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    undecayed: tuple[str, ...] = ()
    clip_value: float | None = None
    clip_norm: float | None = None
    l2: float = 0.0
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data, tuples as lists."""
        fields = dataclasses.asdict(self)
        return {**fields, "arguments": dict(self.arguments), "undecayed": list(self.undecayed)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request of `to_json`'s data; raises TypeError for an unknown field."""
        fields = dict(data)
        fields["undecayed"] = tuple(fields.get("undecayed", ()))
        return cls(**fields)


@dataclass(frozen=True)
class StepRequest:
    """One training step on a batch: `.npy` files of images (N, C, H, W) and class indices (N,).

    `epsilon` replaces the optimizer's in this step, where the map between frameworks needs that.
    With `noise`, a seed, the batch is permuted before the step, and every weight is moved by up to
    one ulp after it.
    """

    images: str
    labels: str
    learning_rate: float
    epsilon: float | None = None
    noise: int | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True)
class Variation:
    """How the reference's step is changed to prove a cause.

    `inference` are the batch-norms that use their moving statistics, by module; `frozen` those
    whose γ and β have no gradient, too. `detached` are modules whose output has no gradient,
    `trained` frozen parameters that have one. `softmax` is a softmax before the loss.
    """

    inference: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    detached: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    softmax: bool = False

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        names = ("inference", "frozen", "detached", "trained")
        lists = {key: tuple(data[key]) for key in names}
        return cls(**lists, softmax=data["softmax"])


@dataclass(frozen=True)
class ObservedStepRequest:
    """One training step from a given state, whose parts are written to `out`.

    `state` is a safetensors file with `weight/NAME` and, unless `number` is 1, `slot/KIND/NAME`,
    by canonical name and in the definition of `parity.training.optimizers`. `number` is the
    number of the step, from 1 on. `dtype` is "float64" or "float32". `choices` is a file of the
    side of every ReLU's kink and the place of every max-pool's maximum, which the step then takes.
    `device` is "cpu" or "gpu".
    """

    trainer: TrainerRequest
    step: StepRequest
    state: str
    number: int
    out: str
    dtype: str = "float64"
    choices: str | None = None
    variation: Variation = Variation()
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "trainer": self.trainer.to_json(),
            "step": self.step.to_json(),
            "variation": self.variation.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "trainer": TrainerRequest.from_json(data["trainer"]),
                "step": StepRequest.from_json(data["step"]),
                "variation": Variation.from_json(data["variation"]),
            }
        )


@dataclass(frozen=True)
class BatchResult:
    """A batch's mean loss, before the step, and its number of images and of right predictions."""

    loss: float
    correct: int
    count: int

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(float(data["loss"]), int(data["correct"]), int(data["count"]))
