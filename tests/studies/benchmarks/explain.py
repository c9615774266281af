"""What `--explain` adds to a comparison of ResNeXt-50 in which one layer is wrong.

    python -m tests.studies.benchmarks.explain [--runs 3] [--subjects keras,torch]

The Keras model is `tests.twins.broken:resnext_same_padding`. Runs with and without take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FAULTY = ("resnext50_32x4d", "keras=tests.twins.broken:resnext_same_padding")
CAUSE = "same-padding"
LIMIT = 3.0
"""Seconds that explaining may add."""

EVERYTHING = "keras,torch,onnx-keras,onnx-torch"


def time_comparison(cache: Path, *options: str) -> tuple[float, str]:
    """Wall time and output of one comparison; raises unless it ends in a divergence."""
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "parity.commands.cli.main", "compare", *FAULTY, *options],
        cwd=ROOT,
        env={**os.environ, "PARITY_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )
    elapsed = time.perf_counter() - start
    if process.returncode != 1:
        raise SystemExit(f"the comparison ended with {process.returncode}:\n{process.stderr}")
    return elapsed, process.stdout


def measure(
    cache: Path, runs: int, say: Callable[[str], None], *, subjects: str = EVERYTHING
) -> dict[str, list[float]]:
    """Seconds of each run, `explain` and `no-explain`; raises if the cause is not what it is."""
    times: dict[str, list[float]] = {"no-explain": [], "explain": []}
    # Not measured: the weights are drawn, and PyTorch's graph is traced, once for all.
    time_comparison(cache, "--no-explain", "--subjects", subjects)
    for number in range(runs):
        for label, spent in times.items():
            say(f"{label}, run {number + 1} of {runs}")
            elapsed, output = time_comparison(cache, f"--{label}", "--subjects", subjects)
            if (CAUSE in output) != (label == "explain"):
                raise SystemExit(f"{label}: {CAUSE} is {'not ' * (label == 'explain')}named")
            spent.append(elapsed)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--subjects", default=EVERYTHING)
    arguments = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), arguments.runs, say, subjects=arguments.subjects)
    for label, spent in times.items():
        runs = ", ".join(f"{elapsed:.2f}" for elapsed in spent)
        print(f"{label:<12}{statistics.median(spent):>8.2f} s   ({runs})")
    extra = statistics.median(times["explain"]) - statistics.median(times["no-explain"])
    print(f"{'added':<12}{extra:>8.2f} s   ≤ {LIMIT:g} s promised")
    return 0 if extra <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
