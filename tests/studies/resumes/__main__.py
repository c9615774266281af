"""`python -m tests.studies.resumes`: 20 runs, each killed at a random moment and resumed.

Each run trains resnet18 in Keras and PyTorch on a small image folder, with augmentation, momentum
and a worker process. Prints a Markdown table, and exits with 1 if a file of a resumed run differs
from that of the uninterrupted one. The state is saved after every step, so that kills also fall
into the writing of files.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.training.kills import COMMAND, list_differences, run_killed

OPTIONS = (
    "resnet18", "--image-size", "32", "--batch", "16", "--epochs", "2", "--learning-rate", "0.01",
    "--optimizer", "sgd", "--momentum", "0.9", "--rotation", "10", "--horizontal-flip",
    "--threads", "1", "--workers", "1", "--save-seconds", "0",
)  # fmt: skip


def draw_images(root: Path, classes: int = 3, count: int = 30) -> None:
    """Write noise of a different brightness for each class."""
    noise = np.random.default_rng(0)
    for number in range(classes):
        (root / f"class{number}").mkdir(parents=True)
        for index in range(count):
            pixels = noise.integers(0, 100, (32, 32, 3)) + 60 * number
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(root / f"class{number}" / f"{index:02}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="kills in each run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="parity-resumes-") as temporary:
        folder = Path(temporary)
        draw_images(folder / "data")
        options = [*OPTIONS, "--data", str(folder / "data")]
        started = time.monotonic()
        whole = folder / "whole"
        subprocess.run([*COMMAND, *options, "--out", str(whole)], check=True, stdout=sys.stderr)
        seconds = time.monotonic() - started
        print("| run | kills | files that differ |\n|---|---|---|", flush=True)
        failures = 0
        for number in range(1, arguments.runs + 1):
            run = folder / f"run-{number}"
            killed = 0
            # A run that was complete before its moment came shows nothing: another one is started.
            while not killed:
                shutil.rmtree(run, ignore_errors=True)
                killed = run_killed(
                    run, options, kills=arguments.kills, moments=moments, longest=seconds
                )
            differing = list_differences(run, whole)
            failures += bool(differing)
            print(f"| {number} | {killed} | {', '.join(differing) or 'none'} |", flush=True)
        good = arguments.runs - failures
        print(f"\n{good} of {arguments.runs} resumed runs are bit-identical; an uninterrupted run "
              f"took {seconds:.0f} s")  # fmt: skip
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
