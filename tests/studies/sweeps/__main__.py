"""What a sweep takes, against the sum of its comparisons as commands one after another.

    python -m tests.studies.sweeps [--models 10] [--old onnxruntime==1.31.1] [--user 4] [--ray]

The commands and the sweep each have an empty cache of exports; installing is timed apart. `--ray`
also runs the sweep on a Ray cluster of two nodes on this machine, and compares the results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.commands.sweep_store import CellRecord, open_store
from parity.processes.environments import ensure_environment, parse_packages
from parity.processes.executors.local import LocalExecutor
from parity.processes.executors.ray import RayExecutor
from parity.processes.executors.tasks import Task

_KERAS = [f"keras:{name},input_shape=(64, 64, 3)" for name in ("MobileNetV2", "ResNet50", "VGG16")]
MODELS = (
    *("resnet18", _KERAS[0], "resnet34", _KERAS[1], "resnet50", "resnext50_32x4d", _KERAS[2]),
    *("wide_resnet50_2", "resnet101", "resnet152"),
)
"""Registered models and those of a zoo in turn, so that a part of them has some of both."""

SIZE = 64

ROOT = Path(__file__).resolve().parents[3]
RUNNER = "tests.processes.runner_of_tests:Runner"
REPORT_BYTES = 60_000
"""About the size of a report of 20 comparison points."""

NET = """
import torch
from torch import nn


def build{number}():
    torch.manual_seed({number})
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * {rest}, 10))
"""


@dataclass(frozen=True)
class Place:
    """A working folder with a cache of its own."""

    folder: Path

    def run(self, *words: str) -> tuple[float, subprocess.CompletedProcess[str]]:
        """Run `parity` and return its seconds; raises for an error of the command line."""
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "parity", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={**os.environ, "PARITY_CACHE": str(self.folder / "cache")},
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return time.perf_counter() - start, done


def measure_commands(place: Place, cells: Sequence[Sequence[str]]) -> float:
    """Return the seconds of `parity compare` for every cell, one after another."""
    total = 0.0
    for words in cells:
        seconds, _ = place.run("compare", *words, "--json", "out.json")
        total += seconds
        print(f"  {seconds:5.1f} s  {' '.join(words)}", file=sys.stderr, flush=True)
    return total


def measure_sweep(place: Place, text: str, *options: str) -> tuple[float, dict[str, Any]]:
    """Return the seconds of a sweep and its result."""
    (place.folder / "sweep.toml").write_text(text)
    # A command that is killed must not seem to have the result of the one before.
    (place.folder / "out.json").unlink(missing_ok=True)
    seconds, _ = place.run("sweep", *options, "--json", "out.json")
    return seconds, json.loads((place.folder / "out.json").read_text())


def list_figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same wherever a cell runs, by cell."""
    figures = {}
    for cell in result["cells"]:
        report = cell["report"]
        name = " | ".join(cell[axis] for axis in ("model", "environment", "input"))
        figures[name] = [report[key] for key in ("verdict", "weights", "input", "stages", "levels")]
    return figures


def measure_published(count: int, old: str, ray: bool) -> Iterator[tuple[str, float, str]]:
    """Measure a grid of published models, in two environments, on two inputs."""
    models = MODELS[:count]
    (request,) = parse_packages(old, [old])
    python, seconds = ensure_environment(request)
    yield f"installing {old}", seconds, "timed apart"
    inputs = ("random", "photo.png")
    text = (
        f'models = {json.dumps(models)}\nenvironments = ["here", "{old}"]\ndevices = ["cpu"]\n'
        f"inputs = {json.dumps(inputs)}\nimage_size = {SIZE}\n"
    )
    common = ("--image-size", str(SIZE), "--device", "cpu")
    cells = [
        (model, "--input", source, *common, *choice)
        for model, choice, source in itertools.product(
            models, ((), ("--python", f"{request.runtime}={python}")), inputs
        )
    ]
    with _place() as place:
        _write_photograph(place.folder / "photo.png")
        commands = measure_commands(place, cells)
    yield f"{len(cells)} commands one after another", commands, ""
    with _place() as place:
        _write_photograph(place.folder / "photo.png")
        swept, result = measure_sweep(place, text)
        yield "the sweep", swept, f"{swept / commands:.2f}× of the commands, limit 0.6×"
        again, stored = measure_sweep(place, text)
        assert all(cell["stored"] for cell in stored["cells"])
        yield "the sweep again, nothing changed", again, "limit 10 s"
        if ray:
            yield from _measure_ray(place, text, result)


