"""Steps in mixed precision, judged in that: correct ones, and faults that only it has."""

from __future__ import annotations

import dataclasses

import pytest

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def bench():
    from tests.studies.training_mutants.bench import Bench

    return Bench()


def build_task(model="cnn", optimizer="adam", **options):
    from tests.studies.training_mutants.bench import OPTIMIZERS, Task

    return Task(model, OPTIMIZERS[optimizer], **options)


@pytest.mark.parametrize(
    ("subject", "model", "precision", "accumulate"),
    [
        ("keras", "mlp", "bfloat16", 1),
        ("torch-subject", "cnn", "float16", 2),
        pytest.param("keras", "cnn", "bfloat16", 1, marks=pytest.mark.slow),
        pytest.param("keras", "mlp", "float16", 1, marks=pytest.mark.slow),
        pytest.param("keras", "cnn", "float16", 2, marks=pytest.mark.slow),
    ],
)
def test_a_correct_step_raises_no_alarm(subject, model, precision, accumulate, bench):
    task = build_task(model, precision=precision, accumulate=accumulate)
    for step in bench.run(task, 2, subject=subject, numerics=True):
        assert step.agrees
        assert step.mixed.precision == precision
        kinds = {error.kind for error in step.numerics.errors}
        assert {"samples", "gradient", "slot", "update"} <= kinds
        assert {error.kind for error in step.mixed.errors} == kinds
        # It was taken in that precision: the losses are no nearer than its rounding.
        (samples,) = [e for e in step.mixed.errors if e.kind == "samples"]
        (narrow,) = [e for e in step.numerics.errors if e.kind == "samples"]
        assert samples.rel_l2 > 30 * narrow.rel_l2


def test_a_run_in_float32_has_no_comparison_in_mixed_precision(bench):
    (step,) = bench.run(build_task(), 1, subject="torch-subject", numerics=True)
    assert step.mixed is None
    assert len(step.comparisons) == 2


def find_fault(bench, patch, precision="bfloat16"):
    """The first part that differs, of a fault that float64 and float32 cannot have."""
    task = build_task(precision=precision)
    (step,) = bench.run(task, 1, subject="torch-subject", numerics=True, patch=patch)
    assert step.semantics.agrees
    assert step.numerics.agrees
    assert not step.mixed.agrees
    assert not step.agrees
    assert not step.is_undetermined
    assert step.failing is step.mixed
    return step.mixed.first_difference()


def in_mixed_precision(trainer):
    return trainer._low_dtype is not None


def test_weights_that_are_not_kept_in_float32_are_seen(bench):
    import torch

    def patch(trainer):
        step = trainer._optimizer.step

        def round_weights(*args, **options):
            step(*args, **options)
            if in_mixed_precision(trainer):
                with torch.no_grad():
                    for parameter in trainer._parameters.values():
                        parameter.copy_(parameter.bfloat16())

        trainer._optimizer.step = round_weights

    assert find_fault(bench, patch).kind == "update"


def test_gradients_that_keep_the_scale_of_the_loss_are_seen(bench):
    def patch(trainer):
        # `unscale_` divides by the scale, and `step` would, if it had not been called.
        if in_mixed_precision(trainer):
            unscale = trainer._scaler.unscale_

            def forget(optimizer):
                unscale(optimizer)
                for parameter in trainer._parameters.values():
                    parameter.grad.mul_(trainer._scaler.get_scale())

            trainer._scaler.unscale_ = forget

    assert find_fault(bench, patch, precision="float16").kind == "gradient"


def test_statistics_that_move_otherwise_are_seen(bench):
    """Batch-norm's momentum, in mixed precision alone."""
    import torch

    def patch(trainer):
        for module in trainer._model.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and in_mixed_precision(trainer):
                module.momentum = 0.2

    assert find_fault(bench, patch).kind == "statistics"


def test_a_difference_in_mixed_precision_alone_is_written_and_worded(bench, tmp_path):
    from parity.training.run_verification import read_results, write_results
    from parity.training.steps import PartError
    from parity.training.wording import describe_verification, tabulate_verification

    (step,) = bench.run(build_task(precision="bfloat16"), 1, subject="torch-subject", numerics=True)
    assert next(iter(describe_verification([step]))).endswith(
        "rounding floors in float32 and bfloat16"
    )
    assert [row[1] for row in tabulate_verification([step])[1]] == [
        "float64", "float32", "bfloat16"
    ]  # fmt: skip
    errors = (*step.mixed.errors, PartError("update", "fc.weight", 1.0, 1e-3))
    wrong = dataclasses.replace(step, mixed=dataclasses.replace(step.mixed, errors=errors))
    assert next(iter(describe_verification([wrong]))) == (
        "divergence: step 1 differs in bfloat16, first update fc.weight, relative L2 1.0e+00"
    )
    write_results(tmp_path / "verification.json", (step, wrong))
    assert read_results(tmp_path / "verification.json") == (step, wrong)
