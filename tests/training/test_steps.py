"""Single steps: both frameworks agree where they should, and every change is seen."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import Future

import numpy as np
import pytest

from parity.errors import InputError, TrainingError
from parity.numerics.losses import LOSSES, measure_losses
from parity.training import steps
from parity.training.definition import BLOCK, Update
from parity.training.optimizers import Optimizer
from parity.training.run_verification import choose_steps, read_results, write_results
from parity.training.steps import (
    LIMIT,
    OtherChoices,
    PartError,
    StepCause,
    StepComparison,
    StepRecord,
    StepTerms,
    compare_step,
)
from parity.training.verification import PendingFloors, VerifiedStep
from parity.training.wording import describe_verification, tabulate_verification

LABELS = np.array([0, 1, 1])
LOGITS = np.array([[1.0, 0.0], [0.5, 0.25], [-1.0, 2.0]])
SGD = Optimizer("sgd", 0.5)
LAYERS = {"a": "first", "n.running_mean": "norm", "n.running_var": "norm", "b": "last"}


def terms(optimizer=SGD, **changes):
    found = StepTerms(
        1, optimizer, optimizer.learning_rate, np.zeros((3, 1, 2, 2)), LABELS, frozenset(),
        "cross-entropy", 0.0, tuple(LAYERS), LAYERS, 6.0,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def record(correct=2, statistics=None, **changes):
    """A step of `SGD`: weights fall by half their gradient."""
    values = {
        "loss": np.array(measure_losses(LOGITS, LABELS).mean()), "logits": LOGITS,
        "gradient/a": np.ones(3), "gradient/b": np.ones(2),
        "weight/a": np.full(3, 1.5), "weight/b": np.full(2, 2.5),
        "weight/n.running_mean": np.ones(2), "weight/n.running_var": np.ones(2),
    }  # fmt: skip
    changes = {key.replace("__", "/"): value for key, value in changes.items()}
    return StepRecord({**values, **changes}, correct, statistics or {})


BEFORE = {
    "weight/a": np.full(3, 2.0), "weight/b": np.full(2, 3.0),
    "weight/n.running_mean": np.full(2, 0.5), "weight/n.running_var": np.full(2, 0.5),
}  # fmt: skip


def compare(expected, actual, **options):
    return compare_step(
        terms(), "torch", before=BEFORE, expected=expected, actual=actual, **options
    )


def first(actual, expected=None, **options):
    found = compare(expected or record(), actual, **options).first_difference()
    return None if found is None else (found.kind, found.tensor)


def test_equal_steps_agree_and_the_first_difference_is_that_of_the_computation():
    assert compare(record(), record()).agrees
    both = record(gradient__a=np.zeros(3), gradient__b=np.zeros(2))
    assert first(both) == ("gradient", "b")
    assert first(record(logits=LOGITS + np.array([0, 1e-9]))) == ("samples", "")
    assert first(record(loss=np.array(1.0))) == ("loss", "")
    assert first(record(correct=1)) == ("metric", "accuracy")
    wrong = record(**{"weight/n.running_var": np.zeros(2)})
    assert first(wrong) == ("statistics", "n.running_var")
    assert first(record(weight__a=np.full(3, 1.5 + 1e-9))) == ("update", "a")


def test_the_update_is_judged_from_the_subjects_own_gradients():
    """A wrong gradient is one difference; the right step along it is not another."""
    actual = record(gradient__a=np.full(3, 2.0), weight__a=np.full(3, 1.0))
    failed = [(e.kind, e.tensor) for e in compare(record(), actual).errors if not e.passes]
    assert failed == [("gradient", "a")]


def test_what_is_missing_or_not_finite_never_agrees():
    values = {k: v for k, v in record().values.items() if k != "gradient/a"}
    without = compare(record(), StepRecord(values, 2, {}))
    assert without.missing == ("gradient/a",)
    assert not without.agrees
    assert without.first_difference().rel_l2 == math.inf
    nan = compare(record(), record(gradient__a=np.array([1, np.nan, 1])))
    assert nan.first_difference().tensor == "a"
    assert nan.worst().tensor == "a"
    assert not nan.agrees
    assert not StepComparison(1, ()).agrees
    other_shape = compare(record(), record(gradient__a=np.ones(4)[:2]))
    assert other_shape.first_difference().rel_l2 == math.inf


def test_a_weight_that_should_stay_may_not_move():
    """One without a gradient in the subject."""
    values = {k: v for k, v in record().values.items() if k != "gradient/a"}
    moved = compare(record(), StepRecord(values, 2, {}))
    assert ("update", "a") in [(e.kind, e.tensor) for e in moved.errors if not e.passes]
    stays = StepRecord({**values, "weight/a": BEFORE["weight/a"]}, 2, {})
    failed = [(e.kind, e.tensor) for e in compare(record(), stays).errors if not e.passes]
    assert failed == [("gradient", "a")]


def test_an_unbiased_variance_is_converted_to_the_biased_one():
    """v ← 0.9 v + 0.1 s², once with s² / (n − 1) and once with s² / n."""
    before = BEFORE["weight/n.running_var"]
    unbiased = 0.9 * before + 0.1 * np.full(2, 4.0)
    biased = 0.9 * before + 0.1 * np.full(2, 4.0) * 7 / 8
    told = {"weight/n.running_var": unbiased, "biased/n.running_var": biased}
    expected = record(**told)
    assert compare(expected, record(**{"weight/n.running_var": biased})).agrees
    assert not compare(expected, record(**{"weight/n.running_var": unbiased})).agrees
    assert compare(expected, record(**told)).agrees


def test_a_gradient_of_rounding_alone_is_measured_by_its_layer():
    """The bias before a batch-norm: the frameworks' roundings have nothing in common."""
    layers = {**LAYERS, "b": "first"}
    small = [record(gradient__b=np.array([x, -x]), weight__b=np.full(2, 3.0) - [x / 2, -x / 2])
             for x in (1e-17, -3e-17)]  # fmt: skip
    together = compare_step(
        terms(layers=layers), "torch", before=BEFORE, expected=small[0], actual=small[1]
    )
    assert together.agrees
    assert not compare(*small).agrees


