"""The trainers of the children: a plain loop gives the same numbers, a resume the same bits."""

from __future__ import annotations

import resource
from dataclasses import replace

import numpy as np
import pytest

from parity.errors import OutputError, TrainingError, WeightError
from parity.network import architectures
from parity.network.trained_layout import WeightMap
from parity.processes.training_requests import StepRequest, TrainerRequest
from parity.training import initialization
from parity.training.data.augmentation import Augmentation
from parity.training.data.batches import BatchPlan, BatchReader, Preprocessing
from parity.training.data.sources import open_dataset
from parity.training.optimizers import Optimizer, trainer_request

pytestmark = pytest.mark.framework

SPEC = replace(
    architectures.get("resnet18", classes=10, image_size=(32, 32), channels=1),
    depths=(1, 1, 1, 1),
)
STEPS = 3
RATES = (1e-3, 1e-3, 5e-4)


@pytest.fixture(scope="module")
def batches():
    """Augmented digits; the last batch is smaller."""
    data = open_dataset("digits")
    plan = BatchPlan(len(data.training.labels), 16, seed=1)
    reader = BatchReader(
        data.training, plan, Preprocessing((32, 32), 1), Augmentation(rotation=10, zoom=0.1)
    )
    found = [reader.read(1, step) for step in range(STEPS - 1)]
    last = reader.read(1, STEPS)
    return [*((b.images, b.labels) for b in found), (last.images[:9], last.labels[:9])]


@pytest.fixture(scope="module")
def weights():
    return initialization.draw(SPEC, "he-normal", seed=0)


def start(framework, weights, optimizer, **options):
    """A child's runtime, in this process, with a new trainer."""
    if framework == "keras":
        from parity.runtimes.keras.runtime import Runtime
    else:
        from parity.runtimes.torch.runtime import Runtime
    runtime = Runtime()
    runtime.load(spec=SPEC.to_json())
    runtime.write_weights(weights)
    request = trainer_request(optimizer, framework, SPEC.table(), seed=3, **options)
    return runtime, runtime.create_trainer(request)


def drive(trainer, framework, optimizer, batches, *, first=0):
    results = []
    for step, (images, labels) in enumerate(batches[first:], start=first):
        epsilon = optimizer.step_epsilon(framework, step + 1)
        request = StepRequest("", "", RATES[step], epsilon)
        results.append(trainer.step(images, labels, request))
    return results


def assert_equal_bits(actual, expected):
    assert actual.keys() == expected.keys()
    assert [k for k in expected if actual[k].tobytes() != expected[k].tobytes()] == []


def test_keras_fit_gives_the_numbers_of_the_driver(weights, batches):
    """`Model.fit` on the same arrays, with Keras's own callback for the learning rate."""
    import keras

    from parity.runtimes.keras.runtime import Runtime

    optimizer = Optimizer("adam", RATES[0])
    runtime, trainer = start("keras", weights, optimizer)
    driven = drive(trainer, "keras", optimizer, batches[:-1])
    before_last = runtime.read_weights()
    driven += drive(trainer, "keras", optimizer, batches, first=len(batches) - 1)
    evaluated = trainer.evaluate(*batches[0])

    plain = Runtime()
    plain.load(spec=SPEC.to_json())
    plain.write_weights(weights)
    plain.model.compile(
        optimizer=keras.optimizers.Adam(RATES[0], epsilon=1e-7),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["sparse_categorical_accuracy"],
    )

    def rates(epoch, rate):
        return RATES[epoch]

    losses, correct = [], []
    # One batch an epoch, so that the schedule's callback sets the rate of each step.
    for epoch, (images, labels) in enumerate(batches):
        if len(labels) != 16:
            assert_equal_bits(plain.read_weights(), before_last)
        history = plain.model.fit(
            images.transpose(0, 2, 3, 1), labels, batch_size=16, shuffle=False, verbose=0,
            initial_epoch=epoch, epochs=epoch + 1,
            callbacks=[keras.callbacks.LearningRateScheduler(rates)],
        ).history  # fmt: skip
        losses += history["loss"]
        correct.append(round(history["sparse_categorical_accuracy"][0] * len(labels)))
    assert losses == [result.loss for result in driven]
    assert correct == [result.correct for result in driven]
    # The last batch is smaller: `fit` computes it with a graph for any size, rounded otherwise.
    for name, value in plain.read_weights().items():
        error = np.linalg.norm(value - runtime.read_weights()[name])
        assert error <= 1e-4 * np.linalg.norm(value - before_last[name]), name
    images, labels = batches[0]
    loss, _ = plain.model.evaluate(images.transpose(0, 2, 3, 1), labels, verbose=0)
    assert loss == pytest.approx(evaluated.loss, rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_plain_pytorch_loop_gives_the_numbers_of_the_driver(name, weights, batches):
    import torch

    from parity.runtimes.torch.runtime import Runtime

    optimizer = Optimizer(name, RATES[0], momentum=0.9 if name == "sgd" else 0.0)
    runtime, trainer = start("torch", weights, optimizer)
    driven = drive(trainer, "torch", optimizer, batches)

    plain = Runtime()
    plain.load(spec=SPEC.to_json())
    plain.write_weights(weights)
    model = plain.model.requires_grad_(True).train()
    if name == "sgd":
        stock = torch.optim.SGD(model.parameters(), lr=RATES[0], momentum=0.9)
    else:
        stock = torch.optim.Adam(model.parameters(), lr=RATES[0])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(stock, milestones=[2], gamma=0.5)
    losses = []
    for step, (images, labels) in enumerate(batches):
        if name == "adam":
            # The map of ε (parity.training.optimizers), which no scheduler of PyTorch has.
            stock.param_groups[0]["eps"] = optimizer.step_epsilon("torch", step + 1)
        stock.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            model(torch.from_numpy(images)), torch.from_numpy(labels)
        )
        loss.backward()
        stock.step()
        scheduler.step()
        losses.append(loss.item())
    assert losses == [result.loss for result in driven]
    assert_equal_bits(runtime.read_weights(), plain.read_weights())


