"""The least that a comparison needs: each framework imported, the model built, one forward pass.

    python -m tests.studies.benchmarks.bare [--model resnext50_32x4d]

Three processes, one after the other; no export, no capture, no comparison. ONNX Runtime reads
a finished file, which is written before the clock starts.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
RUNTIMES = ("keras", "torch", "onnx")


def keras(name: str, file: Path) -> None:
    import keras

    from parity.network import architectures

    model = importlib.import_module(
        f"parity.network.models.{architectures.get(name).family}.keras"
    ).build(architectures.get(name))
    shape = (1, *architectures.get(name).image_size, architectures.get(name).channels)
    keras.ops.convert_to_numpy(model(np.ones(shape, np.float32), training=False))


def torch(name: str, file: Path) -> None:
    import torch

    from parity.network import architectures

    module = importlib.import_module(
        f"parity.network.models.{architectures.get(name).family}.torch"
    )
    model = module.build(architectures.get(name)).eval()
    with torch.inference_mode():
        model(torch.ones((1, *architectures.get(name).input_shape)))


def onnx(name: str, file: Path) -> None:
    import onnxruntime

    from parity.network import architectures

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    session.run(None, {"input": np.ones((1, *architectures.get(name).input_shape), np.float32)})


def prepare(name: str, folder: Path) -> Path:
    """Write the ONNX file for ONNX Runtime, and return its path."""
    path = folder / "bare.onnx"
    command = [
        sys.executable,
        "-m",
        "parity.commands.cli.main",
        "export",
        "--onnx",
        str(path),
        name,
    ]
    subprocess.run([*command, "--from", "torch"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return path


def time_runtimes(name: str, file: Path) -> dict[str, float]:
    """Return the wall time of each runtime's process, from its start to its end."""
    seconds = {}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for runtime in RUNTIMES:
        command = [sys.executable, "-m", "tests.studies.benchmarks.bare", "--only", runtime]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--model", name, "--file", str(file)],
            check=True,
            cwd=ROOT,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        seconds[runtime] = time.perf_counter() - start
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--only", choices=RUNTIMES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        globals()[arguments.only](arguments.model, arguments.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        seconds = time_runtimes(arguments.model, prepare(arguments.model, Path(folder)))
    for runtime, value in seconds.items():
        print(f"{runtime:<8}{value:>8.2f} s")
    print(f"{'total':<8}{sum(seconds.values()):>8.2f} s")


if __name__ == "__main__":
    main()
