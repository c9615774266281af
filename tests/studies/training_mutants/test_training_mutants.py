"""A small set of the study: faults of PyTorch subjects, correct trainings, kinks."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def bench():
    from tests.studies.training_mutants.bench import Bench

    return Bench()


def list_torch_faults():
    """The faults of PyTorch subjects, on the first of their models alone: the study has the others.

    ResNet-18 is left out.
    """
    import dataclasses

    from tests.studies.training_mutants.faults import TORCH, list_faults

    return [
        dataclasses.replace(fault, on=fault.on[:1], subjects=(TORCH,))
        for fault in list_faults()
        if TORCH in fault.subjects and fault.on[0][0] != "resnet18"
    ]


def check_faults(bench, faults):
    from tests.studies.training_mutants.counting import run_mutants

    outcomes = list(run_mutants(bench, faults))
    assert len(outcomes) == len(faults)
    assert [each.problem for each in outcomes if each.problem] == []
    assert [each.label for each in outcomes if not each.located] == []
    assert [(each.label, each.causes) for each in outcomes if not each.named] == []


def test_some_faults_are_detected_located_and_named(bench):
    """One in six: a fault of the update, of gradients, of statistics and of the data among them."""
    faults = [fault for fault in list_torch_faults() if fault.accumulate == 1][::6]
    assert {fault.kinds[0] for fault in faults} >= {"update", "slot", "gradient", "samples"}
    check_faults(bench, faults)


@pytest.mark.slow
def test_every_fault_of_the_small_models_is_detected_located_and_named(bench):
    faults = list_torch_faults()
    check_faults(bench, faults)
    assert len({fault.cause for fault in faults}) >= 25


@pytest.mark.parametrize(
    "subject", ["torch-subject", pytest.param("keras", marks=pytest.mark.slow)]
)
def test_faults_of_micro_batches_are_named(bench, subject):
    """Each fault of micro-batches; sums are planted where the framework adds the gradients up."""
    import dataclasses

    from tests.studies.training_mutants.faults import list_faults

    faults = [
        dataclasses.replace(fault, on=fault.on[:1])
        for fault in list_faults()
        if fault.accumulate > 1 and subject in fault.subjects
    ]
    assert len(faults) == (4 if subject == "torch-subject" else 1)
    check_faults(bench, faults)


def test_a_step_of_unequal_micro_batches_raises_no_alarm(bench):
    """Batch-norm sees two micro-batches, of 16 and 11 images, in both frameworks."""
    from tests.studies.training_mutants.bench import OPTIMIZERS, Task

    task = Task("cnn", OPTIMIZERS["adam"], steps_per_epoch=2, accumulate=3)
    (step,) = bench.run(task, 1, numerics=True)
    assert step.agrees
    assert {"statistics", "gradient", "update"} <= {e.kind for e in step.semantics.errors}


def test_every_cause_has_a_fault_that_it_explains():
    import inspect

    from parity.explain.training import causes
    from tests.studies.training_mutants.faults import list_faults

    names = {fault.cause for fault in list_faults()}
    for module in causes.modules():
        source = inspect.getsource(module)
        assert any(f'"{name}"' in source for name in names), module.__name__


def check_correct_trainings(bench, every):
    from tests.studies.training_mutants.counting import list_clean_tasks, run_clean

    tasks = [
        (task, count)
        for task, count in list_clean_tasks(2, resnet=False)
        if task.optimizer.name in ("sgd", "adamw") and not task.optimizer.l2
    ][::every]
    clean = list(run_clean(bench, tasks))
    assert [each.alarm for each in clean if each.alarm] == []
    assert sum(each.steps for each in clean) == 3 * len(tasks)
    return clean


def test_two_correct_trainings_raise_no_alarm(bench):
    clean = check_correct_trainings(bench, 10)
    assert {each.task.model for each in clean} == {"mlp", "cnn"}


@pytest.mark.slow
def test_correct_trainings_raise_no_alarm(bench):
    assert len(check_correct_trainings(bench, 3)) >= 4


def test_an_unknown_fault_is_not_explained(bench):
    """Gradients with a pattern that no cause has."""
    import torch

    from tests.studies.training_mutants.bench import OPTIMIZERS, Task
    from tests.studies.training_mutants.faults import TORCH, gradients

    def ripple(parameters):
        for parameter in parameters.values():
            parameter.grad.add_(1e-3 * torch.sin(100 * parameter))

    task = Task("mlp", OPTIMIZERS["adam"])
    (step,) = bench.run(task, 1, subject=TORCH, patch=gradients(ripple))
    assert not step.agrees
    assert step.semantics.first_difference().kind == "gradient"
    assert step.causes == ()


@pytest.mark.parametrize("is_near", [True, False])
def test_a_unit_on_the_other_side_is_excused_only_as_near_to_the_kink_as_rounding(
    is_near, bench, monkeypatch
):
    """One unit of the first ReLU, on the other side in the subject's float32 step alone."""
    import numpy as np
    import torch

    from tests.studies.training_mutants.bench import OPTIMIZERS, Task
    from tests.studies.training_mutants.faults import TORCH

    task, unit = Task("mlp", OPTIMIZERS["sgd"]), (3, 5)
    weights = bench.draw("mlp", 0)
    images = bench.reader(task).read(1, 0).images.reshape(16, 64).astype(np.float64)
    z = float(images[unit[0]] @ weights["fc1.weight"][unit[1]] + weights["fc1.bias"][unit[1]])
    weights["fc1.bias"][unit[1]] -= np.float32(z if is_near else z - 0.01)
    monkeypatch.setattr(bench, "draw", lambda model, seed: weights)

    def patch(trainer):
        if next(trainer._model.parameters()).dtype == torch.float64:
            return
        layer, read = trainer._model.relu1, trainer.read_choices
        flipped = {}

        def forward(x):
            exact = images @ weights["fc1.weight"].T.astype(np.float64) + weights["fc1.bias"]
            mask = torch.from_numpy(exact > 0)
            mask[unit] = ~mask[unit]
            flipped["relu1"] = mask.numpy()
            return x * mask

        layer.forward = forward
        trainer.read_choices = lambda: {**read(), **flipped}

    (step,) = bench.run(task, 1, subject=TORCH, patch=patch, numerics=True)
    assert step.semantics.agrees
    assert step.numerics.agrees is is_near
    if is_near:
        assert step.numerics.choices.rows == ("relu1",)
        assert step.numerics.choices.count == 1
        assert step.numerics.choices.x_floor <= 4
    else:
        assert step.numerics.choices is None
