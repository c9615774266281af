"""`parity train`: what is refused, in one line; a run, its files; a killed run that goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import parity
from parity.commands.cli import main
from parity.errors import InputError, RequirementError, TrainingError, UsageError
from parity.network import architectures, weights
from parity.training.callbacks import EpochMetrics
from parity.training.result import FrameworkResult
from parity.training.run_verification import read_results
from tests.training.kills import list_differences, run_killed

USER = Path(__file__).parents[1] / "training" / "user"

MODEL = ("resnet18", "--image-size", "32")


def command(*words: object) -> tuple[int, str]:
    """Run the command line; return the exit code and its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "parity.commands.cli.main", "train", *map(str, words)],
        capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr


def draw_folder(root: Path, classes=("cat", "dog"), count=6, size=(32, 32)) -> Path:
    random_state = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = random_state.integers(0, 128, (*size, 3), np.uint8) + np.uint8(100 * number)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": float("nan")}, "--learning-rate: must be a finite number above 0"),
        ({"optimizer": "adan"}, "unknown optimizer 'adan'; did you mean 'adam'"),
        ({"framework": "onnx"}, "--framework: expected keras or torch, found 'onnx'"),
        ({"classes": 7}, "--classes 7: digits has 10 classes; leave it out"),
        ({"channels": 2}, "--channels: images have 1 or 3 channels, found 2"),
        ({"epochs": 0}, "--epochs: must be a whole number above 0, found 0"),
        ({"batch": 0}, "--batch: must be a whole number above 0, found 0"),
        ({"label_smoothing": 1.0}, "--label-smoothing: must be 0 or more and less than 1"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; known: cross-entropy"),
        (
            {"loss": "mean-squared-error", "label_smoothing": 0.1},
            "--label-smoothing: belongs to a cross-entropy",
        ),
        ({"init": "xavier"}, "--init 'xavier': expected default, glorot-uniform"),
        ({"data": "absent"}, "--data 'absent': no such folder"),
        ({"resume": True}, "holds no run that --resume could continue"),
        ({"threads": 0}, "--threads: must be a whole number above 0"),
        ({"accumulate": 0}, "--accumulate: must be a whole number above 0, found 0"),
        ({"device": "auto"}, "--device: expected cpu or gpu, found 'auto'"),
        ({"precision": "tf32"}, "--precision: expected float32 or float16 or bfloat16, found"),
        ({"seed": -1}, "--seed: must be 0 or more"),
        ({"initial_epoch": 10}, "--initial-epoch: must be 0 or more and less than --epochs 10"),
        ({"initial_epoch": -1}, "--initial-epoch: must be 0 or more"),
        ({"formats": [".onnx"]}, r"--format: expected .weights.h5, .keras, .h5, .pth, .pt, found"),
        (
            {"formats": [".pth"], "framework": "keras"},
            "--format: expected .weights.h5, .keras, .h5",
        ),
        ({"validate_on_test": True}, "--validate-on-test: digits has no test images"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_framework_starts(options, message, tmp_path):
    values = {"learning_rate": 1e-3, "image_size": 32, "out": tmp_path / "run", **options}
    with pytest.raises((UsageError, InputError), match=message) as error:
        parity.train("resnet18", **values)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "progress.json").exists()


def test_the_command_line_has_one_line_and_an_exit_code(tmp_path):
    (tmp_path / "one" / "cat").mkdir(parents=True)
    code, text = command(*MODEL, "--learning-rate", "1e-3", "--data", tmp_path / "one")
    assert (code, text.count("\n")) == (2, 1)
    assert "expected at least 2 classes, found only 'cat'" in text
    code, text = command(*MODEL, "--learning-rate", "nan")
    assert (code, text.count("\n")) == (2, 1)
    assert "--learning-rate: must be a finite number above 0, found nan" in text


@pytest.mark.parametrize("verify", [(), ("--verify",)], ids=["plain", "verified"])
@pytest.mark.parametrize(
    ("models", "starts"),
    [
        (("resnet18",), ["keras: ", "torch: "]),
        ((f"{USER}_torch.py:torch_cnn", f"{USER}_keras.py:keras_cnn"), ["--device gpu: "]),
    ],
    ids=["registered", "references"],
)
def test_a_gpu_that_is_not_there_is_said_before_a_framework_starts(
    models, starts, verify, tmp_path, monkeypatch, capsys
):
    from parity.processes import gpus

    def find_gpu(*args):
        raise RequirementError("no NVIDIA driver")

    monkeypatch.setattr(gpus, "find_gpu", find_gpu)
    options = ["--learning-rate", "1e-3", "--device", "gpu", "--out", str(tmp_path / "run")]
    assert main.main(["train", *models, *options, *verify]) == 3
    lines = capsys.readouterr().err.splitlines()
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(f"error: {start}")
    assert all("no NVIDIA driver" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.framework
@pytest.mark.slow
def test_a_run_in_mixed_precision_of_several_micro_batches(tmp_path):
    """Small, in one framework: its files say how it was trained, and the weights are float32."""
    options = {"image_size": 32, "batch": 256, "threads": 1, "framework": "torch", "epochs": 1,
               "learning_rate": 1e-3, "accumulate": 4, "precision": "bfloat16"}  # fmt: skip
    result = parity.train("resnet18", out=tmp_path / "run", **options)
    configuration = json.loads((tmp_path / "run" / "configuration.json").read_text())
    assert (configuration["accumulate"], configuration["precision"]) == (4, "bfloat16")
    assert configuration["device"] == "cpu"
    values = safetensors.numpy.load_file(result.frameworks[0].last)
    assert {value.dtype for value in values.values()} == {np.dtype(np.float32)}
    changed = {**options, "accumulate": 1, "precision": "float32"}
    with pytest.raises(UsageError, match="accumulate: 4 there, 1 now; precision: 'bfloat16' there"):
        parity.train("resnet18", out=tmp_path / "run", resume=True, **changed)


def test_a_run_of_an_earlier_version_goes_on():
    """Its configuration says nothing of what there was only one of."""
    from parity.training.configuration import require_same

    class Saved:
        schedule = None
        epochs = 1

        def to_json(self):
            return {"epochs": 1, "accumulate": 1, "device": "cpu", "precision": "float32"}

    require_same({"epochs": 1}, Saved(), where="run", epochs_done=0)
    with pytest.raises(UsageError, match="device: 'gpu' there, 'cpu' now"):
        require_same({"epochs": 1, "device": "gpu"}, Saved(), where="run", epochs_done=0)


# A run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run in both frameworks on an image folder, with augmentation and a worker process."""
    folder = tmp_path_factory.mktemp("train")
    data = draw_folder(folder / "data", count=10)
    from parity.training.data.augmentation import Augmentation

    result = parity.train(
        "resnet18", data=data, image_size=32, epochs=2, batch=8, learning_rate=1e-3,
        augmentation=Augmentation(rotation=10, horizontal_flip=True),
        out=folder / "run", threads=1, workers=1, verify=True, every=3, band=1,
    )  # fmt: skip
    return data, result


@pytest.mark.framework
@pytest.mark.slow
def test_a_run_leaves_its_files(finished):
    _, result = finished
    folder = result.folder
    spec = architectures.get("resnet18", classes=2, image_size=(32, 32))
    initial = weights.load(folder / "initial.safetensors", spec.table())
    for each in result.frameworks:
        assert [epoch.epoch for epoch in each.epochs] == [1, 2]
        last, best = (weights.load(path, spec.table()) for path in (each.last, each.best))
        assert not np.array_equal(last["conv1.weight"], initial["conv1.weight"])
        assert best.keys() == last.keys()
        assert (folder / "tensorboard" / each.framework).is_dir()
    history = json.loads((folder / "history.json").read_text())
    assert history["schema"] == "parity.history/1"
    assert set(history["frameworks"]) == {"keras", "torch"}
    losses = [history["frameworks"][name][0]["loss"] for name in ("keras", "torch")]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    assert len((folder / "metrics.csv").read_text().splitlines()) == 5
    assert "<svg" in (folder / "history.svg").read_text()
    configuration = json.loads((folder / "configuration.json").read_text())
    assert configuration["data"]["classes"] == ["cat", "dog"]
    assert configuration["threads"] == 1
    # The checkpoint itself names the classes, and nothing of the machine.
    header = (folder / "torch" / "best.safetensors").read_bytes()[:20000]
    assert b'\\"cat\\", \\"dog\\"' in header
    assert str(folder).encode() not in header


@pytest.mark.framework
@pytest.mark.slow
def test_the_log_is_read_by_tensorboard(finished):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, result = finished
    log = accumulator.EventAccumulator(str(result.folder / "tensorboard" / "torch"))
    log.Reload()
    losses = [event.value for event in log.Scalars("validation_loss")]
    epochs = {each.framework: each.epochs for each in result.frameworks}["torch"]
    assert losses == pytest.approx([epoch.validation_loss for epoch in epochs], rel=1e-6)
    assert "weights/conv1.weight" in log.Tags()["histograms"]


@pytest.mark.framework
@pytest.mark.slow
def test_a_run_is_not_overwritten_and_resumes_only_as_itself(finished, tmp_path):
    data, result = finished
    from parity.training.data.augmentation import Augmentation

    options = {
        "data": data, "image_size": 32, "epochs": 2, "batch": 8, "learning_rate": 1e-3,
        "augmentation": Augmentation(rotation=10, horizontal_flip=True),
        "out": result.folder, "threads": 1, "workers": 0,
    }  # fmt: skip

    def message(model="resnet18", **changes):
        with pytest.raises(UsageError) as error:
            parity.train(model, **{**options, "resume": True, **changes})
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "holds a run; --resume continues it" in message(resume=False)
    assert "optimizer.learning_rate: 0.001 there, 0.01 now" in message(learning_rate=0.01)
    assert "model.name: 'resnet18' there, 'resnet34' now" in message("resnet34")
    assert "seed: 0 there, 1 now" in message(seed=1)
    assert "augmentation.rotation: 10 there, 0.0 now" in message(augmentation=None)
    assert "epochs: 2 are done, 1 now" in message(epochs=1)
    other = draw_folder(tmp_path / "other", ("cat", "fox"), 10)
    text = message(data=other)
    assert "data.classes" in text
    assert "data.sha256" in text


@pytest.mark.framework
@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_epochs_as_if_it_had_never_ended(tmp_path):
    options = {"image_size": 32, "batch": 512, "learning_rate": 1e-3, "threads": 1,
               "framework": "torch"}  # fmt: skip
    parity.train("resnet18", **options, epochs=3, out=tmp_path / "whole")
    parity.train("resnet18", **options, epochs=1, out=tmp_path / "parts")
    parity.train("resnet18", **options, epochs=3, out=tmp_path / "parts", resume=True)
    # The configurations are those of the last command.
    assert list_differences(tmp_path / "parts", tmp_path / "whole") == []


# Verification ------------------------------------------------------------------------------------


@pytest.mark.framework
@pytest.mark.slow
def test_the_first_steps_are_verified(finished):
    _, result = finished
    assert result.agrees
    first = result.verified_steps[0]
    assert first.number == 1
    assert [each.precision for each in first.comparisons] == ["float64", "float32"]
    kinds = {"samples", "loss", "metric", "gradient", "statistics", "update"}
    assert all({e.kind for e in each.errors} >= kinds for each in first.comparisons)
    assert read_results(result.folder / "verification.json") == result.verified_steps


@pytest.mark.framework
@pytest.mark.slow
def test_the_band_is_that_of_a_run_with_noise_and_is_drawn(finished):
    _, result = finished
    torch = next(each.epochs for each in result.frameworks if each.framework == "torch")
    assert all(
        low <= e.loss <= high for (low, high), e in zip(result.band["loss"], torch, strict=True)
    )
    # The replicate's steps have noise, and its batches another order.
    assert all(low < high for low, high in result.band["loss"])
    inside, total = result.inside_band["keras"]
    assert 0 <= inside <= total == 8
    assert "band, validation" in (result.folder / "history.svg").read_text()


@pytest.mark.framework
@pytest.mark.slow
def test_a_run_whose_frameworks_step_differently_is_not_the_same(tmp_path, monkeypatch):
    from parity.runtimes.keras import optimizers

    # Keras's rounding of Adam's step size, 7e-6, becomes a difference where it is not modelled.
    monkeypatch.setattr(optimizers, "round_hyperparameters", lambda optimizer, step: ({}, 1.0))
    data = draw_folder(tmp_path / "data", count=10)
    result = parity.train(
        "resnet18", data=data, image_size=32, epochs=1, batch=8, learning_rate=1e-3,
        out=tmp_path / "run", threads=1, verify=True,
    )  # fmt: skip
    assert not result.agrees
    step = result.verified_steps[0]
    difference = step.semantics.first_difference()
    assert difference.kind == "update"
    assert 1e-6 < difference.rel_l2 < 1e-5
    assert [cause.name for cause in step.causes] == ["learning-rate"]


@pytest.mark.parametrize(("error", "code"), [(1e-13, 0), (1e-6, 1), (float("nan"), 1)])
def test_the_exit_code_is_that_of_the_verification(error, code, monkeypatch, capsys):
    from parity.commands import train as training
    from parity.training.steps import PartError, StepComparison
    from parity.training.verification import VerifiedStep

    epoch = EpochMetrics(1, 1e-3, 0.5, 0.5, 0.5, 0.5)
    each = FrameworkResult("torch", (epoch,), 1, 0.5, 0, Path("a"), Path("b"), 1.0, 10)
    errors = [PartError(kind, "fc.bias", 1e-14) for kind in ("samples", "loss", "gradient")]
    step = StepComparison(1, (*errors, PartError("update", "fc.bias", error)))
    result = training.TrainingResult(
        "resnet18", Path("runs"), ("a", "b"), (each,), verified_steps=(VerifiedStep(1, step, None),)
    )
    monkeypatch.setattr(training, "train", lambda *args, **options: result)
    assert main.main(["train", "resnet18", "--learning-rate", "1e-3"]) == code
    text = capsys.readouterr().out
    expected = "parity: steps 1 are" if code == 0 else "step 1 differs in float64, first update"
    assert expected in text


def test_the_exit_code_of_a_step_that_cannot_be_told_from_a_kink_is_3(monkeypatch, capsys):
    from parity.commands import train as training
    from parity.report import training as report
    from tests.training.test_steps import build_step, build_undetermined_step

    epoch = EpochMetrics(1, 1e-3, 0.5, 0.5, 0.5, 0.5)
    each = FrameworkResult("torch", (epoch,), 1, 0.5, 0, Path("a"), Path("b"), 1.0, 10)
    steps = (build_step(1), build_undetermined_step(2))
    result = training.TrainingResult(
        "net.py:a", Path("runs"), ("a", "b"), (each,), verified_steps=steps
    )
    monkeypatch.setattr(training, "train", lambda *args, **options: result)
    words = ["net.py:a", "net.py:b", "--learning-rate", "1e-3", "--out", "runs/a"]
    assert main.main(["train", *words]) == 3
    assert "could not tell: step 2 agrees in float64" in capsys.readouterr().out
    assert report.verdict(result) == "undetermined"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"framework": "torch", "verify": True}, "--verify: compares the steps of both frameworks"),
        ({"framework": "keras", "band": 2}, "--band 2: runs of torch, 0 or more"),
        ({"band": -1}, "--band -1: runs of torch, 0 or more"),
        ({"every": 1}, "--every 1: needs --verify"),
        ({"every": 0, "verify": True}, "--every 0: needs --verify, and a whole number above 0"),
    ],
)
def test_a_verification_needs_both_frameworks(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        parity.train("resnet18", learning_rate=1e-3, out=tmp_path / "run", **options)


# NaN ---------------------------------------------------------------------------------------------


@pytest.mark.framework
def test_a_loss_that_becomes_nan_keeps_the_last_good_state(tmp_path):
    options = {"image_size": 32, "batch": 64, "threads": 1, "framework": "torch",
               "optimizer": "sgd", "epochs": 2, "out": tmp_path / "run"}  # fmt: skip
    with pytest.raises(TrainingError) as error:
        parity.train("resnet18", **options, learning_rate=1e38, save_seconds=1e9)
    text = str(error.value)
    assert "PyTorch: the loss is nan at step 2 of epoch 1; the first tensor is weight/conv1" in text
    assert "no state was saved before" in text
    assert error.value.exit_code == 3


# Kill and resume ---------------------------------------------------------------------------------


KILLED = [*MODEL, "--learning-rate", "1e-3", "--epochs", "2", "--batch", "128", "--threads", "1",
          "--save-seconds", "0.5"]  # fmt: skip


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "longest", "more"),
    [
        ("torch", 9.0, ()),
        ("keras", 16.0, ()),
        ("torch", 9.0, ("--accumulate", "5")),
        ("keras", 16.0, ("--accumulate", "5")),
        ("torch", 9.0, ("--precision", "bfloat16")),
    ],
    ids=["torch", "keras", "torch-accumulate", "keras-accumulate", "torch-bfloat16"],
)
def test_a_killed_run_ends_as_one_that_was_not(framework, longest, more, tmp_path):
    options = [*KILLED, "--framework", framework, *more]
    assert command(*options, "--out", tmp_path / "whole")[0] == 0
    moments = random.Random(1)
    killed = run_killed(tmp_path / "killed", options, kills=3, moments=moments, longest=longest)
    assert killed > 0
    assert list_differences(tmp_path / "killed", tmp_path / "whole") == []