FLOORS = {"samples": 1e-7, "gradient/a": 1e-6, "gradient/b": 1e-7,
          "weight/n.running_mean": 1e-7, "weight/n.running_var": 1e-7}  # fmt: skip


def test_float32_is_judged_in_floors():
    for size, passes in ((3.9e-6, True), (4.1e-6, False)):
        value = 1 + size
        actual = record(gradient__a=np.full(3, value), weight__a=np.full(3, 2 - value / 2))
        found = compare(record(), actual, floors=FLOORS)
        assert found.precision == "float32"
        assert found.agrees is passes
        assert found.worst("gradient").x_floor == pytest.approx(size / 1e-6)


def test_a_small_loss_is_rounded_as_its_logits_are():
    """Its log-sum-exp is 20, and the loss 2e-9: a float32 framework may well report 0."""
    logits = np.array([[20.0, 0.0], [0.0, 20.0], [0.0, 20.0]])
    expected = record(
        correct=3, logits=logits, loss=np.array(measure_losses(logits, LABELS).mean())
    )
    actual = record(correct=3, logits=logits, loss=np.array(0.0))
    assert compare(expected, actual, floors=FLOORS).agrees
    assert not compare(expected, actual).agrees
    far = record(correct=3, logits=logits, loss=np.array(1e-5))
    assert compare(expected, far, floors=FLOORS).first_difference().kind == "loss"


# The definition ----------------------------------------------------------------------------------


def test_keras_rounds_momentum_and_beta_to_float32():
    momentum, rate = Optimizer("sgd", 0.1, momentum=0.9).round_as("keras", 1, 0.1)
    assert momentum.momentum == float(np.float32(0.9))
    assert rate == 0.1
    adamw, rate = Optimizer("adamw", 1e-3, weight_decay=0.1).round_as("keras", 1, 1e-3)
    assert 6e-6 < abs(rate / 1e-3 - 1) < 7e-6
    assert adamw.weight_decay * rate == pytest.approx(float(np.float32(0.1)) * 1e-3, rel=1e-15)
    assert adamw.round_as("torch", 1, 1e-3) == (adamw, 1e-3)


def test_an_update_without_a_slot_starts_at_zero():
    optimizer = Optimizer("sgd", 0.1, momentum=0.5, l2=0.1)
    before = {"weight/a": np.array([2.0])}
    update = Update(optimizer, 1, 0.1, {"a": np.array([1.0])}, before, frozenset({"a"}))
    assert update.take() == {"slot/momentum/a": 1.2, "weight/a": 2.0 - 0.1 * 1.2}
    later = update.replace(before={**before, "slot/momentum/a": np.array([2.0])})
    assert later.take()["slot/momentum/a"] == pytest.approx(2.2)
    assert later.replace(momentum=0.0, decayed=frozenset()).take() == {"weight/a": 1.9}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_that_of_its_formula(loss):
    outputs = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    found = measure_losses(outputs, np.array([2, 0]), loss=loss)
    if loss == "mean-squared-error":
        wanted = [(0.04 + 0.09 + 0.25) / 3, (0.16 + 0.09 + 0.01) / 3]
    elif loss == "cross-entropy":
        wanted = [-math.log(math.exp(x[y]) / np.exp(x).sum()) for x, y in zip(outputs, (2, 0))]  # noqa: B905
    else:
        wanted = [-math.log(0.5), -math.log(0.6)]
    assert found == pytest.approx(wanted, rel=1e-12)


