"""`parity evaluate` on photographs, in four runtimes, against four bare scripts.

    python -m tests.studies.benchmarks.evaluation [--photographs 200] [--model resnext50_32x4d]

A bare script is one runtime's: it imports the framework, builds the model, loads its weights, and
predicts the photographs, 16 at a time, each decoded once; nothing is compared. ONNX Runtime reads a
finished file, and the command has traced its structures before. The four scripts, one after the
other, and the command take turns; the figure is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from parity.network import architectures, weights
from parity.training import initialization
from parity.training.data.batches import Preprocessing
from parity.training.data.decoding import read_image
from parity.training.description import TrainedDescription
from tests.studies.benchmarks import bare, folder

BATCH = 16
LIMIT = 1.3
CLASSES = 10
RUNS = {"keras": "keras", "torch": "torch", "onnx-keras": "onnx", "onnx-torch": "onnx"}


def predict_bare(run: str, name: str, data: Path, checkpoint: Path) -> float:
    """Predict all photographs in one runtime; return the seconds of the forward passes."""
    spec = architectures.get(name, classes=CLASSES)
    paths = sorted(data.rglob("*.jpg"))
    if run == "keras":
        import keras

        model = importlib.import_module(f"parity.network.models.{spec.family}.keras").build(spec)
        model.load_weights(checkpoint.with_suffix(".weights.h5"))

        def forward(images: np.ndarray) -> object:
            return keras.ops.convert_to_numpy(model(images, training=False))
    elif run == "torch":
        import safetensors.torch
        import torch

        model = importlib.import_module(f"parity.network.models.{spec.family}.torch").build(spec)
        model.load_state_dict(safetensors.torch.load_file(checkpoint), strict=False)
        model.eval()

        def forward(images: np.ndarray) -> object:
            with torch.inference_mode():
                return model(torch.from_numpy(images)).numpy()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            checkpoint.with_suffix(".onnx"), providers=["CPUExecutionProvider"]
        )

        def forward(images: np.ndarray) -> object:
            return session.run(None, {"input": images})

    seconds = 0.0
    for start in range(0, len(paths), BATCH):
        pixels = [read_image(path, spec.image_size, 3) for path in paths[start : start + BATCH]]
        images = np.stack(pixels).astype(np.float32) / np.float32(255)
        if run != "keras":
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        started = time.perf_counter()
        forward(images)
        seconds += time.perf_counter() - started
    return seconds


def prepare(name: str, target: Path, count: int) -> tuple[Path, Path]:
    """Write photographs in two classes, and the weights for every bare script."""
    photographs = folder.write_photographs(target, count)
    for number, path in enumerate(sorted(photographs.glob("*.jpg"))):
        place = photographs / f"class{number % CLASSES}" / path.name
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    spec = architectures.get(name, classes=CLASSES)
    checkpoint = target / "model.safetensors"
    classes = tuple(f"class{number}" for number in range(CLASSES))
    description = TrainedDescription(name, classes, Preprocessing(spec.image_size, 3))
    values = initialization.draw(spec, "he-normal", seed=0)
    weights.save(checkpoint, values, metadata=description.to_metadata())
    common = [name, "--classes", str(CLASSES), "--weights", str(checkpoint)]
    parity = [sys.executable, "-m", "parity.commands.cli.main"]
    run = {"check": True, "cwd": bare.ROOT, "capture_output": True}
    subprocess.run([*parity, "convert", *common, str(target / "model.weights.h5")], **run)
    onnx = ["--from", "torch", "--onnx", str(target / "model.onnx")]
    subprocess.run([*parity, "export", *common, *onnx], **run)
    return photographs, checkpoint


def time_bare(run: str, name: str, data: Path, checkpoint: Path) -> tuple[float, float]:
    """Return the seconds of a bare script, and of its forward passes."""
    command = [sys.executable, "-m", __spec__.name, "--only", run, "--model", name]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--data", str(data), "--checkpoint", str(checkpoint)],
        check=True, cwd=bare.ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return time.perf_counter() - started, float(json.loads(done.stdout.splitlines()[-1]))


def time_command(name: str, data: Path, checkpoint: Path, options: list[str]) -> float:
    """Return the seconds of the whole command."""
    command = [sys.executable, "-m", "parity.commands.cli.main", "evaluate", name]
    command += ["--data", str(data), "--weights", str(checkpoint), *options]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=bare.ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=set(RUNS.values()), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", help="options of the command")
    arguments = parser.parse_args()
    if arguments.only:
        print(predict_bare(arguments.only, arguments.model, arguments.data, arguments.checkpoint))
        return 0
    times: dict[str, list[float]] = {label: [] for label in (*RUNS, "evaluate")}
    forwards: dict[str, list[float]] = {label: [] for label in RUNS}
    with tempfile.TemporaryDirectory() as target:
        data, checkpoint = prepare(arguments.model, Path(target), arguments.photographs)
        # The structures of the graphs are then in the cache.
        time_command(arguments.model, data, checkpoint, arguments.options)
        for _ in range(arguments.rounds):
            for label, run in RUNS.items():
                whole, forward = time_bare(run, arguments.model, data, checkpoint)
                times[label].append(whole)
                forwards[label].append(forward)
            seconds = time_command(arguments.model, data, checkpoint, arguments.options)
            times["evaluate"].append(seconds)
    median = {label: statistics.median(seconds) for label, seconds in times.items()}
    for label, each in forwards.items():
        print(f"{label:<12}{median[label]:>7.1f} s, {statistics.median(each):.1f} s of it forwards")
    print(f"{'evaluate':<12}{median['evaluate']:>7.1f} s, whole command")
    sums = [sum(times[label][n] for label in RUNS) for n in range(arguments.rounds)]
    ratio = statistics.median(s / b for s, b in zip(times["evaluate"], sums, strict=True))
    print(f"{ratio:.2f}x the four bare scripts, one after the other; at most {LIMIT:g}x promised")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
