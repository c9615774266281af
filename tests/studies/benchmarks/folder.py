"""A folder of photographs compared, against the bare forwards of the same number of images.

    python -m tests.studies.benchmarks.folder [--photographs 200] [--model resnext50_32x4d]

Bare are forwards of 16 images at a time, one framework after the other with the machine to itself,
in float32 and, as the reference is, in float64; no import, no photograph read, nothing kept. The
comparison is the whole command: its subjects and its reference share the processor's cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.studies.benchmarks import bare

BATCH = 16
LIMIT = 1.15
"""Issue 3: against the slowest subject's bare forwards."""

RUNS = {"keras": "keras", "torch": "torch", "onnx-torch": "onnx", "reference": "float64"}


def write_photographs(folder: Path, count: int) -> Path:
    """Write pictures of seeded blobs, 320×256, and return their folder."""
    target = folder / "photographs"
    target.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8))
        coarse.resize((320, 256), Image.Resampling.BICUBIC).save(target / f"{index:03}.jpg")
    return target


def time_forwards(run: str, name: str, file: Path, count: int) -> float:
    """Return the seconds of the forward passes, after one that is not counted."""
    from parity.network import architectures

    spec = architectures.get(name)
    x = np.random.default_rng(0).standard_normal((BATCH, *spec.input_shape), np.float32)
    if run == "keras":
        import keras

        model = importlib.import_module(f"parity.network.models.{spec.family}.keras").build(spec)
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))

        def forward(count: int) -> object:
            return keras.ops.convert_to_numpy(model(x[:count], training=False))
    elif run == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

        def forward(count: int) -> object:
            return session.run(None, {"input": x[:count]})
    else:
        import torch

        dtype = torch.float64 if run == "float64" else torch.float32
        model = importlib.import_module(f"parity.network.models.{spec.family}.torch").build(spec)
        model, data = model.eval().to(dtype), torch.from_numpy(x).to(dtype)

        def forward(count: int) -> object:
            with torch.inference_mode():
                return model(data[:count])

    forward(BATCH)
    start = time.perf_counter()
    for index in range(0, count, BATCH):
        forward(min(BATCH, count - index))
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--only", choices=RUNS.values(), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(
            json.dumps(
                time_forwards(options.only, options.model, options.file, options.photographs)
            )
        )
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, seconds = bare.prepare(options.model, folder), {}
        for label, run in RUNS.items():
            command = [sys.executable, "-m", "tests.studies.benchmarks.folder", "--only", run]
            command += ["--model", options.model, "--file", str(file)]
            command += ["--photographs", str(options.photographs)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            process = subprocess.run(
                command, check=True, cwd=bare.ROOT, env=environment, capture_output=True, text=True
            )
            seconds[label] = float(process.stdout.splitlines()[-1])
            print(f"{label:<12}{seconds[label]:>8.1f} s bare", flush=True)
        # The command without a folder, whose imports and exports it has, is not measured.
        command = [
            sys.executable,
            "-m",
            "parity.commands.cli.main",
            "compare",
            options.model,
            "--input",
        ]
        command += [str(write_photographs(folder, options.photographs))]
        start = time.perf_counter()
        subprocess.run(command, check=True, cwd=bare.ROOT, capture_output=True)
        elapsed = time.perf_counter() - start
    # Two graphs are compared, of one speed.
    subjects = [seconds["keras"], seconds["torch"], seconds["onnx-torch"], seconds["onnx-torch"]]
    every = sum(subjects) + seconds["reference"]
    print(f"{'compare':<12}{elapsed:>8.1f} s, whole command")
    print(f"{elapsed / max(subjects):.2f}x the slowest subject, at most {LIMIT:g}x promised")
    print(f"{elapsed / every:.2f}x the four subjects and the reference, one after the other")
    return 0 if elapsed <= LIMIT * max(subjects) else 1


if __name__ == "__main__":
    sys.exit(main())
