"""Training of PyTorch modules: autograd and `torch.optim`, one batch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.processes.training_requests import BatchResult, StepRequest, TrainerRequest
from parity.runtimes.torch.weights import Array, to_numpy
from parity.runtimes.train import require_state

_GENERATOR = "generator/torch"
_WEIGHT = "weight/"
_SLOT = "slot/"
_COUNTER = "counter/"

_TENSOR_SLOTS = {
    "SGD": ("momentum_buffer",),
    "Adam": ("exp_avg", "exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq"),
    "RMSprop": ("square_avg", "momentum_buffer"),
}
"""The tensors that each optimizer keeps for a parameter."""

_DEFINITIONS = {
    "momentum_buffer": "momentum",
    "exp_avg": "first_moment",
    "exp_avg_sq": "second_moment",
    "square_avg": "mean_square",
}
"""The names of these tensors in `parity.training.optimizers`."""


class RootMeanSquare(torch.optim.Optimizer):
    """RMSprop with ε inside the root and the learning rate inside the momentum, as in Keras.

    v ← ρ v + (1 − ρ) g²;  b ← μ b + η g / √(v + ε);  w ← w − b
    """

    def __init__(
        self, params: Any, *, lr: float, alpha: float, momentum: float, eps: float
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "momentum": momentum, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["square_avg"] = torch.zeros_like(parameter)
            if group["momentum"]:
                state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["square_avg"]
        average.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
        change = (gradient * group["lr"]).div_((average + group["eps"]).sqrt_())
        if group["momentum"]:
            change = state["momentum_buffer"].mul_(group["momentum"]).add_(change)
        parameter.sub_(change)


_OPTIMIZERS: dict[str, Any] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "RMSprop": RootMeanSquare,
}


class TorchTrainer:
    """A module, cross-entropy and an optimizer: `parity.runtimes.train.Trainer`."""

    def __init__(self, model: nn.Module, request: TrainerRequest) -> None:
        self._model = model.requires_grad_(True)
        self._request = request
        self._parameters = dict(model.named_parameters())
        self._loss = nn.CrossEntropyLoss(label_smoothing=request.label_smoothing)
        self._optimizer = _create_optimizer(self._parameters, request)
        torch.manual_seed(request.seed)

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        for group in self._optimizer.param_groups:
            group["lr"] = request.learning_rate
            if request.epsilon is not None:
                group["eps"] = request.epsilon
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        logits, target = self._model(torch.from_numpy(images)), torch.from_numpy(labels)
        loss = self._loss(logits, target)
        loss.backward()
        self._observe()
        _clip(self._parameters.values(), self._request)
        self._optimizer.step()
        return _result(loss, logits, target)

    def _observe(self) -> None:
        """Called between the backward pass and the optimizer's step."""

    @torch.no_grad()
    def evaluate(self, images: Array, labels: Array) -> BatchResult:
        self._model.eval()
        logits, target = self._model(torch.from_numpy(images)), torch.from_numpy(labels)
        return _result(self._loss(logits, target), logits, target)

    def read_state(self) -> dict[str, Array]:
        values = {_WEIGHT + k: to_numpy(v).copy() for k, v in self._model.state_dict().items()}
        for name, parameter in self._parameters.items():
            for slot, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    kind = _COUNTER if slot == "step" else _SLOT
                    values[f"{kind}{slot}/{name}"] = to_numpy(value).copy()
        # The generator's state is bytes, which the file's format has not.
        values[_GENERATOR] = torch.get_rng_state().numpy().astype(np.int64)
        return values

    def write_state(self, values: dict[str, Array]) -> None:
        expected = {
            _WEIGHT + name: tuple(value.shape) for name, value in self._model.state_dict().items()
        }
        slots = {key for key in values if key.startswith((_SLOT, _COUNTER))}
        # Before the first step there are no slots; then every parameter has all of them.
        if slots:
            kinds = {key.rsplit("/", 1)[0] for key in slots}
            known = {f"{_SLOT}{slot}" for slot in _TENSOR_SLOTS[self._request.optimizer]}
            for kind in sorted(kinds & {*known, f"{_COUNTER}step"}):
                for name, parameter in self._parameters.items():
                    is_counter = kind.startswith(_COUNTER)
                    expected[f"{kind}/{name}"] = () if is_counter else tuple(parameter.shape)
        expected[_GENERATOR] = tuple(torch.get_rng_state().shape)
        require_state("torch", expected, values)
        state = {
            name.removeprefix(_WEIGHT): torch.from_numpy(np.array(value))
            for name, value in values.items()
            if name.startswith(_WEIGHT)
        }
        self._model.load_state_dict(state, strict=True)
        for name, parameter in self._parameters.items():
            self._optimizer.state[parameter] = {
                key.split("/")[1]: torch.from_numpy(np.array(values[key]))
                for key in sorted(slots)
                if key.split("/", 2)[2] == name
            }
        torch.set_rng_state(torch.from_numpy(values[_GENERATOR].astype(np.uint8)))


