"""The catalogue of faults: what is changed in the subject, where it acts first, and its cause."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from parity.network.trained_layout import TrainedLayout
from parity.processes.training_requests import ObservedStepRequest
from parity.runtimes.torch.choices import CallChoices
from parity.training.data.augmentation import Augmentation
from parity.training.data.batches import Batch
from parity.training.optimizers import Optimizer
from tests.studies.training_mutants.bench import OPTIMIZERS, Rates, StepContext, constant, falling

TORCH, KERAS = "torch-subject", "keras"

Change = Callable[[ObservedStepRequest, StepContext], ObservedStepRequest]

ANY: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """A fault in the subject's steps, on some models, optimizers and subjects.

    It acts first in step `acts`, in a part of one of `kinds`, and there in one of `tensors` (any
    if there are none). `cause` is the name that explains it.
    """

    name: str
    cause: str
    kinds: tuple[str, ...]
    on: tuple[tuple[str, str], ...]
    change: Change | None = None
    patch: Callable[[Any], None] | None = None
    prepare: Callable[[Any], None] | None = None
    subjects: tuple[str, ...] = (TORCH,)
    acts: int = 1
    tensors: tuple[str, ...] = ANY
    rates: Rates = constant
    augmentation: Augmentation | None = None
    steps_per_epoch: int | None = None
    accumulate: int = 1


UPDATE = ("update",)
SLOT = ("slot",)
STEP = ("slot", "update")
BOTH = (TORCH, KERAS)


def optimizer(**values: Any) -> Change:
    """Give the subject's optimizer other hyperparameters."""

    def change(request: ObservedStepRequest, context: StepContext) -> ObservedStepRequest:
        return context.with_trainer(request, _replace(context.task.optimizer, values))

    return change


def _replace(own: Optimizer, values: dict[str, Any]) -> Optimizer:
    return dataclasses.replace(own, **values)


def rate(choose: Callable[[StepContext], float]) -> Change:
    """Give the subject another learning rate."""

    def change(request: ObservedStepRequest, context: StepContext) -> ObservedStepRequest:
        step = dataclasses.replace(request.step, learning_rate=choose(context))
        return dataclasses.replace(request, step=step)

    return change


def batch(choose: Callable[[StepContext], Any]) -> Change:
    """Give the subject another batch."""

    def change(request: ObservedStepRequest, context: StepContext) -> ObservedStepRequest:
        return context.with_batch(request, choose(context))

    return change


def _without_last(context: StepContext) -> Batch:
    """Return the second step's images without its last micro-batch, of two."""
    given = context.batch
    if context.number != 2:
        return given
    kept = given.micro_batch_sizes[0]
    return Batch(given.images[:kept], given.labels[:kept], given.micro_batch_sizes[:1])


def _images(change: Callable[[Any], Any]) -> Change:
    return batch(lambda c: dataclasses.replace(c.batch, images=change(c.batch.images)))


def _labels(change: Callable[[Any], Any]) -> Change:
    return batch(lambda c: dataclasses.replace(c.batch, labels=change(c.batch.labels)))


def smoothing(value: float) -> Change:
    return lambda request, context: context.with_trainer(
        request, context.task.optimizer, label_smoothing=value
    )


def epsilon_unmapped(request: ObservedStepRequest, context: StepContext) -> ObservedStepRequest:
    """PyTorch's own ε in Adam, after the bias correction."""
    step = dataclasses.replace(request.step, optimizer_epsilon=context.task.optimizer.epsilon)
    return dataclasses.replace(request, step=step)


def coupled(request: ObservedStepRequest, context: StepContext) -> ObservedStepRequest:
    """Adam with AdamW's decay: PyTorch adds it to the gradient."""
    trainer = dataclasses.replace(request.trainer, optimizer="Adam")
    return dataclasses.replace(request, trainer=trainer)


