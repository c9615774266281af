"""Optimizers: one definition, the same steps in Keras and in PyTorch, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from parity.errors import UsageError
from parity.network import architectures
from parity.network.table import LayerTable
from parity.network.trained_layout import WeightMap
from parity.processes.training_requests import StepRequest, TrainerRequest
from parity.training.definition import Update
from parity.training.optimizers import Optimizer, trainer_request

OPTIMIZERS = {
    "sgd": Optimizer("sgd", 0.05),
    "momentum": Optimizer("sgd", 0.05, momentum=0.9),
    "nesterov": Optimizer("sgd", 0.05, momentum=0.9, nesterov=True),
    "adam": Optimizer("adam", 1e-2),
    "adam, another ε": Optimizer("adam", 1e-2, epsilon=1e-3),
    "adamw": Optimizer("adamw", 1e-2, weight_decay=0.1),
    "adamw, all": Optimizer("adamw", 1e-2, weight_decay=0.1, decay_all=True),
    "rmsprop": Optimizer("rmsprop", 1e-2),
    "rmsprop, momentum": Optimizer("rmsprop", 1e-2, momentum=0.9),
    "sgd, l2": Optimizer("sgd", 0.05, momentum=0.9, l2=0.1),
    "adam, l2 of all": Optimizer("adam", 1e-2, l2=0.1, decay_all=True),
    "rmsprop, l2, clip": Optimizer("rmsprop", 1e-2, l2=0.1, clip_norm=0.01),
    "clip by value": Optimizer("sgd", 0.5, clip_value=0.02),
    "clip by norm": Optimizer("sgd", 0.5, momentum=0.9, clip_norm=0.01),
}

# The learning rate changes, which the momentum must follow.
RATES = (1.0, 1.0, 0.5, 0.5, 0.25, 1.0)


def formula(optimizer, parameters, gradients_of, rates, decayed):
    """The parameters after the steps, in float64, by the definitions of the module."""
    o = optimizer
    values = {name: value.astype(np.float64) for name, value in parameters.items()}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    for t, rate in enumerate(rates, start=1):
        gradients = gradients_of(values)
        if o.clip_value:
            gradients = {k: np.clip(g, -o.clip_value, o.clip_value) for k, g in gradients.items()}
        if o.clip_norm:
            norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
            gradients = {k: g * min(1, o.clip_norm / norm) for k, g in gradients.items()}
        for name, g in gradients.items():
            if o.l2 and name in decayed:
                g = g + o.l2 * values[name]  # noqa: PLW2901
            if o.weight_decay and name in decayed:
                values[name] -= rate * o.weight_decay * values[name]
            if o.name == "sgd":
                first[name] = o.momentum * first[name] + g
                step = g + o.momentum * first[name] if o.nesterov else first[name]
                values[name] -= rate * step
            elif o.name == "rmsprop":
                second[name] = o.rho * second[name] + (1 - o.rho) * g**2
                first[name] = o.momentum * first[name] + rate * g / np.sqrt(
                    second[name] + o.epsilon
                )
                values[name] -= first[name]
            else:
                first[name] = o.beta_1 * first[name] + (1 - o.beta_1) * g
                second[name] = o.beta_2 * second[name] + (1 - o.beta_2) * g**2
                scale = rate * math.sqrt(1 - o.beta_2**t) / (1 - o.beta_1**t)
                values[name] -= scale * first[name] / (np.sqrt(second[name]) + o.epsilon)
    return values


def softmax_gradients(x, y):
    """The gradients of one dense layer's mean cross-entropy, by hand."""

    def of(values):
        logits = x.astype(np.float64) @ values["weight"].T + values["bias"]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        return {"weight": p.T @ x / len(y), "bias": p.mean(0)}

    return of


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(0)
    # Images (N, C, H, W) of one pixel, since the children's batches are images.
    images = random.standard_normal((16, 6, 1, 1)).astype(np.float32)
    labels = random.integers(0, 4, 16)
    weight = random.standard_normal((4, 6)).astype(np.float32)
    bias = random.standard_normal(4).astype(np.float32)
    return images, labels, {"weight": weight, "bias": bias}


def keras_trainer(parameters, request):
    import keras

    from parity.runtimes.keras.train import KerasTrainer

    keras.utils.set_random_seed(0)
    image = keras.Input((1, 1, 6))
    dense = keras.layers.Dense(4, name="fc")
    model = keras.Model(image, dense(keras.layers.Flatten()(image)))
    dense.kernel.assign(parameters["weight"].T)
    dense.bias.assign(parameters["bias"])
    # No row names these variables: they are called by their paths.
    names = {"weight": "fc/kernel", "bias": "fc/bias"}
    request = TrainerRequest(
        **{
            **vars(request),
            "no_weight_decay": tuple(names[name] for name in request.no_weight_decay),
        }
    )
    trainer = KerasTrainer(model, WeightMap.identity({}), request)
    return trainer, lambda: {"weight": dense.kernel.numpy().T, "bias": dense.bias.numpy()}


