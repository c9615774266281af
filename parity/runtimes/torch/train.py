"""Training of PyTorch modules: autograd and `torch.optim`, one batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.errors import UsageError
from parity.network.table import LayerTable, Row, parse_torch_point
from parity.network.trained_layout import TrainedLayout
from parity.numerics.floor import perturb
from parity.numerics.losses import LEAST_PROBABILITY
from parity.processes.training_requests import (
    BatchResult,
    StepRequest,
    StepVariation,
    TrainerRequest,
)
from parity.runtimes.observed_steps import CHOOSING_KINDS, ChoiceDistances
from parity.runtimes.torch.batched_convolutions import BatchedConvolutions
from parity.runtimes.torch.choices import CallChoices, find_maxima, gather, measure_distance
from parity.runtimes.torch.detached import AttachedParts, DetachedOperand
from parity.runtimes.torch.running_sums import BiasSums, RunningSumBatchNorms
from parity.runtimes.torch.tensors import named_weights
from parity.runtimes.torch.weights import Array, to_numpy
from parity.runtimes.train import LOSS_SCALE, LOSS_SCALE_STEPS, require_state

_GENERATOR = "generator/torch"
_GPU_GENERATOR = "generator/cuda"
_SCALE = "loss_scale/scale"
_GROWTH = "loss_scale/steps"
_WEIGHT = "weight/"
_SLOT = "slot/"
_COUNTER = "counter/"
_ACCUMULATED = "accumulated/"
"""The mean gradient so far, of a step whose last micro-batch is to come."""

_TENSOR_SLOTS = {
    "SGD": ("momentum_buffer",),
    "Adam": ("exp_avg", "exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq"),
    "RMSprop": ("square_avg", "momentum_buffer"),
}
"""The tensors that each optimizer keeps for a parameter."""

_CANONICAL_SLOTS = {
    "momentum_buffer": "momentum",
    "exp_avg": "first_moment",
    "exp_avg_sq": "second_moment",
    "square_avg": "mean_square",
}
"""The kinds of slot that these tensors are in `parity.training.optimizers`."""


class KerasRMSprop(torch.optim.Optimizer):
    """RMSprop with ε inside the root and the learning rate inside the momentum, as in Keras.

    The weight decay is added to the gradient, as in PyTorch's own.

    v ← ρ v + (1 − ρ) g²;  b ← μ b + η g / √(v + ε);  w ← w − b
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        alpha: float,
        momentum: float,
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "momentum": momentum, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

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
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        average = state["square_avg"]
        average.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
        change = (gradient * group["lr"]).div_((average + group["eps"]).sqrt_())
        if group["momentum"]:
            change = state["momentum_buffer"].mul_(group["momentum"]).add_(change)
        parameter.sub_(change)