def decoupled(request: ObservedStepRequest, context: StepContext) -> ObservedStepRequest:
    """Keras's own weight decay in place of L2."""
    arguments = {**request.trainer.arguments, "weight_decay": request.trainer.l2}
    trainer = dataclasses.replace(request.trainer, arguments=arguments, l2=0.0)
    return dataclasses.replace(request, trainer=trainer)


# Patches of a PyTorch trainer --------------------------------------------------------------------


def gradients(change: Callable[[dict[str, Any]], None], *, after: bool = False) -> Any:
    """Change the gradients before they are recorded, or after."""

    def patch(trainer: Any) -> None:
        observe = trainer._observe

        def observe_changed(micro_batches: int) -> None:
            if after:
                observe(micro_batches)
            with torch.no_grad():
                change(trainer._parameters)
            if not after:
                observe(micro_batches)

        trainer._observe = observe_changed

    return patch


def _scale(factor: float) -> Any:
    def change(parameters: dict[str, Any]) -> None:
        for parameter in parameters.values():
            parameter.grad.mul_(factor)

    return change


def _tie(parameters: dict[str, Any]) -> None:
    total = parameters["fc2.weight"].grad + parameters["fc3.weight"].grad
    for name in ("fc2.weight", "fc3.weight"):
        parameters[name].grad = total.clone()


def _clip_each(parameters: dict[str, Any]) -> None:
    for parameter in parameters.values():
        nn.utils.clip_grad_norm_([parameter], 0.5)


def _clip_stock(parameters: dict[str, Any]) -> None:
    nn.utils.clip_grad_norm_(list(parameters.values()), 0.5)


def loss(function: Callable[[Any, Any], Any]) -> Any:
    def patch(trainer: Any) -> None:
        trainer._loss = function

    return patch


def _softmax_twice(logits: Any, labels: Any) -> Any:
    return nn.functional.cross_entropy(torch.softmax(logits, -1), labels)


def summed(trainer: Any) -> None:
    """The loss of a micro-batch is not divided by their number, three."""
    trainer._scaler.scale = lambda loss: 3 * loss


def zeroed(trainer: Any) -> None:
    """The gradients are set to zero before every micro-batch, not once in a step."""
    forward = trainer._forward

    def zero_and_forward(images: Any) -> Any:
        trainer._optimizer.zero_grad()
        return forward(images)

    trainer._forward = zero_and_forward


def divided_by_three(trainer: Any) -> None:
    """The loss is divided by three, of however many micro-batches a step is."""
    step = trainer._step_unperturbed

    def divide_and_step(images: Any, labels: Any, request: Any) -> Any:
        trainer._scaler.scale = lambda loss: loss * request.micro_batches / 3
        return step(images, labels, request)

    trainer._step_unperturbed = divide_and_step


def dampened(trainer: Any) -> None:
    for group in trainer._optimizer.param_groups:
        group["dampening"] = group["momentum"]


def forget(*names: str) -> Any:
    def patch(trainer: Any) -> None:
        left_out = {id(trainer._parameters[name]) for name in names}
        for group in trainer._optimizer.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in left_out]

    return patch


def freeze(*names: str) -> Any:
    def patch(trainer: Any) -> None:
        for name in names:
            trainer._parameters[name].requires_grad_(False)

    return patch


def detach(path: str) -> Any:
    def patch(trainer: Any) -> None:
        module = trainer._model.get_submodule(path)
        module.register_forward_hook(lambda module, inputs, output: output.detach())

    return patch


def drop_out(path: str, rate: float) -> Any:
    """Put a dropout before a module; the step is taken without it."""

    def patch(trainer: Any) -> None:
        trainer._choices = CallChoices(TrainedLayout({}, 10), widen=True)
        trainer._model.get_submodule(path).register_forward_pre_hook(
            lambda module, inputs: nn.functional.dropout(inputs[0], rate, training=True)
        )

    return patch


def inference(*paths: str) -> Any:
    def patch(trainer: Any) -> None:
        for path in paths:
            module = trainer._model.get_submodule(path)
            module.train = lambda mode=True, module=module: module
            module.training = False

    return patch