def torch_trainer(parameters, request):
    import torch

    from parity.runtimes.torch.train import TorchTrainer

    dense = torch.nn.Linear(6, 4)
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(parameters["weight"]))
        dense.bias.copy_(torch.from_numpy(parameters["bias"]))
    names = {"weight": "1.weight", "bias": "1.bias"}
    request = TrainerRequest(
        **{
            **vars(request),
            "no_weight_decay": tuple(names[name] for name in request.no_weight_decay),
        }
    )
    trainer = TorchTrainer(torch.nn.Sequential(torch.nn.Flatten(), dense), request)
    return trainer, lambda: {
        "weight": dense.weight.detach().numpy(), "bias": dense.bias.detach().numpy()
    }  # fmt: skip


TRAINERS = {"keras": keras_trainer, "torch": torch_trainer}


@pytest.mark.framework
@pytest.mark.parametrize("framework", TRAINERS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_framework_takes_the_steps_of_the_definition(framework, name, problem, tmp_path):
    images, labels, parameters = problem
    optimizer = OPTIMIZERS[name]
    rates = [optimizer.learning_rate * scale for scale in RATES]
    decayed = ("weight", "bias") if optimizer.decay_all else ("weight",)
    expected = formula(
        optimizer, parameters, softmax_gradients(images[:, :, 0, 0], labels), rates, decayed
    )
    request = trainer_request(optimizer, framework, LayerTable(()))
    decays = optimizer.weight_decay or optimizer.l2
    no_weight_decay = () if optimizer.decay_all or not decays else ("bias",)
    request = TrainerRequest(**{**vars(request), "no_weight_decay": no_weight_decay})
    trainer, read = TRAINERS[framework](parameters, request)
    for step, rate in enumerate(rates, start=1):
        epsilon = optimizer.step_epsilon(framework, step)
        trainer.step(images, labels, StepRequest("", "", rate, epsilon))
    for key, value in read().items():
        change = expected[key] - parameters[key]
        error = np.linalg.norm(value - parameters[key] - change) / np.linalg.norm(change)
        # Keras computes Adam's step size in float32, 1e-5 from the exact one.
        assert error < 3e-5, (key, error)


@pytest.mark.framework
@pytest.mark.parametrize("framework", TRAINERS)
@pytest.mark.parametrize("name", ["adam, another ε", "momentum", "rmsprop, l2, clip"])
def test_a_step_takes_the_mean_of_its_micro_batches(framework, name, problem):
    """Three steps of micro-batches of unequal sizes; the second has fewer, the third one alone."""
    images, labels, parameters = problem
    optimizer = OPTIMIZERS[name]
    groups = iter([(0, 6, 12, 16), (0, 10, 16), (0, 16)])
    steps = [list(itertools.pairwise(group)) for group in groups]
    rates = [optimizer.learning_rate * scale for scale in RATES[1:4]]
    taken = iter(steps)

    def mean_gradients(values):
        parts = [
            softmax_gradients(images[first:end, :, 0, 0], labels[first:end])(values)
            for first, end in next(taken)
        ]
        return {key: np.mean([part[key] for part in parts], axis=0) for key in values}

    expected = formula(optimizer, parameters, mean_gradients, rates, ("weight",))
    request = trainer_request(optimizer, framework, LayerTable(()), accumulate=3)
    decays = optimizer.weight_decay or optimizer.l2
    request = TrainerRequest(**{**vars(request), "no_weight_decay": ("bias",) if decays else ()})
    trainer, read = TRAINERS[framework](parameters, request)
    for number, (parts, rate) in enumerate(zip(steps, rates, strict=True), start=1):
        epsilon = optimizer.step_epsilon(framework, number)
        for place, (first, end) in enumerate(parts):
            step = StepRequest("", "", rate, epsilon, micro_batch=place, micro_batches=len(parts))
            trainer.step(images[first:end], labels[first:end], step)
    for key, value in read().items():
        change = expected[key] - parameters[key]
        error = np.linalg.norm(value - parameters[key] - change) / np.linalg.norm(change)
        assert error < 3e-5, (key, error)


@pytest.mark.parametrize("change", ["ε of PyTorch", "momentum that keeps the old rate"])
def test_the_test_sees_a_wrong_map(change, problem):
    """The tolerance above is far below what the maps correct."""
    images, labels, parameters = problem
    gradients = softmax_gradients(images[:, :, 0, 0], labels)
    if change == "ε of PyTorch":
        optimizer = OPTIMIZERS["adam, another ε"]
        rates = [1e-3] * 6
        expected = formula(optimizer, parameters, gradients, rates, ())
        # ε after the bias correction is ε √(1 − β₂ᵗ) before it; here that of t = 6 throughout.
        late = Optimizer("adam", 1e-3, epsilon=1e-3 * math.sqrt(1 - 0.999**6))
        other = formula(late, parameters, gradients, rates, ())
    else:
        optimizer = OPTIMIZERS["momentum"]
        rates = [0.05 * scale for scale in RATES]
        expected = formula(optimizer, parameters, gradients, rates, ())
        inside = Optimizer("rmsprop", 0.05, momentum=0.9, rho=0.0, epsilon=1e12)
        # With ρ = 0 and a huge ε this is SGD with the rate inside the momentum, scaled by √ε.
        other = formula(inside, parameters, gradients, [rate * 1e6 for rate in rates], ())
    error = np.linalg.norm(other["weight"] - expected["weight"])
    assert error / np.linalg.norm(expected["weight"] - parameters["weight"]) > 1e-2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_of_the_definition_is_that_of_the_formula(name, problem):
    """`parity.training.definition`, by which steps are judged, over some steps."""
    images, labels, parameters = problem
    optimizer, gradients = OPTIMIZERS[name], softmax_gradients(images[:, :, 0, 0], labels)
    decayed = {"weight", "bias"} if optimizer.decay_all else {"weight"}
    rates = [optimizer.learning_rate * scale for scale in RATES]
    expected = formula(optimizer, parameters, gradients, rates, decayed)
    state = {f"weight/{key}": value.astype(np.float64) for key, value in parameters.items()}
    for number, rate in enumerate(rates, start=1):
        found = gradients({key: state[f"weight/{key}"] for key in parameters})
        state |= Update(optimizer, number, rate, found, state, decayed).take()
    for key, value in expected.items():
        np.testing.assert_allclose(state[f"weight/{key}"], value, rtol=1e-12, atol=0)


def test_only_kernels_decay_unless_asked():
    table = architectures.get("resnet18").table()
    kernels = {weight.name for _, weight in table.weights() if weight.role == "kernel"}
    request = trainer_request(Optimizer("adamw", 1e-3, weight_decay=0.1), "torch", table)
    assert kernels.isdisjoint(request.no_weight_decay)
    assert {"bn1.weight", "bn1.bias", "fc.bias"} <= set(request.no_weight_decay)
    everything = Optimizer("adamw", 1e-3, weight_decay=0.1, decay_all=True)
    assert trainer_request(everything, "torch", table).no_weight_decay == ()


def test_a_request_survives_json():
    request = trainer_request(OPTIMIZERS["adamw"], "keras", architectures.get("resnet18").table())
    assert TrainerRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "adan"}, "unknown optimizer 'adan'; did you mean 'adam'"),
        ({"learning_rate": math.nan}, "--learning-rate: must be a finite number above 0.*nan"),
        ({"learning_rate": 0.0}, "--learning-rate: must be a finite number above 0.*0.0"),
        ({"momentum": 0.9}, "--momentum: adam has none"),
        ({"name": "sgd", "nesterov": True}, "--nesterov: needs sgd with a momentum"),
        ({"name": "sgd", "momentum": 1.0}, "--momentum: must be 0 or more and less than 1"),
        ({"weight_decay": 0.1}, "--weight-decay: adam has none"),
        ({"name": "adamw", "l2": 0.1}, "--l2: adamw has --weight-decay, which is decoupled"),
        ({"l2": -1.0}, "--l2: must be a finite number, 0 or more"),
        ({"clip_value": 1.0, "clip_norm": 1.0}, "give one"),
        ({"clip_norm": 0.0}, "--clip-norm: must be a finite number above 0"),
        ({"beta_2": math.nan}, "--beta-2: must be 0 or more and less than 1"),
        ({"epsilon": 0.0}, "--epsilon: must be a finite number above 0"),
    ],
)
def test_invalid_hyperparameters_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Optimizer(**{"name": "adam", "learning_rate": 1e-3, **values})


def test_a_framework_without_a_map_is_refused():
    with pytest.raises(UsageError, match="onnx: cannot train; keras and torch can"):
        trainer_request(OPTIMIZERS["sgd"], "onnx", LayerTable(()))
