"""Schedules: the rates of PyTorch's and Keras's own, step by step."""

from __future__ import annotations

import itertools
import math

import pytest

from parity.errors import UsageError
from parity.training.schedules import Schedule

BASE, STEPS, EPOCHS = 0.1, 7, 6


def rates(schedule):
    return [
        schedule.rate_at(step, base=BASE, steps_per_epoch=STEPS, epochs=EPOCHS)
        for step in range(STEPS * EPOCHS)
    ]


def test_constant_is_constant():
    assert set(rates(Schedule())) == {BASE}


@pytest.mark.framework
def test_step_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], BASE)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.3)
    expected = []
    for _ in range(EPOCHS):
        expected += [optimizer.param_groups[0]["lr"]] * STEPS
        optimizer.step()
        scheduler.step()
    assert rates(Schedule("step", step_epochs=2, factor=0.3)) == pytest.approx(expected)


@pytest.mark.framework
def test_cosine_is_that_of_pytorch_and_of_keras():
    torch, keras = pytest.importorskip("torch"), pytest.importorskip("keras")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], BASE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS, eta_min=1e-3)
    expected = []
    for _ in range(EPOCHS * STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    found = rates(Schedule("cosine", minimum=1e-3))
    assert found == pytest.approx(expected)
    decay = keras.optimizers.schedules.CosineDecay(BASE, EPOCHS * STEPS, alpha=1e-3 / BASE)
    in_float32 = [float(decay(step)) for step in range(len(found))]
    assert found == pytest.approx(in_float32, rel=1e-4)


@pytest.mark.framework
def test_the_warm_up_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], BASE)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 5, total_iters=4)
    expected = []
    for _ in range(EPOCHS * STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(Schedule(warmup_steps=5)) == pytest.approx(expected)


def test_a_cosine_starts_after_the_warm_up():
    found = rates(Schedule("cosine", warmup_steps=10))
    assert found[9] == BASE == found[10]
    assert found[-1] < 0.01 * BASE
    assert all(later <= sooner for sooner, later in itertools.pairwise(found[10:]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"warmup_steps": -1}, "--warmup-steps"),
        ({"step_epochs": 0}, "--step-epochs"),
        ({"factor": 0.0}, "--factor"),
        ({"minimum": math.nan}, "--minimum-rate"),
    ],
)
def test_invalid_values_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Schedule(**values)