def test_smoothed_labels_are_shared_over_all_classes():
    outputs = np.array([[0.2, 0.8]])
    found = measure_losses(outputs, np.array([1]), loss=LOSSES[1], label_smoothing=0.1)
    assert found == pytest.approx([-(0.95 * math.log(0.8) + 0.05 * math.log(0.2))])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("clip", [{}, {"clip_value": 0.5}, {"clip_norm": 0.1}])
def test_an_update_in_blocks_is_the_whole_one(name, clip):
    """The second weight has more values than a block, the third has none of its own kind."""
    options = {"sgd": {"momentum": 0.9, "l2": 1e-2}, "adam": {}, "adamw": {"weight_decay": 0.1},
               "rmsprop": {"momentum": 0.9}}[name]  # fmt: skip
    random = np.random.default_rng(0)
    shapes = {"a": (), "b": (3, BLOCK), "c": (7,)}
    gradients = {n: random.standard_normal(shape) for n, shape in shapes.items()}
    before = {f"weight/{n}": random.random(shape, np.float32) for n, shape in shapes.items()}
    update = Update(Optimizer(name, 1e-2, **options, **clip), 1, 1e-2, gradients, before, {"b"})
    for step in (1, 2):
        whole = dataclasses.replace(update, number=step, before=before).take()
        found = {key: np.full(value.size, np.nan) for key, value in whole.items()}
        for _, place, block in dataclasses.replace(
            update, number=step, before=before
        ).take_in_blocks():
            for key, value in block.items():
                found[key][place] = value
        for key, value in whole.items():
            assert np.array_equal(found[key].reshape(value.shape), value), key
        before = whole


# A run's steps -----------------------------------------------------------------------------------


def test_the_steps_are_the_first_three_and_a_few_later_ones():
    assert choose_steps(10, 4) == {1, 2, 3, 10, 11, 20, 40}
    assert choose_steps(2, 1) == {1, 2}
    assert choose_steps(3, 2, every=1) == set(range(1, 7))
    assert choose_steps(5, 2, every=4) == {1, 5, 9}


def build_step(number=1, *, error=1e-14, causes=(), choices=None):
    parts = [PartError(kind, "fc.bias", 1e-14) for kind in ("samples", "loss", "gradient")]
    semantics = StepComparison(number, (*parts, PartError("update", "fc.bias", error)))
    numerics = dataclasses.replace(semantics, precision="float32", choices=choices)
    return VerifiedStep(number, semantics, numerics, tuple(causes))


def test_results_are_read_as_they_were_written(tmp_path):
    cause = StepCause("epsilon", "ε is 1e-8, not 1e-7", "set ε", 1e-3, 1e-14)
    steps = (
        build_step(1, choices=OtherChoices(("relu1",), 2, 0.5)),
        build_step(2, error=1e-3, causes=[cause]),
    )
    path = tmp_path / "verification.json"
    assert read_results(path) == ()
    write_results(path, steps)
    assert read_results(path) == steps


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"schema": "parity.verification/1", "st', "JSONDecodeError"),
        (
            '{"schema": "parity.verification/9", "steps": []}',
            "its schema is 'parity.verification/9'",
        ),
        ('{"schema": "parity.verification/1", "steps": [{}]}', "KeyError: 'numerics'"),
        ("[]", "TypeError"),
    ],
)
def test_results_of_another_form_are_refused_in_one_line(text, found, tmp_path):
    path = tmp_path / "verification.json"
    path.write_text(text)
    with pytest.raises(InputError, match="delete it to compare the steps again") as error:
        read_results(path)
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_the_words_name_the_first_difference_and_its_cause():
    assert next(describe_verification([build_step()])).startswith("parity: steps 1 are the same")
    cause = StepCause("epsilon", "ε is 1e-8, not 1e-7", "set ε to 1e-7", 1e-3, 1e-14)
    lines = list(describe_verification([build_step(), build_step(2, error=1e-3, causes=[cause])]))
    assert lines[0].startswith("divergence: step 2 differs in float64, first update fc.bias")
    assert "cause: epsilon: ε is 1e-8, not 1e-7" in lines[1]
    assert lines[2] == "remedy: set ε to 1e-7"
    unexplained = list(describe_verification([build_step(error=1e-3)]))
    assert unexplained[-1] == "cause: none of the known ones explains this step"
    _, rows = tabulate_verification([build_step(choices=OtherChoices(("relu1",), 2, 0.5))])
    assert rows[1][-1] == "agrees; 2 units at a kink or tie"
    assert LIMIT == 1e-10