_LOW_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""The dtypes of mixed precision, in which autocast computes products."""

_OPTIMIZERS: dict[str, Any] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "RMSprop": KerasRMSprop,
}


class TorchTrainer:
    """A module, a loss and an optimizer: `parity.runtimes.train.Trainer`."""

    def __init__(
        self, model: nn.Module, request: TrainerRequest, trained: Collection[str] | None = None
    ) -> None:
        """`trained` are the parameters that have a gradient, by name; None for all."""
        self._model = model
        self._request = request
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trained is None or name in trained)
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self._parameters:
            raise UsageError("torch: no parameter of the model has a gradient: all are frozen")
        self._device = next(iter(self._parameters.values())).device
        self._low_dtype = _LOW_DTYPES.get(request.precision)
        self._scaler = torch.amp.GradScaler(
            self._device.type,
            init_scale=LOSS_SCALE,
            growth_interval=LOSS_SCALE_STEPS,
            enabled=request.precision == "float16",
        )
        self._loss = _create_loss(request)
        self._optimizer = _create_optimizer(self._parameters, request)
        self._is_accumulating = False
        torch.manual_seed(request.seed)

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        if request.perturbation_seed is None:
            return self._step_unperturbed(images, labels, request)
        random = np.random.default_rng(request.perturbation_seed)
        order = random.permutation(len(labels))
        result = self._step_unperturbed(images[order], labels[order], request)
        if not request.is_last:
            return result
        with torch.no_grad():
            for value in self._model.state_dict().values():
                if value.is_floating_point():
                    value.copy_(torch.from_numpy(perturb(to_numpy(value), random)))
        return result

    def _step_unperturbed(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        for group in self._optimizer.param_groups:
            group["lr"] = request.learning_rate
            if request.optimizer_epsilon is not None:
                group["eps"] = request.optimizer_epsilon
        self._model.train()
        if request.is_first:
            self._optimizer.zero_grad(set_to_none=True)
        target = torch.from_numpy(labels).to(self._device)
        with self._mixed():
            logits = self._forward(torch.from_numpy(images).to(self._device))
        logits = self._widen(logits)
        loss = self._loss(logits, target)
        # The gradients of the micro-batches add up to their mean.
        self._scaler.scale(loss / request.micro_batches).backward()
        self._is_accumulating = not request.is_last
        skipped = request.is_last and not self._step_optimizer(request.micro_batches)
        return _result(loss, logits, target, skipped=skipped)

    def _step_optimizer(self, micro_batches: int) -> bool:
        """Take the step of the gradients; return False where one was not finite and none is taken.

        Only the gradients of a scaled loss are tested.
        """
        self._scaler.unscale_(self._optimizer)
        self._observe(micro_batches)
        _clip(self._parameters.values(), self._request)
        before = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return self._scaler.get_scale() >= before

    def _mixed(self) -> AbstractContextManager[Any]:
        """While open, a pass is in mixed precision, if that is the trainer's."""
        if self._low_dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._low_dtype)

    def _widen(self, logits: Tensor) -> Tensor:
        """Return logits in which the loss is computed: in float32, of mixed precision."""
        return logits if self._low_dtype is None else logits.float()

    def _forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._model(images)
        return logits

    def _observe(self, micro_batches: int) -> None:
        """Called between the last backward pass and the optimizer's step."""

    @torch.no_grad()
    def evaluate(self, images: Array, labels: Array) -> BatchResult:
        self._model.eval()
        target = torch.from_numpy(labels).to(self._device)
        with self._mixed():
            logits = self._model(torch.from_numpy(images).to(self._device))
        logits = self._widen(logits)
        return _result(self._loss(logits, target), logits, target)

    def read_weight_devices(self) -> dict[str, str]:
        return {name: str(value.device) for name, value in self._model.state_dict().items()}

    def read_state(self) -> dict[str, Array]:
        values = {_WEIGHT + k: to_numpy(v).copy() for k, v in self._model.state_dict().items()}
        for name, parameter in self._parameters.items():
            if self._is_accumulating and parameter.grad is not None:
                values[_ACCUMULATED + name] = to_numpy(parameter.grad).copy()
            for slot, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    kind = _COUNTER if slot == "step" else _SLOT
                    values[f"{kind}{slot}/{name}"] = to_numpy(value).copy()
        # The generator's state is bytes, which the file's format has not.
        for key, state in self._generators().items():
            values[key] = state.numpy().astype(np.int64)
        if self._scaler.is_enabled():
            values[_SCALE] = np.array(self._scaler.get_scale(), np.float32)
            values[_GROWTH] = np.array(self._scaler.state_dict()["_growth_tracker"], np.int64)
        return values

    def _generators(self) -> dict[str, Tensor]:
        """Return the states of the random generators that a step may use, bytes."""
        found = {_GENERATOR: torch.get_rng_state()}
        if self._device.type == "cuda":
            found[_GPU_GENERATOR] = torch.cuda.get_rng_state(self._device)
        return found

    def write_state(self, values: dict[str, Array]) -> None:
        expected = {
            _WEIGHT + name: tuple(value.shape) for name, value in self._model.state_dict().items()
        }
        slots = {key for key in values if key.startswith((_SLOT, _COUNTER))}
        # Before the first step there are no slots; then every parameter that a step reads has all
        # of them.
        if slots:
            stepped = {key.split("/", 2)[2] for key in slots}
            kinds = {key.rsplit("/", 1)[0] for key in slots}
            known = {f"{_SLOT}{slot}" for slot in _TENSOR_SLOTS[self._request.optimizer]}
            for kind in sorted(kinds & {*known, f"{_COUNTER}step"}):
                for name, parameter in self._parameters.items():
                    if name not in stepped:
                        continue
                    is_counter = kind.startswith(_COUNTER)
                    expected[f"{kind}/{name}"] = () if is_counter else tuple(parameter.shape)
        gradients = {
            name: values[_ACCUMULATED + name]
            for name in self._parameters
            if _ACCUMULATED + name in values
        }
        expected |= {_ACCUMULATED + n: tuple(self._parameters[n].shape) for n in gradients}
        expected |= {key: tuple(state.shape) for key, state in self._generators().items()}
        if self._scaler.is_enabled():
            expected |= {_SCALE: (), _GROWTH: ()}
        require_state("torch", expected, values)
        state = {
            name.removeprefix(_WEIGHT): torch.from_numpy(np.array(value))
            for name, value in values.items()
            if name.startswith(_WEIGHT)
        }
        self._model.load_state_dict(state, strict=True)
        for name, parameter in self._parameters.items():
            self._optimizer.state[parameter] = {
                key.split("/")[1]: self._load(values[key], is_counter=key.startswith(_COUNTER))
                for key in sorted(slots)
                if key.split("/", 2)[2] == name
            }
            parameter.grad = None
            if name in gradients:
                parameter.grad = self._load(gradients[name])
        self._is_accumulating = bool(gradients)
        torch.set_rng_state(torch.from_numpy(values[_GENERATOR].astype(np.uint8)))
        if _GPU_GENERATOR in values:
            state = torch.from_numpy(values[_GPU_GENERATOR].astype(np.uint8))
            torch.cuda.set_rng_state(state, self._device)
        if self._scaler.is_enabled():
            saved = {"scale": float(values[_SCALE]), "_growth_tracker": int(values[_GROWTH])}
            self._scaler.load_state_dict({**self._scaler.state_dict(), **saved})

    def _load(self, value: Array, *, is_counter: bool = False) -> Tensor:
        """Return a value on the device; the optimizers count their steps on the CPU."""
        tensor = torch.from_numpy(np.array(value))
        return tensor if is_counter else tensor.to(self._device)

    def read_canonical_state(self) -> dict[str, Array]:
        values = {}
        # A tied weight is there once, under its first name.
        weights = {f"{_WEIGHT}{name}" for name in named_weights(self._model)}
        for name, value in self.read_state().items():
            if name.startswith(_SLOT):
                _, slot, weight = name.split("/", 2)
                values[f"{_SLOT}{_CANONICAL_SLOTS[slot]}/{weight}"] = value
            elif name in weights:
                values[name] = value
        return values


