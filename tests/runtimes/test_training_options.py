"""Steps of several micro-batches, mixed precision and the device, on networks of a few weights."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from parity.errors import RequirementError, WeightError
from parity.network.table import LayerTable
from parity.network.trained_layout import WeightMap
from parity.processes.training_requests import StepRequest
from parity.runtimes.devices import require_weights_on
from parity.training.optimizers import Optimizer, trainer_request

pytestmark = pytest.mark.framework

ADAM = Optimizer("adam", 1e-2, clip_norm=0.5)
MOMENTUM = Optimizer("sgd", 0.05, momentum=0.9)
FRAMEWORKS = ("keras", "torch")


@pytest.fixture(scope="module")
def batches():
    random = np.random.default_rng(0)
    images = random.random((24, 1, 6, 6), np.float32)
    labels = random.integers(0, 3, 24)
    return [(images[i : i + 4], labels[i : i + 4]) for i in range(0, 24, 4)]


def build_keras():
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.3, seed=1, name="drop")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(image, keras.layers.Dense(3, name="fc")(x))


def build_torch():
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip


def start(framework, optimizer=ADAM, **options):
    """A new model and its trainer."""
    request = trainer_request(optimizer, framework, LayerTable(()), seed=3, **options)
    if framework == "keras":
        from parity.runtimes.keras.train import KerasTrainer

        model = build_keras()
        return model, KerasTrainer(model, WeightMap.identity({}), request)
    from parity.runtimes.torch.train import TorchTrainer

    model = build_torch()
    return model, TorchTrainer(model, request)


def start_as(framework, state, **options):
    """A new model's trainer with the state of another's.

    Keras numbers the generators of its dropouts without asking for a name.
    """
    _, trainer = start(framework, **options)
    (own,) = [n for n in trainer.read_state() if "generator" in n]
    trainer.write_state({own if "generator" in n else n: value for n, value in state.items()})
    return trainer


def drive(trainer, framework, optimizer, batches, groups, *, first=0, end=None):
    """Take micro-batches `first` to `end`, which are in groups of these sizes."""
    places = [(number, place, size) for number, size in enumerate(groups) for place in range(size)]
    results = []
    for (images, labels), (number, place, size) in list(zip(batches, places, strict=True))[
        first:end
    ]:
        epsilon = optimizer.step_epsilon(framework, number + 1)
        request = StepRequest(
            "", "", optimizer.learning_rate, epsilon, micro_batch=place, micro_batches=size
        )
        results.append(trainer.step(images, labels, request))
    return results


def assert_equal_bits(actual, expected):
    actual, expected = (
        {re.sub(r"seed_generator_\d+", "seed_generator", n): value for n, value in each.items()}
        for each in (actual, expected)
    )
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert value.dtype == actual[name].dtype, name
        assert value.tobytes() == actual[name].tobytes(), name


def test_a_trainer_of_compared_steps_leaves_the_seeds_of_the_run():
    """A seed would also make TensorFlow optimise every compiled step once more."""
    from parity.runtimes.keras.train import ObservedKerasTrainer

    model, request = build_keras(), trainer_request(ADAM, "keras", LayerTable(()), seed=3)
    before = np.random.get_state()[1].copy()
    ObservedKerasTrainer(model, WeightMap.identity({}), request, "float32")
    assert np.array_equal(np.random.get_state()[1], before)


# Accumulation ------------------------------------------------------------------------------------


def test_keras_fit_with_its_own_accumulation_gives_the_numbers_of_the_driver(batches):
    import keras

    model, trainer = start("keras", MOMENTUM, accumulate=3)
    results = drive(trainer, "keras", MOMENTUM, batches, (3, 3))
    plain = build_keras()
    plain.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images, labels = (np.concatenate(values) for values in zip(*batches, strict=True))
    history = plain.fit(
        images.transpose(0, 2, 3, 1), labels, batch_size=4, shuffle=False, verbose=0
    ).history
    assert history["loss"][0] == pytest.approx(np.mean([r.loss for r in results]), rel=1e-6)
    for own, other in zip(plain.get_weights(), model.get_weights(), strict=True):
        assert own.tobytes() == other.tobytes()


def test_a_plain_pytorch_loop_with_accumulation_gives_the_numbers_of_the_driver(batches):
    import torch

    model, trainer = start("torch", MOMENTUM, accumulate=4)
    results = drive(trainer, "torch", MOMENTUM, batches, (4, 2))
    plain = build_torch().train()
    stock = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(3)
    losses = []
    for begin, size in ((0, 4), (4, 2)):
        stock.zero_grad()
        for images, labels in batches[begin : begin + size]:
            loss = torch.nn.functional.cross_entropy(
                plain(torch.from_numpy(images)), torch.from_numpy(labels)
            )
            (loss / size).backward()
            losses.append(loss.item())
        stock.step()
    assert losses == [result.loss for result in results]
    for own, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("stopped", "precision"),
    [
        pytest.param(2, "float32", marks=pytest.mark.slow),
        (5, "float32"),
        pytest.param(2, "float16", marks=pytest.mark.slow),
    ],
)
def test_a_step_that_was_interrupted_continues_bit_for_bit(framework, stopped, precision, batches):
    """After two of three micro-batches; and after one of the last step's, which has fewer."""
    groups = (3, 1, 2)
    _, trainer = start(framework, accumulate=3, precision=precision)
    drive(trainer, framework, ADAM, batches, groups, end=stopped)
    state = trainer.read_state()
    assert any(name.startswith("accumulated/") for name in state)
    drive(trainer, framework, ADAM, batches, groups, first=stopped)
    assert not any(name.startswith("accumulated/") for name in trainer.read_state())

    again = start_as(framework, state, accumulate=3, precision=precision)
    assert_equal_bits(again.read_state(), state)
    drive(again, framework, ADAM, batches, groups, first=stopped)
    assert_equal_bits(again.read_state(), trainer.read_state())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_state_without_the_gradients_so_far_is_another_trajectory(framework, batches):
    """What the test above compares depends on them."""
    _, trainer = start(framework, accumulate=3)
    drive(trainer, framework, ADAM, batches, (3, 3), end=2)
    state = trainer.read_state()
    kept = {name: value for name, value in state.items() if not name.startswith("accumulated/")}
    again = start_as(framework, kept, accumulate=3)
    for each in (trainer, again):
        drive(each, framework, ADAM, batches, (3, 3), first=2, end=3)
    name = next(n for n in state if n.startswith("weight/") and state[n].ndim == 4)
    assert not np.array_equal(trainer.read_state()[name], again.read_state()[name])


