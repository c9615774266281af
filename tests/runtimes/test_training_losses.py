"""The losses of the trainers are those of their definition, in both frameworks."""

from __future__ import annotations

import numpy as np
import pytest

from parity.network.trained_layout import WeightMap
from parity.numerics.losses import LOSSES, measure_losses
from parity.processes.training_requests import StepRequest, TrainerRequest

pytestmark = pytest.mark.framework

IMAGES = np.random.default_rng(0).normal(size=(5, 3, 1, 1)).astype(np.float32)
LABELS = np.array([0, 3, 1, 1, 2])
KERNEL = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def build(framework, loss, smoothing):
    """A dense layer with a softplus: positive outputs that do not sum to 1.

    Behind a softmax or a sigmoid Keras takes the logits instead.
    """
    sgd = {"keras": "learning_rate", "torch": "lr"}[framework]
    request = TrainerRequest("SGD", {sgd: 0.1}, loss=loss, label_smoothing=smoothing)
    if framework == "keras":
        import keras

        from parity.runtimes.keras.train import KerasTrainer

        image = keras.Input((1, 1, 3))
        dense = keras.layers.Dense(4, use_bias=False, activation="softplus")
        model = keras.Model(image, dense(keras.layers.Flatten()(image)))
        dense.kernel.assign(KERNEL.T)
        trainer = KerasTrainer(model, WeightMap.identity({}), request)
        return trainer, lambda: dense.kernel.numpy().T
    import torch

    from parity.runtimes.torch.train import TorchTrainer

    dense = torch.nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(KERNEL))
    model = torch.nn.Sequential(torch.nn.Flatten(), dense, torch.nn.Softplus())
    return TorchTrainer(model, request), lambda: dense.weight.detach().numpy()


def define(kernel, loss, smoothing):
    outputs = np.log1p(np.exp(IMAGES[:, :, 0, 0].astype(np.float64) @ kernel.T))
    return measure_losses(outputs, LABELS, loss=loss, label_smoothing=smoothing).mean()


@pytest.mark.parametrize("framework", ["keras", "torch"])
@pytest.mark.parametrize(
    ("loss", "smoothing"),
    [*((loss, 0.0) for loss in LOSSES), *((loss, 0.1) for loss in LOSSES[:2])],
)
def test_a_trainer_steps_along_its_loss(framework, loss, smoothing):
    trainer, read = build(framework, loss, smoothing)
    result = trainer.step(IMAGES, LABELS, StepRequest("", "", 0.1))
    assert result.loss == pytest.approx(define(KERNEL, loss, smoothing), rel=1e-6)
    gradient = np.zeros(KERNEL.shape)
    for place in np.ndindex(KERNEL.shape):
        moved = [KERNEL.astype(np.float64) for _ in range(2)]
        moved[0][place] += 1e-6
        moved[1][place] -= 1e-6
        high, low = (define(each, loss, smoothing) for each in moved)
        gradient[place] = (high - low) / 2e-6
    np.testing.assert_allclose((KERNEL - read()) / 0.1, gradient, rtol=1e-4, atol=2e-6)