@pytest.mark.parametrize("framework", [pytest.param("keras", marks=pytest.mark.slow), "torch"])
@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(Optimizer("adamw", RATES[0], weight_decay=0.01, clip_norm=1.0), id="adamw"),
        pytest.param(
            Optimizer("sgd", RATES[0], momentum=0.9, nesterov=True),
            id="nesterov",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_restored_state_continues_bit_for_bit(framework, optimizer, weights, batches, tmp_path):
    runtime, trainer = start(framework, weights, optimizer, label_smoothing=0.1)
    runtime._trainer = trainer
    drive(trainer, framework, optimizer, batches[:2])
    runtime.save_training_state(path=str(tmp_path / "state.safetensors"))
    drive(trainer, framework, optimizer, batches, first=2)
    expected = trainer.read_state()

    other = initialization.draw(SPEC, "glorot-uniform", seed=9)
    resumed, again = start(framework, other, optimizer, label_smoothing=0.1)
    resumed._trainer = again
    resumed.load_training_state(path=str(tmp_path / "state.safetensors"))
    drive(again, framework, optimizer, batches, first=2)
    assert_equal_bits(again.read_state(), expected)

    # The file itself is a function of the state.
    resumed.save_training_state(path=str(tmp_path / "resumed.safetensors"))
    runtime.save_training_state(path=str(tmp_path / "uninterrupted.safetensors"))
    files = [
        (tmp_path / f"{name}.safetensors").read_bytes() for name in ("resumed", "uninterrupted")
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("framework", [pytest.param("keras", marks=pytest.mark.slow), "torch"])
def test_a_state_without_slots_is_another_trajectory(framework, weights, batches):
    """What the test above compares depends on the slots."""
    optimizer = Optimizer("sgd", RATES[0], momentum=0.9)
    _, trainer = start(framework, weights, optimizer)
    drive(trainer, framework, optimizer, batches[:2])
    state = trainer.read_state()
    for name in state:
        if name.startswith("slot/"):
            state[name] = np.zeros_like(state[name])
    _, again = start(framework, weights, optimizer)
    again.write_state(state)
    drive(again, framework, optimizer, batches, first=2)
    drive(trainer, framework, optimizer, batches, first=2)
    name = "weight/conv1.weight"
    assert not np.array_equal(again.read_state()[name], trainer.read_state()[name])


def test_both_frameworks_take_the_same_first_steps(weights, batches):
    optimizer = Optimizer("sgd", 1e-2)
    losses, states = {}, {}
    for framework in ("keras", "torch"):
        runtime, trainer = start(framework, weights, optimizer)
        losses[framework] = trainer.step(*batches[0], StepRequest("", "", 1e-2)).loss
        states[framework] = runtime.read_weights()
    assert losses["keras"] == pytest.approx(losses["torch"], rel=1e-5)
    for name in ("conv1.weight", "layer4.0.conv2.weight", "fc.bias"):
        changes = [states[side][name] - weights[name] for side in ("keras", "torch")]
        assert np.linalg.norm(changes[0] - changes[1]) < 1e-2 * np.linalg.norm(changes[1])


def test_a_dropout_continues_with_the_next_mask(tmp_path):
    """Keras saves none of the seed generators' state; this state has it."""
    import keras

    from parity.runtimes.keras.train import KerasTrainer

    random = np.random.default_rng(0)
    images, labels = random.random((8, 1, 4, 4), np.float32), random.integers(0, 3, 8)

    def trainer(seed):
        keras.utils.set_random_seed(seed)
        image = keras.Input((4, 4, 1))
        x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(image))
        model = keras.Model(image, keras.layers.Dense(3)(x))
        request = TrainerRequest("SGD", {"learning_rate": 0.1})
        return KerasTrainer(model, WeightMap.identity({}), request)

    first = trainer(0)
    request = StepRequest("", "", 0.1)
    for _ in range(3):
        first.step(images, labels, request)
    state = first.read_state()
    assert any(value.dtype == np.int64 and value.shape == (2,) for value in state.values())
    # The layers of a second model in one process have other names.
    second = trainer(1)
    names = dict(zip(second.read_state(), state, strict=True))
    second.write_state({name: state[old] for name, old in names.items()})
    losses = [t.step(images, labels, request).loss for t in (first, second)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("framework", [pytest.param("keras", marks=pytest.mark.slow), "torch"])
def test_a_state_of_another_optimizer_is_refused(framework, weights, batches):
    adam, sgd = Optimizer("adam", RATES[0]), Optimizer("sgd", RATES[0], momentum=0.9)
    _, trainer = start(framework, weights, adam)
    drive(trainer, framework, adam, batches[:1])
    _, other = start(framework, weights, sgd)
    with pytest.raises(WeightError, match="the saved state has slot/"):
        other.write_state(trainer.read_state())


@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_a_state_with_nan_is_named_and_not_saved(framework, weights, batches, tmp_path):
    optimizer = Optimizer("sgd", RATES[0])
    runtime, trainer = start(framework, weights, optimizer)
    runtime._trainer = trainer
    path = tmp_path / "state.safetensors"
    runtime.save_training_state(path=str(path))
    before = path.read_bytes()
    images, labels = batches[0]
    result = trainer.step(images, labels, StepRequest("", "", float("inf")))
    assert np.isfinite(result.loss)
    assert runtime.find_non_finite()["tensor"] == "weight/conv1.weight"
    with pytest.raises(TrainingError, match=r"weight/\S+ is not finite; it is not saved"):
        runtime.save_training_state(path=str(path))
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_state_before(weights, tmp_path):
    runtime, trainer = start("torch", weights, Optimizer("sgd", RATES[0]))
    runtime._trainer = trainer
    path = tmp_path / "state.safetensors"
    runtime.save_training_state(path=str(path))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may not grow further: the write fails in its middle, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"state\.safetensors: cannot be written"):
            runtime.save_training_state(path=str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_the_own_initialisers_are_drawn_by_the_seed(framework, weights, tmp_path):
    runtime, _ = start(framework, weights, Optimizer("sgd", RATES[0]))
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{number}.safetensors"
        runtime.save_initial_weights(spec=SPEC.to_json(), seed=seed, path=str(path))
        digests.append(path.read_bytes())
    assert digests[0] == digests[1] != digests[2]
    from parity.network import weights as files

    values = files.load(tmp_path / "0.safetensors", SPEC.table())
    assert (values["bn1.weight"] == 1).all()
    assert (values["bn1.running_mean"] == 0).all()
    assert (values["bn1.running_var"] == 1).all()
    assert 0 < values["conv1.weight"].std() < 0.3


@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_a_trainer_of_a_run_seeds_the_generators(framework, weights):
    """Dropouts without a seed of their own draw from them."""
    if framework == "keras":
        import keras

        def draw():
            return np.asarray(keras.random.uniform((4,)))
    else:
        import torch

        def draw():
            return torch.rand(4).numpy()

    drawn = []
    for _ in range(2):
        start(framework, weights, Optimizer("sgd", RATES[0]))
        drawn.append(draw())
    assert np.array_equal(*drawn)