# Mixed precision ---------------------------------------------------------------------------------


def leave_out_dropout(framework, model):
    if framework == "keras":
        model.get_layer("drop").rate = 0.0
    else:
        model[3].p = 0.0


def observe_conv(framework, model, seen):
    """Note the dtype of the convolution's output."""
    if framework == "keras":
        layer = model.get_layer("conv")
        call = layer.call

        def observed(x, *args, **options):
            output = call(x, *args, **options)
            seen.append(output.dtype.name)
            return output

        layer.call = observed
        return
    model[0].register_forward_hook(
        lambda module, inputs, output: seen.append(str(output.dtype).removeprefix("torch."))
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_products_are_computed_in_the_low_precision_and_all_that_stays_is_float32(
    framework, precision, batches
):
    model, trainer = start(framework, precision=precision)
    seen = []
    leave_out_dropout(framework, model)
    observe_conv(framework, model, seen)
    found = [trainer.evaluate(*batches[0]), *drive(trainer, framework, ADAM, batches, (1,) * 6)]
    assert set(seen) == {precision}
    for name, value in trainer.read_state().items():
        assert value.dtype in (np.float32, np.int64), name
    plain, exact = start(framework)
    leave_out_dropout(framework, plain)
    expected = [exact.evaluate(*batches[0]), *drive(exact, framework, ADAM, batches, (1,) * 6)]
    # A step of float16 may be left out; before the first one the weights are the same.
    for own, other in zip(found[:2], expected[:2], strict=True):
        assert own.loss == pytest.approx(other.loss, rel=0.02)
        assert own.loss != other.loss


def test_both_frameworks_have_the_losses_of_one_definition(batches):
    """Without a dropout: what the loss of float32 is away from that of bfloat16 is more."""
    weights, losses = {}, {}
    for precision in ("float32", "bfloat16"):
        for framework in FRAMEWORKS:
            model, trainer = start(framework, precision=precision)
            leave_out_dropout(framework, model)
            if framework == "keras":
                weights = {n: np.array(v.value) for n, v in trainer._variables.items()}
            else:
                import torch

                kernel = np.array(weights["fc/kernel"]).reshape(4, 4, 4, 3).transpose(3, 2, 0, 1)
                values = {
                    "0.weight": np.array(weights["conv/kernel"]).transpose(3, 2, 0, 1),
                    "5.weight": np.ascontiguousarray(kernel).reshape(3, 64),
                    "0.bias": np.zeros(4, np.float32), "5.bias": np.zeros(3, np.float32),
                }  # fmt: skip
                found = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in values.items()}
                model.load_state_dict(found, strict=False)
            request = StepRequest("", "", 1e-2)
            losses[framework, precision] = trainer.step(*batches[0], request).loss
    exact = losses["torch", "float32"]
    assert losses["keras", "float32"] == pytest.approx(exact, rel=1e-6)
    away = abs(losses["torch", "bfloat16"] / exact - 1)
    assert 1e-5 < away < 1e-2
    assert losses["keras", "bfloat16"] == pytest.approx(losses["torch", "bfloat16"], rel=5e-3)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_mixed_run_continues_bit_for_bit(framework, precision, batches):
    _, trainer = start(framework, precision=precision)
    drive(trainer, framework, ADAM, batches, (1,) * 6, end=3)
    state = trainer.read_state()
    assert ("loss_scale/scale" in state) == (precision == "float16")
    drive(trainer, framework, ADAM, batches, (1,) * 6, first=3)
    again = start_as(framework, state, precision=precision)
    drive(again, framework, ADAM, batches, (1,) * 6, first=3)
    assert_equal_bits(again.read_state(), trainer.read_state())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_step_whose_scaled_gradients_are_not_finite_is_left_out(framework, batches):
    """The scale is halved, and doubled after 2000 steps whose gradients are finite."""
    _, trainer = start(framework, precision="float16")
    state = trainer.read_state()
    assert state["loss_scale/scale"] == 2.0**15
    huge = {**state, "loss_scale/scale": np.array(2.0**60, np.float32),
            "loss_scale/steps": np.array(1999, np.int64)}  # fmt: skip
    trainer.write_state(huge)
    request = StepRequest("", "", 1e-2, ADAM.step_epsilon(framework, 1))
    result = trainer.step(*batches[0], request)
    assert result.skipped
    assert np.isfinite(result.loss)
    after = trainer.read_state()
    assert after["loss_scale/scale"] == 2.0**59
    assert after["loss_scale/steps"] == 0
    trained = [n for n in state if n.startswith(("weight/conv", "weight/0", "weight/fc"))]
    assert trained
    for name in trained:
        assert np.array_equal(after[name], state[name])

    small = np.array(2.0**8, np.float32)
    last = np.array(1999, np.int64)
    trainer.write_state({**state, "loss_scale/scale": small, "loss_scale/steps": last})
    result = trainer.step(*batches[0], request)
    assert not result.skipped
    assert trainer.read_state()["loss_scale/scale"] == 2.0**9
    assert trainer.read_state()["loss_scale/steps"] == 0
    changed = [not np.array_equal(trainer.read_state()[n], state[n]) for n in trained]
    assert all(changed)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("place", [0, 1])
