"""Time `parity diff` of saved captures against reading their files once, cold and warm.

    python tests/studies/benchmarks/diff.py [--batch 16] [--model resnext50_32x4d] [--subjects 2]
    python tests/studies/benchmarks/diff.py --captures DIR     a folder that `parity capture` wrote

Without `--captures` the tensors are random, in the shapes of the model at depth `layer`:
their values do not change the time. Reading is one thread with a buffer of 1 MB.
"Cold" means that the files are not in the page cache. The peak memory is that of
the process and of its helpers, each taken to be as large as the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
# The folder of this script comes first otherwise, where `exporters` is a script.
sys.path[0] = str(ROOT)

from parity.commands import saved_captures
from parity.network import architectures
from parity.numerics.capture import CaptureWriter
from parity.numerics.floor import Floor
from parity.report.model import (
    InputFacts,
    Report,
    SubjectFacts,
    Verdict,
    WeightFacts,
)

TIME, MEMORY_MB = 2.0, 500.0
"""Issue 3: at most twice the time of reading, under 500 MB."""


def write_captures(folder: Path, model: str, batch: int, subjects: tuple[str, ...]) -> None:
    """Write a folder of captures of random tensors, a millionth apart."""
    points = architectures.get(model).table().points("layer")
    rng = np.random.default_rng(0)
    common = {"model": model, "weights_sha256": "0" * 64, "input_sha256": "0" * 64}
    paths = {name: folder / f"{name}.tmp" for name in (saved_captures.REFERENCE, *subjects)}
    writers = {n: CaptureWriter(p, {**common, "subject": n}) for n, p in paths.items()}
    for point in points:
        float64 = rng.standard_normal((batch, *point.shape))
        for index, writer in enumerate(writers.values()):
            actual = float64 if index == 0 else (float64 * (1 + 1e-6 * index)).astype(np.float32)
            writer.add(point.row, actual)
    for writer in writers.values():
        writer.close()
    report = Report(
        verdict=Verdict.UNKNOWN,
        model=model,
        reference="torch",
        input=InputFacts("random", (batch, 3, 224, 224), "0" * 64),
        weights=WeightFacts("0" * 64, 0),
        subjects={name: SubjectFacts(name, "cpu") for name in subjects},
        levels={},
        stages=(),
        first_divergence=None,
        depth="layer",
    )
    floors = {point.row: Floor(1e-6, 1e-5, 5, 1.0) for point in points}
    saved_captures.move_captures(
        folder,
        paths,
        report,
        points=points,
        outputs=[points[-1].row],
        floors=floors,
        instrumentation_gaps={},
    )


def list_captures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def drop_from_page_cache(folder: Path) -> None:
    """Drop the files from the page cache, so that the next reader reads the disk."""
    for path in list_captures(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def time_reading(folder: Path) -> float:
    """Return the seconds of reading every file once."""
    buffer = bytearray(2**20)
    start = time.perf_counter()
    for path in list_captures(folder):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start


def time_diff(folder: Path) -> tuple[float, float]:
    """Return seconds, start included, and peak memory in MB of `parity diff` in its own process."""
    code = (
        "import json, resource, sys, time; started = time.perf_counter();"
        "from pathlib import Path; from parity.commands.diff import diff;"
        "folder = Path(sys.argv[1]); report = diff(folder, folder, limit=1e9);"
        "seconds = time.perf_counter() - started;"
        "from parity.numerics.measurement import MAX_HELPERS, _count_cores;"
        "helpers = min(MAX_HELPERS, _count_cores() - 1);"
        "own, child = (resource.getrusage(w).ru_maxrss"
        " for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN));"
        "peak = own + child * helpers;"
        "print(json.dumps([seconds, peak / 1024, len(report.stages)]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    seconds, peak, stages = json.loads(process.stdout)
    assert stages > 100
    return seconds, peak


def measure(folder: Path, runs: int) -> Iterator[tuple[str, float, float, float]]:
    for kind in ("cold", "warm"):
        for _ in range(runs):
            measurements = []
            for work in (lambda: (time_reading(folder), 0.0), lambda: time_diff(folder)):
                if kind == "cold":
                    drop_from_page_cache(folder)
                measurements.append(work())
            yield kind, measurements[0][0], *measurements[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--captures", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parity-benchmark-") as name:
        folder = options.captures or Path(name)
        if options.captures is None:
            names = ("keras", "torch", "onnx-keras", "onnx-torch")[: options.subjects]
            write_captures(folder, options.model, options.batch, names)
        size = sum(path.stat().st_size for path in list_captures(folder))
        print(f"{len(list_captures(folder))} captures, {size / 1e9:.2f} GB")
        worst = 0.0
        for kind, reading, judging, peak in measure(folder, options.runs):
            ratio = judging / reading
            print(
                f"{kind}: read {reading:.2f} s ({size / reading / 1e9:.1f} GB/s), diff "
                f"{judging:.2f} s, {ratio:.2f}x, {peak:.0f} MB"
            )
            if peak > MEMORY_MB:
                worst = max(worst, peak / MEMORY_MB)
    print(f"allowed: {TIME:g}x, {MEMORY_MB:g} MB")
    return int(worst > 1.0)


if __name__ == "__main__":
    sys.exit(main())
