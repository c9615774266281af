"""Steps in float64: both frameworks agree where they should, and every change is seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from parity.network import architectures
from parity.network import weights as weight_files
from parity.processes.training_requests import Float64StepRequest, StepRequest
from parity.training import initialization
from parity.training.optimizers import Optimizer, trainer_request
from parity.training.steps import LIMIT, compare_step, round_as_keras

pytestmark = pytest.mark.framework

SPEC = architectures.get("resnet18", classes=10, image_size=(32, 32), channels=1)
TABLE = SPEC.table()
ORDER = [weight.name for _, weight in TABLE.weights()]

OPTIMIZERS = {
    "sgd": Optimizer("sgd", 0.05),
    "momentum": Optimizer("sgd", 0.05, momentum=0.9),
    "nesterov": Optimizer("sgd", 0.05, momentum=0.9, nesterov=True),
    "adam": Optimizer("adam", 1e-3),
    "adamw": Optimizer("adamw", 1e-3, weight_decay=0.01),
    "rmsprop": Optimizer("rmsprop", 1e-3, momentum=0.9),
    "clip": Optimizer("sgd", 0.05, clip_norm=0.5),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    from parity.runtimes.keras.runtime import Runtime as KerasRuntime
    from parity.runtimes.torch.runtime import Runtime as TorchRuntime

    folder = tmp_path_factory.mktemp("steps")
    random = np.random.default_rng(0)
    np.save(folder / "images.npy", random.random((8, 1, 32, 32), np.float32))
    np.save(folder / "labels.npy", random.integers(0, 10, 8))
    values = initialization.draw(SPEC, "he-normal", seed=0)
    runtimes = {"keras": KerasRuntime(), "torch": TorchRuntime()}
    for runtime in runtimes.values():
        runtime.load(spec=SPEC.to_json())
        runtime.write_weights(values)
    return folder, runtimes, values


def take_steps(bench, optimizer, count, *, keras_optimizer=None, keras_rate=None, map_epsilon=True,
               model_rounding=True, **options):  # fmt: skip
    """Compare `count` steps, each from the reference's state; the subject may differ."""
    folder, runtimes, values = bench
    state = {f"weight/{name}": value.astype(np.float64) for name, value in values.items()}
    comparisons = []
    for number in range(1, count + 1):
        weight_files.save(folder / "state.safetensors", state)
        found, statistics = {}, {}
        for side in ("torch", "keras"):
            own, rate = optimizer, optimizer.learning_rate
            if side == "keras":
                own, rate = keras_optimizer or optimizer, keras_rate or rate
            elif model_rounding:
                own, rate = round_as_keras(optimizer, number, rate)
            epsilon = own.epsilon_at(side, number)
            if side == "torch" and not map_epsilon:
                epsilon = own.epsilon
            request = Float64StepRequest(
                trainer_request(own, side, TABLE, **(options if side == "keras" else {})),
                StepRequest(str(folder / "images.npy"), str(folder / "labels.npy"), rate, epsilon),
                str(folder / "state.safetensors"),
                number,
                str(folder / f"{side}.safetensors"),
            )
            answer = runtimes[side].step_float64(**request.to_json())
            found[side] = safetensors.numpy.load_file(folder / f"{side}.safetensors")
            statistics = answer["statistics"] or statistics
        comparisons.append(
            compare_step(
                step=number, before=state, expected=found["torch"], actual=found["keras"],
                statistics=statistics, order=ORDER,
            )
        )  # fmt: skip
        state = {
            name: value
            for name, value in found["torch"].items()
            if name.startswith(("weight/", "slot/"))
        }
    return comparisons