def test_a_scaled_step_of_several_micro_batches_is_left_out_whole(framework, place, batches):
    """A gradient overflows in the first or in the last micro-batch: neither adds to a step."""
    _, trainer = start(framework, precision="float16", accumulate=2)
    before = trainer.read_state()

    def take(scales):
        results = []
        for each, scale in enumerate(scales):
            state = trainer.read_state()
            trainer.write_state({**state, "loss_scale/scale": np.array(scale, np.float32)})
            request = StepRequest(
                "", "", 1e-2, ADAM.step_epsilon(framework, 1), micro_batch=each, micro_batches=2
            )
            results.append(trainer.step(*batches[each], request))
        return results

    # The scale of one micro-batch is so large that its gradients overflow.
    scales = [2.0**8, 2.0**8]
    scales[place] = 2.0**60
    assert [result.skipped for result in take(scales)] == [False, True]
    after = trainer.read_state()
    assert not any(name.startswith("accumulated/") for name in after)
    assert after["loss_scale/scale"] == scales[1] / 2
    assert after["loss_scale/steps"] == 0
    trained = [n for n in before if n.startswith(("weight/conv", "weight/0", "weight/fc"))]
    assert trained
    for name in trained:
        assert np.array_equal(after[name], before[name]), name
    assert [result.skipped for result in take([2.0**8, 2.0**8])] == [False, False]
    after = trainer.read_state()
    assert after["loss_scale/scale"] == 2.0**8
    # One whole step was counted, not two micro-batches; what overflowed is forgotten.
    assert after["loss_scale/steps"] == 1
    for name in trained:
        assert np.isfinite(after[name]).all(), name
        assert not np.array_equal(after[name], before[name]), name


def test_an_overflow_that_is_to_be_left_out_can_be_saved(tmp_path):
    """A run may end between the micro-batches; elsewhere what is not finite is not saved."""
    from parity.errors import TrainingError
    from parity.runtimes.train import TrainOperations

    values = {"weight/a": np.ones(2, np.float32), "accumulated/a": np.full(2, np.inf, np.float32)}

    class State:
        def read_state(self):
            return values

    operations = TrainOperations.__new__(TrainOperations)
    operations.name, operations._trainer = "torch", State()
    with pytest.raises(TrainingError, match="accumulated/a is not finite; it is not saved"):
        operations.save_training_state(path=str(tmp_path / "state"))
    values["loss_scale/scale"] = np.array(2.0**15, np.float32)
    operations.save_training_state(path=str(tmp_path / "state"))
    values["weight/a"] = np.full(2, np.nan, np.float32)
    with pytest.raises(TrainingError, match="weight/a is not finite"):
        operations.save_training_state(path=str(tmp_path / "state"))