def _measure_ray(
    place: Place, text: str, expected: Mapping[str, Any]
) -> Iterator[tuple[str, float, str]]:
    from ray.cluster_utils import Cluster

    # As on a cluster that the sweep starts itself.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        options = ("--on", f"ray:{cluster.address}", "--out", "ray")
        seconds, result = measure_sweep(place, text, *options)
        same = list_figures(result) == list_figures(expected)
        yield "the sweep on two Ray nodes", seconds, f"{'the same' if same else 'OTHER'} figures"
        seconds, _ = measure_sweep(place, text, *options)
        yield "again on Ray, nothing changed", seconds, ""
    finally:
        cluster.shutdown()


def measure_user_code(count: int) -> Iterator[tuple[str, float, str]]:
    """Measure a grid of models in the user's code, whose children are not shared."""
    nets = "".join(NET.format(number=n, rest=(SIZE - 2) ** 2) for n in range(count))
    names = [f"net.py:build{n}" for n in range(count)]
    common = ("--device", "cpu")
    cells = [(name, "--shape", f"input=1x3x{SIZE}x{SIZE}", *common) for name in names]
    text = (
        f'models = {json.dumps(names)}\ndevices = ["cpu"]\n[shapes]\ninput = "1x3x{SIZE}x{SIZE}"\n'
    )
    with _place() as place:
        (place.folder / "net.py").write_text(nets)
        commands = measure_commands(place, cells)
    yield f"{len(cells)} commands with user code", commands, ""
    with _place() as place:
        (place.folder / "net.py").write_text(nets)
        swept, _ = measure_sweep(place, text)
    yield "the sweep of user code", swept, f"{swept / commands:.2f}× of the commands, limit 1.1×"


def measure_overhead(count: int) -> Iterator[tuple[str, float, str]]:
    """Measure empty tasks that return as much as a report has, here and on a Ray cluster."""
    os.environ["PYTHONPATH"] = str(ROOT)
    for place in (LocalExecutor(RUNNER, count=2), RayExecutor(RUNNER, count=2)):
        name = type(place).__name__
        start = time.perf_counter()
        with place as executor:
            started = time.perf_counter()
            executor.list_machines("tests.processes.runner_of_tests:describe")
            described = time.perf_counter()
            tasks = [Task(str(n), ("bytes", REPORT_BYTES)) for n in range(count)]
            outcomes = executor.run(tasks)
            next(outcomes)
            first, used = time.perf_counter(), time.process_time()
            assert sum(1 for _ in outcomes) == count - 1
            last, used = time.perf_counter(), time.process_time() - used
        end = time.perf_counter()
        yield f"{name}: starting", started - start, ""
        yield f"{name}: the kinds of machines", described - started, ""
        yield f"{name}: the first empty task", first - described, ""
        each, own = (1000 * seconds / (count - 1) for seconds in (last - first, used))
        note = f"{each:.2f} ms each, {own:.2f} ms of it on the cores of this process"
        yield f"{name}: {count - 1} more", last - first, note
        yield f"{name}: ending", end - last, ""


def measure_store(count: int) -> Iterator[tuple[str, float, str]]:
    """Measure what the sweep itself does for each cell: read its report, store it, find it again.

    The times are those of the cores: a busy machine does not change them.
    """
    with _place() as place:
        _, result = measure_sweep(
            place, 'models = ["resnet18"]\ninput = "random"\nimage_size = 32\n'
        )
    report = result["cells"][0]["report"]
    with tempfile.TemporaryDirectory() as name, open_store(Path(name)) as store:
        for what, work in (
            ("reading a report", lambda n: CellRecord(f"{n:032x}", {}, 1.0, report).read_report()),
            ("storing it", lambda n: store.save(CellRecord(f"{n:032x}", {}, 1.0, report), "0" * 8)),
            ("finding it again", lambda n: store.find(f"{n:032x}", ["0" * 8])),
        ):
            start = time.process_time()
            for n in range(count):
                work(n)
            seconds = time.process_time() - start
            note = f"{1000 * seconds / count:.2f} ms each"
            yield f"{what} of {len(json.dumps(report)) // 1000} kB, {count} times", seconds, note


def main() -> None:
    """Print one table of all measurements."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.sweeps", description=__doc__)
    parser.add_argument("--models", type=int, default=len(MODELS))
    parser.add_argument("--old", default="onnxruntime==1.31.1")
    parser.add_argument("--user", type=int, default=4)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--empty", type=int, default=1000, help="empty tasks, for the overhead")
    given = parser.parse_args()
    print("| what | seconds | |\n|---|---|---|")
    rows = itertools.chain(
        measure_published(given.models, given.old, given.ray) if given.models else (),
        measure_user_code(given.user) if given.user else (),
        measure_overhead(given.empty) if given.empty else (),
        measure_store(given.empty // 10) if given.empty else (),
    )
    for what, seconds, note in rows:
        print(f"| {what} | {seconds:.1f} | {note} |", flush=True)


@contextmanager
def _place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="parity-sweeps-") as name:
        yield Place(Path(name))


def _write_photograph(path: Path) -> None:
    """Write a picture of coloured noise."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    main()
