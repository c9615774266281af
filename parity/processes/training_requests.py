"""The requests by which a child trains its model, as typed data and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self


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
    `label_smoothing` is that of the cross-entropy from logits. `seed` is that of the framework's
    own random numbers, which dropout draws.
    """

    optimizer: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    undecayed: tuple[str, ...] = ()
    clip_value: float | None = None
    clip_norm: float | None = None
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
    """

    images: str
    labels: str
    learning_rate: float
    epsilon: float | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True)
class Float64StepRequest:
    """One training step in float64 from a given state, whose parts are written to `out`.

    `state` is a safetensors file with `weight/NAME` and, unless `number` is 1, `slot/KIND/NAME`,
    by canonical name and in the definition of `parity.training.optimizers`. `number` is the
    number of the step, from 1 on.
    """

    trainer: TrainerRequest
    step: StepRequest
    state: str
    number: int
    out: str

    def to_json(self) -> dict[str, Any]:
        return {
            "trainer": self.trainer.to_json(),
            "step": self.step.to_json(),
            "state": self.state,
            "number": self.number,
            "out": self.out,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            TrainerRequest.from_json(data["trainer"]),
            StepRequest.from_json(data["step"]),
            data["state"],
            data["number"],
            data["out"],
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