class ObservedTorchTrainer(TorchTrainer):
    """A trainer of a module in any dtype: `parity.runtimes.observed_steps.ObservedTrainer`."""

    def __init__(
        self,
        model: nn.Module,
        request: TrainerRequest,
        *,
        table: LayerTable | None = None,
        layout: TrainedLayout | None = None,
        trained: Collection[str] | None = None,
    ) -> None:
        """`table` has the layers of a registered model, `layout` the points of any other."""
        super().__init__(model, request, trained)
        self._gradients: dict[str, Array] = {}
        self._statistics: dict[str, Any] = {}
        self._biased: dict[str, Array] = {}
        self._logits = np.zeros(0)
        self._variation = StepVariation()
        self._bias_sums = BiasSums(model)
        self._sum_errors: dict[str, float] = {}
        self._dtype = next(iter(self._parameters.values())).dtype
        self._layout = layout
        self._choices: _ChoiceHooks | CallChoices = (
            _ChoiceHooks(model, () if table is None else table.rows)
            if layout is None
            else CallChoices(layout, widen=self._dtype == torch.float64)
        )
        for path, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                self._hook_variance_updates(f"{path}.running_var", module)

    def _hook_variance_updates(self, name: str, module: nn.Module) -> None:
        """Record how a batch-norm updates its variance, and what biased ones would make of it."""
        before: Array = np.zeros(0)

        def updates_variance(module: Any) -> bool:
            return bool(
                module.training and module.running_var is not None and module.momentum is not None
            )

        def save_variance(module: Any, inputs: tuple[Tensor, ...]) -> None:
            nonlocal before
            if updates_variance(module):
                before = to_numpy(module.running_var).astype(np.float64)

        def record_update(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not updates_variance(module):
                return
            keep, count = 1 - module.momentum, inputs[0].numel() // inputs[0].shape[1]
            moved = to_numpy(module.running_var).astype(np.float64) - keep * before
            biased = keep * self._biased.get(name, before) + moved * ((count - 1) / count)
            known = self._statistics.get(name, {"keep": 1.0, "count": 0})
            self._biased[name] = biased
            self._statistics[name] = {
                "keep": keep * known["keep"], "count": max(count, known["count"])
            }  # fmt: skip

        module.register_forward_pre_hook(save_variance)
        module.register_forward_hook(record_update)

    def vary(self, variation: StepVariation, choices: dict[str, Array] | None = None) -> None:
        self._variation = variation
        self._choices.force(choices)

    def _step_unperturbed(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        if request.is_first:
            self._statistics, self._biased = {}, {}
        return super()._step_unperturbed(images, labels, request)

    def _forward(self, images: Tensor) -> Tensor:
        variation = self._variation
        for path in variation.inference_batch_norms:
            self._model.get_submodule(path).eval()
        for name in variation.unfrozen_parameters:
            self._model.get_parameter(name).requires_grad_(True)
        handles = [
            self._model.get_submodule(path).register_forward_hook(
                lambda module, inputs, output: output.detach()
            )
            for path in variation.detached_outputs
        ]
        try:
            with ExitStack() as stack:
                if self._dtype == torch.float64:
                    stack.enter_context(BatchedConvolutions())
                if self._bias_sums.enabled:
                    stack.enter_context(RunningSumBatchNorms())
                if variation.attached:
                    stack.enter_context(AttachedParts())
                if variation.detached_operand is not None:
                    stack.enter_context(DetachedOperand(*variation.detached_operand))
                logits = self._run(images)
        finally:
            for handle in handles:
                handle.remove()
        self._logits = to_numpy(self._widen(logits).detach()).copy()
        return torch.softmax(logits, -1) if variation.extra_softmax else logits

    @torch.no_grad()
    def pass_forward(self, images: Array) -> None:
        self._model.train()
        with self._mixed():
            self._forward(torch.from_numpy(images).to(self._device))

    def _run(self, images: Tensor) -> Tensor:
        if not isinstance(self._choices, CallChoices):
            logits: Tensor = self._model(images)
            return logits
        with _default_dtype(self._dtype):
            chosen: Tensor = self._choices.run(self._model, images)
            return chosen

    def _observe(self, micro_batches: int) -> None:
        frozen = {f"{path}." for path in self._variation.frozen_batch_norms}
        for name, parameter in self._parameters.items():
            if any(name.startswith(path) for path in frozen):
                parameter.grad = None
        self._gradients = {
            f"gradient/{name}": to_numpy(parameter.grad).copy()
            for name, parameter in self._model.named_parameters()
            if parameter.grad is not None
        }
        if self._bias_sums.enabled:
            self._sum_errors = self._bias_sums.measure_errors(
                {n: p.grad for n, p in self._model.named_parameters() if p.grad is not None},
                micro_batches,
            )
        for name in self._variation.unfrozen_parameters:
            parameter = self._model.get_parameter(name)
            parameter.grad = None
            parameter.requires_grad_(name in self._parameters)

    def read_gradients(self) -> dict[str, Array]:
        return self._gradients

    def use_running_sums(self, enabled: bool) -> None:
        self._bias_sums.enable(enabled)

    def read_bias_sum_errors(self) -> dict[str, float]:
        return {f"gradient/{name}": error for name, error in self._sum_errors.items()}

    def read_statistics(self) -> dict[str, Array]:
        known = None if self._layout is None else self._layout.weights
        return {
            f"{_WEIGHT}{name}": to_numpy(value).copy()
            for name, value in self._model.named_buffers()
            if value.is_floating_point() and (known is None or name in known)
        }

    def list_weights(self) -> list[str]:
        return [f"{_WEIGHT}{name}" for name in named_weights(self._model)]

    def read_biased_variances(self) -> dict[str, Array]:
        return {f"biased/{name}": value for name, value in self._biased.items()}

    def read_logits(self) -> Array:
        return self._logits

    def read_choices(self) -> dict[str, Array]:
        return self._choices.read()

    def read_omitted_dropouts(self) -> Array:
        hooks = self._choices
        return hooks.read_omitted_dropouts() if isinstance(hooks, CallChoices) else np.zeros((0, 2))

    def read_choice_input(self, row: str) -> Array:
        return to_numpy(self._choices.inputs[row])

    def read_choice_distances(self) -> dict[str, ChoiceDistances]:
        return self._choices.measure_distances()

    def describe_variance_updates(self) -> dict[str, Any]:
        return self._statistics

    def write_canonical_state(self, values: dict[str, Array], *, number: int) -> None:
        dtype = next(self._model.parameters()).dtype
        state = {
            name.removeprefix(_WEIGHT): torch.from_numpy(np.array(value))
            for name, value in values.items()
            if name.startswith(_WEIGHT)
        }
        self._model.load_state_dict(state, strict=False)
        slots = {
            slot: kind
            for slot, kind in _CANONICAL_SLOTS.items()
            if slot in _TENSOR_SLOTS[self._request.optimizer]
        }
        for name, parameter in self._parameters.items():
            found: dict[str, Any] = {
                slot: torch.from_numpy(np.array(values[f"{_SLOT}{kind}/{name}"])).to(
                    self._device, dtype
                )
                for slot, kind in slots.items()
                if f"{_SLOT}{kind}/{name}" in values
            }
            if found and self._request.optimizer in ("Adam", "AdamW"):
                found["step"] = torch.tensor(float(number - 1))
            self._optimizer.state[parameter] = found


class _ChoiceHooks:
    """Reads and replaces the choices of a module's ReLUs and max-pools, by row."""

    def __init__(self, model: nn.Module, rows: Iterable[Row]) -> None:
        self.inputs: dict[str, Tensor] = {}
        self._found: dict[str, Tensor] = {}
        self._forced: dict[str, Array] | None = None
        self._calls: dict[str, int] = {}
        points: dict[str, dict[int, Row]] = {}
        for row in rows:
            if row.kind in CHOOSING_KINDS and row.in_both_models:
                point = parse_torch_point(row.torch)
                if not point.is_input:
                    points.setdefault(point.module, {})[point.call] = row
        model.register_forward_pre_hook(lambda module, inputs: self._calls.clear())
        for path, by_call in points.items():
            module = model.get_submodule(path)
            if hasattr(module, "inplace"):
                # The input is needed after the module has computed.
                module.inplace = False
            module.register_forward_hook(self._make_hook(path, by_call))

    def force(self, choices: dict[str, Array] | None) -> None:
        """Take these choices from now on; None are the module's own."""
        self._forced = choices
        self.inputs = {}

    def read(self) -> dict[str, Array]:
        """Return the module's own choices in the last step, by row."""
        return {name: to_numpy(value) for name, value in self._found.items()}

    def measure_distances(self) -> dict[str, ChoiceDistances]:
        """Return the distances of each row of which a forced choice is not its own."""
        found = {}
        for name, forced in (self._forced or {}).items():
            if name not in self.inputs:
                continue
            taken = torch.from_numpy(np.array(forced))
            measured = measure_distance(self.inputs[name], self._found[name], taken)
            if measured is not None:
                found[name] = ChoiceDistances(to_numpy(self.inputs[name]), measured)
        return found

    def _make_hook(self, path: str, by_call: dict[int, Row]) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            call = self._calls.get(path, 0)
            self._calls[path] = call + 1
            row = by_call.get(call)
            return None if row is None else self._choose(row, module, inputs[0])

        return hook

    def _choose(self, row: Row, module: Any, z: Tensor) -> Tensor | None:
        own = z.detach() > 0 if row.kind == "relu" else find_maxima(z.detach(), vars(module))
        self._found[row.name] = own
        if self._forced is None or row.name not in self._forced:
            return None
        self.inputs[row.name] = z.detach()
        taken = torch.from_numpy(np.array(self._forced[row.name]))
        return z * taken.to(z.dtype) if row.kind == "relu" else gather(z, taken)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """While open, tensors that a model makes without a dtype have this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _create_loss(request: TrainerRequest) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of `parity.numerics.losses`."""
    smoothing = request.label_smoothing
    if request.loss == "cross-entropy":
        return nn.CrossEntropyLoss(label_smoothing=smoothing)

    def encode_labels(labels: Tensor, *, like: Tensor) -> Tensor:
        """Return class indices (N,) as one-hot vectors (N, classes) of the outputs' dtype."""
        return nn.functional.one_hot(labels, like.shape[-1]).to(like.dtype)

    if request.loss == "mean-squared-error":
        return lambda outputs, labels: nn.functional.mse_loss(
            outputs, encode_labels(labels, like=outputs)
        )

    def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
        target = (
            encode_labels(labels, like=outputs) * (1 - smoothing) + smoothing / outputs.shape[-1]
        )
        shares = outputs / outputs.sum(-1, keepdim=True)
        logarithms = shares.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).log()
        return -(target * logarithms).sum(-1).mean()

    return cross_entropy


def _create_optimizer(parameters: dict[str, nn.Parameter], request: TrainerRequest) -> Any:
    no_weight_decay = set(request.no_weight_decay)
    arguments = dict(request.arguments)
    if request.l2:
        # All of these add it to the gradient; AdamW, which does not, has no `l2`.
        arguments["weight_decay"] = request.l2
    groups: list[dict[str, Any]] = [
        {"params": [value for name, value in parameters.items() if name not in no_weight_decay]}
    ]
    if no_weight_decay:
        others = [value for name, value in parameters.items() if name in no_weight_decay]
        groups.append({"params": others, "weight_decay": 0.0})
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


def _result(loss: Tensor, logits: Tensor, target: Tensor, *, skipped: bool = False) -> BatchResult:
    correct = int((logits.argmax(1) == target).sum())
    return BatchResult(float(loss.detach()), correct, len(target), skipped)
