"""Typed requests for training in a child process, and their JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

DROPOUT_RECORD = "dropout"
"""Key of the dropouts in a step record; array (dropouts, 2): rate, number of values."""


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

    `optimizer` is the name of the framework's class, `arguments` are its constructor's arguments.
    The weight decay among the arguments does not apply to the weights in `no_weight_decay`, by
    canonical name. `clip_value` limits every gradient's values, `clip_norm` the norm of all
    gradients together. After clipping, `l2` × weight is added to each gradient, except for the
    weights in `no_weight_decay`. `loss` is one of `parity.numerics.losses`; `label_smoothing` is
    the fraction of label smoothing in the loss. `seed` seeds the framework's random generator,
    which dropout uses. `accumulate` is the largest number of micro-batches of a step. `device` is
    "cpu" or "gpu", `precision` "float32", or "float16" or "bfloat16" for mixed precision.
    """

    optimizer: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    no_weight_decay: tuple[str, ...] = ()
    clip_value: float | None = None
    clip_norm: float | None = None
    l2: float = 0.0
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    seed: int = 0
    accumulate: int = 1
    device: str = "cpu"
    precision: str = "float32"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data, tuples as lists."""
        fields = dataclasses.asdict(self)
        return {
            **fields,
            "arguments": dict(self.arguments),
            "no_weight_decay": list(self.no_weight_decay),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request of `to_json`'s data; raises TypeError for an unknown field."""
        fields = dict(data)
        fields["no_weight_decay"] = tuple(fields.get("no_weight_decay", ()))
        return cls(**fields)


@dataclass(frozen=True)
class StepRequest:
    """One training step on a batch: `.npy` files of images (N, C, H, W) and class indices (N,).

    A step may take its gradient from several micro-batches, of which each is a request: this one is
    `micro_batch`, from 0 on, of `micro_batches`. With the last one the optimizer steps, by the mean
    of their gradients. `optimizer_epsilon` replaces the optimizer's ε in this step, where the map
    between frameworks needs that. With a `perturbation_seed` the batch is permuted before the step,
    and every weight is moved by up to one ulp after the optimizer's.
    """

    images: str
    labels: str
    learning_rate: float
    optimizer_epsilon: float | None = None
    perturbation_seed: int | None = None
    micro_batch: int = 0
    micro_batches: int = 1

    @property
    def is_first(self) -> bool:
        """Whether no micro-batch of the step was taken yet."""
        return self.micro_batch == 0

    @property
    def is_last(self) -> bool:
        """Whether the optimizer steps after this micro-batch."""
        return self.micro_batch == self.micro_batches - 1

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True)
class StepVariation:
    """How the reference's step is changed to prove a cause.

    `inference_batch_norms`, by module, use their moving statistics; `frozen_batch_norms` also get
    no gradient for γ and β. `detached_outputs` are modules whose output passes no gradient on;
    `detached_operand` is the number of a sum of two tensors, and which of them passes none on. With
    `attached`, what the model detaches passes one on. `unfrozen_parameters` are frozen parameters
    that get a gradient. With `extra_softmax`, a softmax comes before the loss.
    """

    inference_batch_norms: tuple[str, ...] = ()
    frozen_batch_norms: tuple[str, ...] = ()
    detached_outputs: tuple[str, ...] = ()
    unfrozen_parameters: tuple[str, ...] = ()
    extra_softmax: bool = False
    attached: bool = False
    detached_operand: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        operand = data["detached_operand"]
        return cls(
            tuple(data["inference_batch_norms"]),
            tuple(data["frozen_batch_norms"]),
            tuple(data["detached_outputs"]),
            tuple(data["unfrozen_parameters"]),
            data["extra_softmax"],
            data["attached"],
            None if operand is None else (operand[0], operand[1]),
        )


@dataclass(frozen=True)
class ObservedStepRequest:
    """One training step from a given state, whose step record is written to `out_path`.

    `state_path` is a safetensors file with `weight/NAME` and, unless `number` is 1,
    `slot/KIND/NAME`, by canonical name and in the definition of `parity.training.optimizers`.
    `number` is the number of the step, from 1 on. `dtype` is "float64" or "float32".
    `choices_path` is a file with each ReLU's active side and each max-pool's argmax, which the step
    uses instead of its own. `device` is "cpu" or "gpu". `micro_batch_sizes` are the numbers of
    images of the micro-batches, in the order of the step's arrays; () is one. Without `keeps_state`
    the record has no slots, and of the weights after the step the moving statistics alone.
    """

    trainer: TrainerRequest
    step: StepRequest
    state_path: str
    number: int
    out_path: str
    dtype: str = "float64"
    choices_path: str | None = None
    variation: StepVariation = StepVariation()
    device: str = "cpu"
    micro_batch_sizes: tuple[int, ...] = ()
    keeps_state: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "trainer": self.trainer.to_json(),
            "step": self.step.to_json(),
            "variation": self.variation.to_json(),
            "micro_batch_sizes": list(self.micro_batch_sizes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "trainer": TrainerRequest.from_json(data["trainer"]),
                "step": StepRequest.from_json(data["step"]),
                "variation": StepVariation.from_json(data["variation"]),
                "micro_batch_sizes": tuple(data["micro_batch_sizes"]),
            }
        )


@dataclass(frozen=True)
class BatchResult:
    """A batch's mean loss, before the step, and its number of images and of right predictions.

    `skipped`: the optimizer did not step, since a gradient of the scaled loss was not finite.
    """

    loss: float
    correct: int
    count: int
    skipped: bool = False

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        skipped = bool(data.get("skipped", False))
        return cls(float(data["loss"]), int(data["correct"]), int(data["count"]), skipped)