def unbiased(trainer: Any) -> None:
    """Its moving variance is the unbiased one, and nobody says so."""
    trainer.read_biased_variances = dict


class _OwnAdam(torch.optim.Adam):
    """Adam as some write it."""

    inner_epsilon = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                self._change(parameter, state, group)

    def _change(self, parameter: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta_1, beta_2 = group["betas"]
        first = state["exp_avg"].mul_(beta_1).add_(parameter.grad, alpha=1 - beta_1)
        second = (
            state["exp_avg_sq"]
            .mul_(beta_2)
            .addcmul_(parameter.grad, parameter.grad, value=1 - beta_2)
        )
        if not self.inner_epsilon:
            parameter.sub_(group["lr"] * first / (second.sqrt() + 1e-7))
            return
        step = float(state["step"])
        scale = group["lr"] * (1 - beta_2**step) ** 0.5 / (1 - beta_1**step)
        parameter.sub_(scale * first / (second + 1e-7).sqrt())


class _InnerAdam(_OwnAdam):
    inner_epsilon = True


def own_optimizer(kind: type[torch.optim.Optimizer], **arguments: Any) -> Any:
    def patch(trainer: Any) -> None:
        group = trainer._optimizer.param_groups[0]
        trainer._optimizer = kind(list(trainer._parameters.values()), lr=group["lr"], **arguments)

    return patch


# Changes of a Keras model or trainer -------------------------------------------------------------


def keras_untrained(*layers: str) -> Any:
    def prepare(model: Any) -> None:
        for layer in layers:
            model.get_layer(layer).trainable = False

    return prepare


def keras_momentum(value: float, *layers: str) -> Any:
    def prepare(model: Any) -> None:
        for layer in layers:
            model.get_layer(layer).momentum = value

    return prepare


def torch_momentum(value: float, *layers: str) -> Any:
    def prepare(model: Any) -> None:
        for layer in layers:
            model.get_submodule(layer).momentum = value

    return prepare


def keras_summed(trainer: Any) -> None:
    """Keras's optimizer adds the gradients of the micro-batches, and does not divide them."""
    clip = trainer._optimizer._clip_gradients

    def sum_and_clip(gradients: Any) -> Any:
        number = trainer._optimizer.gradient_accumulation_steps
        return clip([gradient * number for gradient in gradients])

    trainer._optimizer._clip_gradients = sum_and_clip


def keras_rate_inside(trainer: Any) -> None:
    """Keras's own SGD: nothing is done with the slots when the rate changes."""
    trainer._set_learning_rate = trainer._optimizer._learning_rate.assign


# The catalogue -----------------------------------------------------------------------------------

SGD = (("mlp", "sgd"), ("cnn", "sgd"))
MOMENTUM = (("mlp", "momentum"), ("cnn", "momentum"))
ADAM = (("mlp", "adam"), ("cnn", "adam"))
FLIP = Augmentation(rotation=10, horizontal_flip=True)
FIRST = ("samples",)


def list_faults() -> Iterator[Fault]:
    """Yield every fault of the catalogue."""
    yield from _update_faults()
    yield from _gradient_faults()
    yield from _statistics_faults()
    yield from _data_faults()


def _update_faults() -> Iterator[Fault]:
    yield Fault("learning rate off by 1e-6", "learning-rate", UPDATE, (*SGD, *ADAM),
                rate(lambda c: c.rate * (1 + 1e-6)), subjects=BOTH)  # fmt: skip
    yield Fault("learning rate of another power of ten", "learning-rate", UPDATE, ADAM,
                rate(lambda c: c.rate * 10))  # fmt: skip
    yield Fault("schedule one step late", "schedule-off-by-one", UPDATE, (*SGD, *ADAM),
                rate(lambda c: c.rate_before), acts=2, rates=falling, subjects=BOTH)  # fmt: skip
    yield Fault("schedule one step early", "schedule-off-by-one", UPDATE, SGD,
                rate(lambda c: c.rate_after), rates=falling)  # fmt: skip
    yield Fault("patience counted otherwise", "plateau-patience", UPDATE, (*SGD, *ADAM),
                rate(lambda c: c.rate / 2))  # fmt: skip
    yield Fault("momentum's complement", "momentum-complement", SLOT, MOMENTUM,
                optimizer(momentum=0.1), acts=2, subjects=BOTH)  # fmt: skip
    yield Fault("another momentum", "momentum", SLOT, MOMENTUM, optimizer(momentum=0.95), acts=2)
    yield Fault("gradient damped by 1 − μ", "momentum-damped", SLOT, MOMENTUM, patch=dampened,
                acts=2)  # fmt: skip
    yield Fault("learning rate inside the momentum", "rate-in-momentum", STEP, MOMENTUM,
                patch=keras_rate_inside, acts=2, rates=falling, subjects=(KERAS,))  # fmt: skip
    yield Fault("Nesterov in one side", "nesterov", UPDATE, MOMENTUM, optimizer(nesterov=True),
                subjects=BOTH)  # fmt: skip
    yield Fault("no Nesterov", "nesterov", UPDATE, (("mlp", "nesterov"),),
                optimizer(nesterov=False))  # fmt: skip
    yield Fault("ε of another size", "epsilon", STEP, (*ADAM, ("cnn", "rmsprop")),
                optimizer(epsilon=1e-8))  # fmt: skip
    yield Fault("ε 1.001 times as large", "epsilon", UPDATE, (("mlp", "adam"),),
                optimizer(epsilon=1.001e-7), subjects=BOTH)  # fmt: skip
    yield Fault("ε after the bias correction", "epsilon", UPDATE, ADAM, epsilon_unmapped)
    yield Fault("ε inside the root", "epsilon", UPDATE, (("mlp", "adam"),),
                patch=own_optimizer(_InnerAdam))  # fmt: skip
    yield Fault("bias correction left out", "bias-correction", UPDATE, ADAM,
                patch=own_optimizer(_OwnAdam))  # fmt: skip
    yield Fault("another β₂", "decay-rate", SLOT, ADAM, optimizer(beta_2=0.99), subjects=BOTH)
    yield Fault("another β₁", "decay-rate", SLOT, (("mlp", "adam"),), optimizer(beta_1=0.8))
    yield Fault("another ρ", "decay-rate", SLOT, (("cnn", "rmsprop"),), optimizer(rho=0.99),
                acts=1)  # fmt: skip
    yield Fault("L2 in place of decoupled decay", "decay-coupling", SLOT,
                (("mlp", "adamw"), ("cnn", "adamw")), coupled)  # fmt: skip
    yield Fault("decoupled decay in place of L2", "decay-coupling", SLOT,
                (("mlp", "l2"), ("cnn", "l2")), decoupled, subjects=(KERAS,))  # fmt: skip
    yield Fault("biases and norms decay", "decay-scope", STEP,
                (("mlp", "adamw"), ("cnn", "adamw"), ("cnn", "l2")),
                optimizer(decay_all=True))  # fmt: skip
    yield Fault("no decay", "weight-decay", STEP, (("mlp", "adamw"), ("cnn", "l2")),
                optimizer(weight_decay=0.0, l2=0.0), subjects=BOTH)  # fmt: skip
    yield Fault("another decay", "weight-decay", STEP, (("mlp", "adamw"),),
                optimizer(weight_decay=0.02))  # fmt: skip
    yield Fault("gradients not clipped", "clipping", SLOT, (("mlp", "clip"), ("cnn", "clip")),
                optimizer(clip_norm=None))  # fmt: skip
    yield Fault("clipped by value", "clipping", SLOT, (("mlp", "clip"),),
                optimizer(clip_norm=None, clip_value=0.05), subjects=BOTH)  # fmt: skip
    yield Fault("the norm of each is clipped", "clipping", SLOT, (("mlp", "clip"),),
                optimizer(clip_norm=None), gradients(_clip_each, after=True))  # fmt: skip
    yield Fault("1e-6 added to the norm", "clipping", SLOT, (("mlp", "clip"),),
                optimizer(clip_norm=None), gradients(_clip_stock, after=True))  # fmt: skip
    yield Fault("clipped to another norm", "clipping", SLOT, (("cnn", "clip"),),
                optimizer(clip_norm=0.4))  # fmt: skip
    yield Fault("no clipping by value", "clipping", SLOT, (("mlp", "clip-value"),),
                optimizer(clip_value=None))  # fmt: skip
    yield Fault("a weight that the optimizer has not", "forgotten-weight", STEP,
                (("mlp", "sgd"), ("mlp", "momentum")), patch=forget("fc2.weight"),
                tensors=("fc2.weight", "momentum/fc2.weight"))  # fmt: skip
    yield Fault("another optimizer", "other-optimizer", STEP, (("mlp", "sgd"), ("cnn", "sgd")),
                lambda r, c: c.with_trainer(r, Optimizer("adam", c.rate)))  # fmt: skip


def _gradient_faults() -> Iterator[Fault]:
    last = ("head.bias", "head.weight")
    yield Fault("loss summed over the batch", "reduction", ("loss",), (*SGD, *ADAM),
                patch=loss(nn.CrossEntropyLoss(reduction="sum")))  # fmt: skip
    yield Fault("loss averaged over the classes", "reduction", ("loss",), SGD,
                patch=loss(lambda x, y: nn.functional.cross_entropy(x, y) / 10))  # fmt: skip
    yield Fault("accumulation not averaged", "accumulation", ("gradient",), (*SGD, *ADAM),
                patch=gradients(_scale(4.0)), tensors=last)  # fmt: skip
    yield Fault("three micro-batches summed", "accumulation", ("gradient",), (*SGD, *ADAM),
                patch=summed, tensors=last, accumulate=3)  # fmt: skip
    yield Fault("three micro-batches summed by Keras", "accumulation", ("gradient",),
                (("mlp", "clip"), ("cnn", "adam")), patch=keras_summed, subjects=(KERAS,),
                tensors=last, accumulate=3)  # fmt: skip
    yield Fault("gradients zeroed in each micro-batch", "accumulation", ("gradient",),
                (("mlp", "adam"), ("cnn", "sgd")), patch=zeroed, tensors=last,
                accumulate=3)  # fmt: skip
    yield Fault("an incomplete step divided as a whole one", "accumulation", ("gradient",),
                (("mlp", "momentum"), ("cnn", "sgd")), patch=divided_by_three, acts=2,
                tensors=last, steps_per_epoch=5, accumulate=3)  # fmt: skip
    yield Fault("labels smoothed", "label-smoothing", ("loss",), (*SGD, ("cnn", "adam")),
                smoothing(0.1), subjects=BOTH)  # fmt: skip
    yield Fault("softmax twice", "softmax-twice", ("loss",), (*SGD, ("mlp", "adam")),
                patch=loss(_softmax_twice))  # fmt: skip
    yield Fault("a weight without a gradient", "frozen-weight", ("gradient",),
                (("mlp", "sgd"), ("cnn", "momentum")), patch=freeze("head.weight"),
                tensors=("head.weight",))  # fmt: skip
    yield Fault("a layer that is not trainable", "frozen-weight", ("gradient",),
                (("mlp", "momentum"), ("cnn", "sgd")), prepare=keras_untrained("head"),
                subjects=(KERAS,), tensors=last)  # fmt: skip
    yield Fault("a detached part", "detached", ("gradient",), (("mlp", "sgd"), ("mlp", "adam")),
                patch=detach("relu2"), tensors=("fc2.bias", "fc2.weight"))  # fmt: skip
    yield Fault("a detached part", "detached", ("gradient",), (("cnn", "sgd"),),
                patch=detach("pool1"), tensors=("bn1.bias", "bn1.weight"))  # fmt: skip
    yield Fault("a detached shortcut", "detached", ("gradient",), (("resnet18", "sgd"),),
                patch=detach("layer4.0.downsample.1"),
                tensors=("layer4.0.downsample.1.bias", "layer4.0.downsample.1.weight"))  # fmt: skip
    yield Fault("weights tied in one side", "tied-weights", ("gradient",),
                (("mlp", "sgd"), ("mlp", "adam")), patch=gradients(_tie),
                tensors=("fc3.weight",))  # fmt: skip
    yield Fault("labels numbered from 1", "labels", ("loss",), SGD,
                _labels(lambda y: (y + 1) % 10))  # fmt: skip


def _statistics_faults() -> Iterator[Fault]:
    on = (("cnn", "sgd"), ("cnn", "adam"))
    yield Fault("moving variance unbiased", "running-variance", ("statistics",), on,
                patch=unbiased, tensors=("bn1.running_var",))  # fmt: skip
    yield Fault("batch-norm's momentum is the complement", "batch-norm-momentum", ("statistics",),
                on, prepare=torch_momentum(0.9, "bn1", "bn2"),
                tensors=("bn1.running_mean",))  # fmt: skip
    yield Fault("Keras's default momentum of batch-norm", "batch-norm-momentum", ("statistics",),
                on, prepare=keras_momentum(0.99, "bn2"), subjects=(KERAS,),
                tensors=("bn2.running_mean",))  # fmt: skip
    yield Fault("batch-norm in inference mode", "batch-norm-inference", FIRST, on,
                patch=inference("bn1", "bn2"))  # fmt: skip
    yield Fault("one batch-norm in inference mode", "batch-norm-inference", FIRST, on[:1],
                patch=inference("bn2"))  # fmt: skip
    yield Fault("batch-norm frozen", "batch-norm-frozen", FIRST, on[:1],
                prepare=keras_untrained("bn1", "bn2"), subjects=(KERAS,))  # fmt: skip


def _data_faults() -> Iterator[Fault]:
    yield Fault("dropout in one side", "dropout", ("dropout",), SGD, patch=drop_out("head", 0.3))
    yield Fault("the next batch", "data-order", FIRST, (*SGD, ("cnn", "adam")),
                batch(lambda c: c.reader.read(c.epoch, c.place + 1)), subjects=BOTH)  # fmt: skip
    yield Fault("not shuffled", "data-order", FIRST, SGD,
                batch(lambda c: dataclasses.replace(
                    c.reader, plan=dataclasses.replace(c.reader.plan, shuffle=False)
                ).read(c.epoch, c.place)))  # fmt: skip
    yield Fault("the same permutation in every epoch", "same-permutation", FIRST, SGD,
                batch(lambda c: c.reader.read(1, c.place)), acts=3, steps_per_epoch=2)  # fmt: skip
    yield Fault("last partial batch dropped", "last-batch-dropped", FIRST, SGD,
                batch(lambda c: c.reader.read(2, 0) if c.number == 2 else c.batch),
                acts=2, steps_per_epoch=2)  # fmt: skip
    yield Fault("last partial micro-batch dropped", "last-batch-dropped", FIRST,
                (("mlp", "sgd"), ("cnn", "adam")), batch(_without_last), acts=2,
                steps_per_epoch=5, accumulate=3)  # fmt: skip
    yield Fault("augmentation in one side", "augmentation", FIRST, SGD,
                batch(lambda c: dataclasses.replace(c.reader, augmentation=None).read(
                    c.epoch, c.place)), augmentation=FLIP)  # fmt: skip
    yield Fault("pixels from 0 to 255", "image-scale", FIRST, (("mlp", "sgd"),),
                _images(lambda x: x * 255), subjects=BOTH)  # fmt: skip
    yield Fault("pixels from 0 to 255, normalised again", "image-scale", ("samples", "statistics"),
                (("cnn", "sgd"),), _images(lambda x: x * 255))  # fmt: skip
    yield Fault("images transposed", "image-axes", FIRST, SGD,
                _images(lambda x: x.swapaxes(-1, -2).copy()))  # fmt: skip


__all__ = ["OPTIMIZERS", "Fault", "list_faults"]
