"""Callbacks: they count as Keras's do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from parity.errors import UsageError
from parity.training.callbacks import (
    Callbacks,
    CallbackState,
    EarlyStopping,
    EpochMetrics,
    Plateau,
)


def run(callbacks, losses, accuracies=None, base=0.1):
    """The learning rate of each epoch, and the last state; the state goes through JSON."""
    state, rates = CallbackState(), []
    for epoch, loss in enumerate(losses, start=1):
        rate = base * state.reduction
        rates.append(rate)
        accuracy = accuracies[epoch - 1] if accuracies else 0.5
        state = callbacks.after_epoch(state, EpochMetrics(epoch, rate, 1.0, 0.5, loss, accuracy))
        state = CallbackState.from_json(json.loads(json.dumps(state.to_json())))
        if state.stopped_epoch:
            break
    return rates, state


class Model:
    """What Keras's callbacks need of a model."""

    def __init__(self, keras):
        self.optimizer = keras.optimizers.SGD(0.1)
        self.stop_training = False
        self.metrics = [keras.metrics.Mean(name="loss")]
        self.epoch = 0

    def get_weights(self):
        return self.epoch

    def set_weights(self, epoch):
        self.restored = epoch

    def get_metrics_result(self):
        return {}


SEQUENCES = [
    *(np.random.default_rng(seed).uniform(0.5, 1.5, 25).tolist() for seed in range(12)),
    [1.0] * 25,
    np.linspace(1, 0.5, 25).tolist(),
    np.linspace(1, 1.5, 25).tolist(),
    [1 - 0.00009 * i for i in range(25)],
]


@pytest.mark.framework
@pytest.mark.parametrize("losses", SEQUENCES)
@pytest.mark.parametrize("patience", [1, 3, 8])
def test_plateau_and_early_stopping_are_those_of_keras(losses, patience):
    keras = pytest.importorskip("keras")
    model = Model(keras)
    plateau = keras.callbacks.ReduceLROnPlateau(
        factor=0.5, patience=patience, min_delta=1e-4, min_lr=1e-2
    )
    stopping = keras.callbacks.EarlyStopping(patience=patience + 3, restore_best_weights=True)
    stopping.monitor_op = np.less
    expected = []
    for callback in (plateau, stopping):
        callback.set_model(model)
        callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        model.epoch = epoch + 1
        expected.append(float(model.optimizer.learning_rate.numpy()))
        for callback in (plateau, stopping):
            callback.on_epoch_end(epoch, {"val_loss": loss})
        if model.stop_training:
            break
    stopping.on_train_end()
    ours = Callbacks(Plateau(patience=patience, min_rate=1e-2), EarlyStopping(patience + 3))
    rates, state = run(ours, losses)
    assert rates == pytest.approx(expected, rel=1e-6)
    assert bool(state.stopped_epoch) == model.stop_training
    assert state.lowest_loss_epoch == model.restored


@pytest.mark.framework
@pytest.mark.parametrize("losses", SEQUENCES[:4])
def test_a_patience_is_one_more_than_that_of_pytorch(losses):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=1e-4, threshold_mode="abs", min_lr=1e-6
    )
    expected = []
    for loss in losses:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(loss)
    rates, _ = run(Callbacks(Plateau(patience=3)), losses)
    assert rates == pytest.approx(expected)


def test_the_first_epoch_of_the_best_accuracy_is_kept():
    _, state = run(Callbacks(), [1.0] * 4, [0.5, 0.9, 0.7, 0.9])
    assert (state.best_accuracy, state.best_accuracy_epoch) == (0.9, 2)


def test_without_callbacks_nothing_stops_or_reduces():
    rates, state = run(Callbacks(), [1.0] * 30)
    assert set(rates) == {0.1}
    assert not state.stopped_epoch


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plateau(factor=1.0), "factor must be between 0 and 1"),
        (lambda: Plateau(patience=0), "patience must be 1 or more"),
        (lambda: Plateau(min_rate=-1.0), "min_rate must be 0 or more"),
        (lambda: EarlyStopping(0), "patience must be 1 or more"),
    ],
)
def test_invalid_values_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