def test_a_large_ratio_has_the_format_of_all_large_ratios():
    """Two places of what is below 10, and 1.9e+05 as 1.9e5."""
    step = build_undetermined_step()
    errors = tuple(dataclasses.replace(each, rel_l2=7.6e-2) for each in step.numerics.errors)
    large = dataclasses.replace(
        step, numerics=dataclasses.replace(step.numerics, errors=errors, kinks=())
    )
    (_, small), (_, big) = tabulate_verification([step])[1], tabulate_verification([large])[1]
    assert "1.00×" in small
    assert "7.6e5×" in big


# Dropouts and hidden kinks -----------------------------------------------------------------------


def test_dropouts_are_compared_by_their_rates_and_sizes():
    """The step itself is taken without them."""
    one, other = np.array([[0.5, 64.0]]), np.array([[0.3, 64.0]])
    assert compare(record(dropout=one), record(dropout=one)).agrees
    found = compare(record(dropout=one), record(dropout=other))
    assert not found.agrees
    assert found.missing == ()
    assert (found.first_difference().kind, found.first_difference().rel_l2) == ("dropout", 0.2)
    assert first(record(dropout=one)) == ("dropout", "1")
    assert first(record(dropout=np.array([[0.5, 32.0]])), record(dropout=one)) == ("dropout", "1")
    both = np.concatenate([one, other])
    assert first(record(dropout=both), record(dropout=one)) == ("dropout", "2")


def test_a_column_of_dropouts_is_there_where_a_step_has_some():
    assert "dropout" not in tabulate_verification([build_step()])[0]
    with_one = dataclasses.replace(
        build_step(), semantics=compare(*[record(dropout=np.array([[0.5, 64.0]]))] * 2)
    )
    columns, rows = tabulate_verification([with_one])
    assert rows[0][columns.index("dropout")] == "0.0e+00"


def build_undetermined_step(number=1, *, kinks=("features.relu6", "head.relu6")):
    semantics = build_step(number).semantics
    parts = [PartError(kind, "fc.bias", 1e-7, 4e-7) for kind in ("samples", "loss", "update")]
    errors = (*parts, PartError("gradient", "fc.weight", 4e-5, 4e-7))
    numerics = StepComparison(number, errors, precision="float32", kinks=tuple(kinks))
    return VerifiedStep(number, semantics, numerics)


def test_gradients_that_a_hidden_kink_may_explain_are_neither_the_same_nor_another(tmp_path):
    step = build_undetermined_step()
    assert step.is_undetermined
    assert not step.agrees
    assert not build_undetermined_step(kinks=()).is_undetermined
    assert not dataclasses.replace(step, semantics=build_step(error=1e-3).semantics).is_undetermined
    _, rows = tabulate_verification([step])
    assert rows[1][-1] == "cannot be told from a kink"
    (text,) = describe_verification([build_step(2), step])
    assert text.startswith("could not tell: step 1 agrees in float64")
    assert "gradient fc.weight is 400 floors away" in text
    assert "a kink of features.relu6 and 1 more: its choices cannot be seen" in text
    # A step that differs otherwise is a divergence all the same.
    assert next(describe_verification([step, build_step(2, error=1e-3)])).startswith("divergence")
    write_results(tmp_path / "verification.json", [step])
    assert read_results(tmp_path / "verification.json") == (step,)


def test_floors_that_are_being_measured_are_read_last(monkeypatch):
    """Everything else of a step is measured while they are; a failure to measure them is raised."""
    events, pending = [], Future()

    class Floors(PendingFloors):
        def __getitem__(self, name):
            events.append(name)
            return super().__getitem__(name)

    measure = steps.measure_norms

    def note_and_measure(**arrays):
        events.append("measured")
        return measure(**arrays)

    monkeypatch.setattr(steps, "measure_norms", note_and_measure)
    pending.set_result(FLOORS)
    lazy = compare(record(), record(), floors=Floors(pending))
    assert lazy == compare(record(), record(), floors=FLOORS)
    first_read = next(place for place, event in enumerate(events) if event != "measured")
    assert events[:first_read] == ["measured"] * len(record().gradients())
    failed = Future()
    failed.set_exception(TrainingError("no floors"))
    with pytest.raises(TrainingError, match="no floors"):
        compare(record(), record(), floors=PendingFloors(failed))