def some(names, quick):
    """The names as parameters; those that are not quick are slow: each compiles a step."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", some(OPTIMIZERS, ["momentum", "adam"]))
def test_the_frameworks_take_the_same_steps(name, bench):
    comparisons = take_steps(bench, OPTIMIZERS[name], 2)
    worst = [(c.step, kind, c.worst(kind)) for c in comparisons
             for kind in ("loss", "gradient", "statistics", "slot", "update")]  # fmt: skip
    assert all(comparison.agrees for comparison in comparisons), worst
    kinds = {error.kind for error in comparisons[0].errors}
    assert {"loss", "gradient", "statistics", "update"} <= kinds
    assert max(comparison.worst().rel_l2 for comparison in comparisons) < LIMIT


ADAM, MOMENTUM = OPTIMIZERS["adam"], OPTIMIZERS["momentum"]

FAULTS = {
    "learning rate off by 1e-6": (
        MOMENTUM, {"keras_rate": 0.05 * (1 + 1e-6)}, 1, "update"
    ),
    "ε 1.001 times as large": (
        ADAM, {"keras_optimizer": dataclasses.replace(ADAM, epsilon=1.001e-7)}, 1, "update"
    ),
    "PyTorch's ε": (ADAM, {"map_epsilon": False}, 1, "update"),
    "label smoothing": (MOMENTUM, {"label_smoothing": 1e-6}, 1, "loss"),
    "another momentum": (
        MOMENTUM, {"keras_optimizer": dataclasses.replace(MOMENTUM, momentum=0.900001)}, 2, "slot"
    ),
    "no Nesterov": (
        OPTIMIZERS["nesterov"], {"keras_optimizer": MOMENTUM}, 1, "update"
    ),
    "decay of biases and norms": (
        OPTIMIZERS["adamw"],
        {"keras_optimizer": dataclasses.replace(OPTIMIZERS["adamw"], decay_all=True)},
        1, "update",
    ),
    "Keras's rounding of β, not modelled": (ADAM, {"model_rounding": False}, 1, "update"),
}  # fmt: skip


@pytest.mark.parametrize("fault", some(FAULTS, ["learning rate off by 1e-6", "PyTorch's ε"]))
def test_a_fault_is_seen_in_the_first_step_in_which_it_acts(fault, bench):
    optimizer, change, step, kind = FAULTS[fault]
    comparisons = take_steps(bench, optimizer, step, **change)
    assert all(comparison.agrees for comparison in comparisons[:-1])
    difference = comparisons[-1].first_difference()
    assert not comparisons[-1].agrees
    assert difference.kind == kind
    assert difference.rel_l2 > 100 * LIMIT


def toy(**changes):
    values = {
        "loss": np.array(1.0), "gradient/a": np.ones(3), "gradient/b": np.ones(2),
        "weight/a": np.full(3, 2.0), "weight/b": np.full(2, 3.0),
        "weight/n.running_var": np.ones(2),
    }  # fmt: skip
    return {**values, **changes}


BEFORE = {name: value - 0.5 for name, value in toy().items() if name.startswith("weight/")}


def compare(expected, actual, statistics=None):
    return compare_step(
        step=1, before=BEFORE, expected=expected, actual=actual, statistics=statistics or {},
        order=["a", "n.running_var", "b"],
    )  # fmt: skip


def test_the_first_difference_is_that_of_the_computation():
    assert compare(toy(), toy()).agrees
    both = toy(**{"gradient/a": np.zeros(3), "gradient/b": np.zeros(2)})
    assert compare(toy(), both).first_difference().tensor == "b"
    statistic = compare(toy(), toy(**{"weight/n.running_var": np.zeros(2)})).first_difference()
    assert (statistic.kind, statistic.tensor) == ("statistics", "n.running_var")


def test_what_is_missing_or_not_finite_never_agrees():
    without = {name: value for name, value in toy().items() if name != "gradient/a"}
    assert compare(toy(), without).missing == ("gradient/a",)
    assert not compare(toy(), without).agrees
    assert not compare({}, {}).agrees
    nan = compare(toy(), toy(**{"gradient/a": np.array([1, np.nan, 1])}))
    assert nan.first_difference().tensor == "a"
    assert not nan.agrees


def test_an_unbiased_variance_is_converted_to_the_biased_one():
    """v ← 0.9 v + 0.1 s², once with s² / (n − 1) and once with s² / n."""
    before = BEFORE["weight/n.running_var"]
    unbiased = 0.9 * before + 0.1 * np.full(2, 4.0)
    biased = 0.9 * before + 0.1 * np.full(2, 4.0) * 7 / 8
    update = {"n.running_var": {"keep": 0.9, "count": 8, "unbiased": True}}
    expected = toy(**{"weight/n.running_var": unbiased})
    assert compare(expected, toy(**{"weight/n.running_var": biased}), update).agrees
    assert not compare(expected, toy(**{"weight/n.running_var": unbiased}), update).agrees