class ObservedTorchTrainer(TorchTrainer):
    """A trainer of a float64 module: `parity.runtimes.train.ObservedTrainer`."""

    def __init__(self, model: nn.Module, request: TrainerRequest) -> None:
        super().__init__(model, request)
        self._gradients: dict[str, Array] = {}
        self._statistics: dict[str, Any] = {}
        for path, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.register_forward_hook(self._record_statistics(path))

    def _record_statistics(self, path: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._statistics[f"{path}.running_var"] = {
                "keep": 1 - module.momentum,
                "count": inputs[0].numel() // inputs[0].shape[1],
                "unbiased": True,
            }

        return hook

    def _observe(self) -> None:
        self._gradients = {
            f"gradient/{name}": to_numpy(parameter.grad).copy()
            for name, parameter in self._parameters.items()
            if parameter.grad is not None
        }

    def read_gradients(self) -> dict[str, Array]:
        return self._gradients

    def describe_statistics(self) -> dict[str, Any]:
        return self._statistics

    def read_definition(self) -> dict[str, Array]:
        values = {}
        for name, value in self.read_state().items():
            if name.startswith(_SLOT):
                _, slot, weight = name.split("/", 2)
                values[f"{_SLOT}{_DEFINITIONS[slot]}/{weight}"] = value
            elif name.startswith(_WEIGHT) and value.dtype.kind == "f":
                values[name] = value
        return values

    def write_definition(self, values: dict[str, Array], *, number: int) -> None:
        state = {
            name.removeprefix(_WEIGHT): torch.from_numpy(np.array(value, np.float64))
            for name, value in values.items()
            if name.startswith(_WEIGHT)
        }
        self._model.load_state_dict(state, strict=False)
        slots = {
            slot: definition
            for slot, definition in _DEFINITIONS.items()
            if slot in _TENSOR_SLOTS[self._request.optimizer]
        }
        for name, parameter in self._parameters.items():
            found: dict[str, Any] = {
                slot: torch.from_numpy(np.array(values[f"{_SLOT}{definition}/{name}"]))
                for slot, definition in slots.items()
                if f"{_SLOT}{definition}/{name}" in values
            }
            if found and self._request.optimizer in ("Adam", "AdamW"):
                found["step"] = torch.tensor(float(number - 1))
            self._optimizer.state[parameter] = found


def _create_optimizer(parameters: dict[str, nn.Parameter], request: TrainerRequest) -> Any:
    undecayed = set(request.undecayed)
    groups: list[dict[str, Any]] = [
        {"params": [value for name, value in parameters.items() if name not in undecayed]}
    ]
    if undecayed:
        others = [value for name, value in parameters.items() if name in undecayed]
        groups.append({"params": others, "weight_decay": 0.0})
    arguments = dict(request.arguments)
    if "betas" in arguments:
        arguments["betas"] = tuple(arguments["betas"])
    return _OPTIMIZERS[request.optimizer]([g for g in groups if g["params"]], **arguments)


def _clip(parameters: Iterable[nn.Parameter], request: TrainerRequest) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    if request.clip_value is not None:
        for gradient in gradients:
            gradient.clamp_(-request.clip_value, request.clip_value)
    elif request.clip_norm is not None:
        # `clip_grad_norm_` adds 1e-6 to the norm, which Keras does not.
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
        )
        scale = request.clip_norm * min(1 / float(norm), 1 / request.clip_norm)
        if not math.isclose(scale, 1.0, rel_tol=0, abs_tol=0):
            for gradient in gradients:
                gradient.mul_(scale)


def _result(loss: Tensor, logits: Tensor, target: Tensor) -> BatchResult:
    correct = int((logits.argmax(1) == target).sum())
    return BatchResult(float(loss.detach()), correct, len(target))