# The device --------------------------------------------------------------------------------------


def test_weights_on_another_device_are_an_error():
    require_weights_on("torch", "gpu", {"fc.weight": "cuda:0"})
    require_weights_on("keras", "cpu", {"fc/kernel": "/job:localhost/task:0/device:CPU:0"})
    with pytest.raises(RequirementError) as raised:
        require_weights_on("torch", "gpu", {"fc.weight": "cuda:0", "fc.bias": "cpu"})
    assert str(raised.value) == (
        "torch: the GPU was requested, but fc.bias is on 'cpu': nothing was trained"
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_trainer_on_a_gpu_that_is_not_there_is_refused_in_one_line(framework):
    if framework == "keras":
        from parity.runtimes.keras.runtime import Runtime
    else:
        from parity.runtimes.torch.runtime import Runtime
    request = trainer_request(ADAM, framework, LayerTable(()), device="gpu")
    with pytest.raises(RequirementError, match=rf"^{framework}: ") as raised:
        Runtime().start_training(**request.to_json())
    assert "\n" not in str(raised.value)


SECOND_DEVICE = """
    import numpy as np
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    from parity.runtimes.keras import device
    from parity.runtimes.keras import replicas
    device.NAMES["gpu"] = "cpu:1"
    replicas.is_device = lambda name, wanted: name.endswith("CPU:1") == (wanted == "gpu")
    from tests.runtimes import test_training_options as tests
    random = np.random.default_rng(0)
    batch = random.random((4, 1, 6, 6), np.float32), random.integers(0, 3, 4)
    states = []
    for where in ("cpu", "gpu"):
        model = tests.build_keras()
        replicas.move_weights(model, where)
        from parity.network.trained_layout import WeightMap
        from parity.runtimes.keras.train import KerasTrainer
        request = tests.trainer_request(
            tests.ADAM, "keras", tests.LayerTable(()), seed=3, device=where, precision="bfloat16"
        )
        trainer = KerasTrainer(model, WeightMap.identity({}), request)
        for _ in range(2):
            trainer.step(*batch, tests.StepRequest("", "", 1e-2))
        trainer.evaluate(*batch)
        number = {"cpu": "CPU:0", "gpu": "CPU:1"}[where]
        assert all(name.endswith(number) for name in trainer.read_weight_devices().values())
        slots = [variable for _, each in trainer._slots() for variable in each.values()]
        assert len(slots) == 12, len(slots)
        assert all(str(slot.value.device).endswith(number) for slot in slots)
        states.append(trainer.read_state())
        trainer.write_state(states[-1])
        assert all(name.endswith(number) for name in trainer.read_weight_devices().values())
    for (name, one), two in zip(states[0].items(), states[1].values(), strict=True):
        assert one.tobytes() == two.tobytes(), name
"""


def test_keras_trains_where_its_weights_were_moved():
    """On a second device of TensorFlow's, which a GPU would be: two processors of one machine."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SECOND_DEVICE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_pytorch_takes_model_state_and_batches_to_the_device(monkeypatch, batches, tmp_path):
    """No device of PyTorch's is like a GPU; what is asked to move is seen."""
    import torch

    from parity.runtimes.torch import device
    from parity.runtimes.torch.runtime import Runtime

    runtime = Runtime()
    runtime.model = build_torch()
    wanted, moved = torch.device("cpu"), []
    monkeypatch.setattr(device, "find_device", lambda name: moved.append(name) or wanted)
    to = torch.Tensor.to

    def note(self, *args, **options):
        moved.extend("batch" for each in args if each is wanted or each == wanted)
        return to(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", note)
    request = trainer_request(ADAM, "torch", LayerTable(()), device="gpu")
    trainer = runtime.create_trainer(request)
    assert moved[0] == "gpu"
    del moved[:]
    trainer.step(*batches[0], StepRequest("", "", 1e-2))
    trainer.evaluate(*batches[0])
    assert moved.count("batch") == 4
    del moved[:]
    trainer.write_state(trainer.read_state())
    # Two moments of each of six parameters; the counters stay on the CPU, as PyTorch has them.
    assert moved.count("batch") == 12


def test_a_state_without_the_scale_is_refused(batches):
    _, trainer = start("torch", precision="float16")
    _, other = start("torch")
    with pytest.raises(WeightError, match="loss_scale/scale"):
        trainer.write_state(other.read_state())
