"""What a sweep takes, against the sum of its comparisons as commands one after another.

    python -m tests.studies.sweeps [--models 10] [--user 4] [--ray] [--no-commands]
        [--environments onnxruntime==1.31.1 onnxruntime==1.32.0] [--inputs 2]

By default the grid is 10 models × 2 environments × 2 inputs = 40 cells. The commands and the sweep
each have an empty cache of exports; installing is timed apart. `--ray` also runs the sweep on a Ray
cluster of two nodes on this machine, then once more with a node that is killed half way, and
compares the results bit for bit. It exits with 1 if a limit is exceeded or a figure is another one.
With `--no-commands` the sweeps alone are run. A small part of it, in a minute or two:

    python -m tests.studies.sweeps --models 1 --inputs 1 --environments here --user 1 --empty 10
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.commands.sweep_file import HERE
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

ENVIRONMENTS = ("onnxruntime==1.31.1", "onnxruntime==1.32.0")
INPUTS = ("random", "photo.png")

MOST_OF_COMMANDS = 0.6
MOST_OF_USER_CODE = 1.1
MOST_SECONDS_UNCHANGED = 10.0
"""What the issue of sweeps promises."""

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
class Row:
    """One line of the table; `holds` says whether its limit does."""

    what: str
    seconds: float
    note: str = ""
    holds: bool = True

    @classmethod
    def of_ratio(cls, what: str, seconds: float, commands: float, limit: float) -> Row:
        """Return the line of a sweep, whose limit is that many times its commands' seconds."""
        ratio = seconds / commands
        return cls(what, seconds, f"{ratio:.2f}× of the commands, limit {limit}×", ratio <= limit)


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


def install(environments: Sequence[str]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Create the environments; yield the options of a command in each, and the seconds."""
    for name in environments:
        if name == HERE:
            yield (), 0.0
            continue
        requests = parse_packages(name, [name])
        made = [(request.runtime, *ensure_environment(request)) for request in requests]
        options = [
            word for runtime, python, _ in made for word in ("--python", f"{runtime}={python}")
        ]
        yield tuple(options), sum(seconds for _, _, seconds in made)


def measure_published(
    count: int, environments: Sequence[str], input_count: int, *, commands: bool, ray: bool
) -> Iterator[Row]:
    """Measure a grid of published models, in the environments, on the inputs."""
    models, inputs = MODELS[:count], INPUTS[:input_count]
    choices = []
    for name, (options, seconds) in zip(environments, install(environments), strict=True):
        choices.append(options)
        yield Row(f"installing {name}", seconds, "timed apart")
    text = (
        f"models = {json.dumps(models)}\nenvironments = {json.dumps(environments)}\n"
        f'devices = ["cpu"]\ninputs = {json.dumps(inputs)}\nimage_size = {SIZE}\n'
    )
    common = ("--image-size", str(SIZE), "--device", "cpu")
    cells = [
        (model, "--input", source, *common, *choice)
        for model, choice, source in itertools.product(models, choices, inputs)
    ]
    spent = 0.0
    if commands:
        with _place() as place:
            _write_photograph(place.folder / "photo.png")
            spent = measure_commands(place, cells)
        yield Row(f"{len(cells)} commands one after another", spent)
    with _place() as place:
        _write_photograph(place.folder / "photo.png")
        swept, result = measure_sweep(place, text)
        _require_all(result, len(cells))
        if commands:
            yield Row.of_ratio("the sweep", swept, spent, MOST_OF_COMMANDS)
        else:
            yield Row(f"the sweep of {len(cells)} cells", swept)
        again, stored = measure_sweep(place, text)
        assert all(cell["stored"] for cell in stored["cells"])
        yield Row(
            "the sweep again, nothing changed",
            again,
            f"limit {MOST_SECONDS_UNCHANGED:g} s",
            again < MOST_SECONDS_UNCHANGED,
        )
        if ray:
            yield from _measure_ray(place, text, result, swept)


def _require_all(result: Mapping[str, Any], count: int) -> None:
    """Raise `RuntimeError` unless a sweep has this many cells and all of them were run."""
    problems = [cell["problem"] for cell in result["cells"] if cell["problem"]]
    if problems or len(result["cells"]) != count:
        found = problems[0] if problems else f"{len(result['cells'])} cells"
        raise RuntimeError(f"expected {count} cells without a problem, found: {found}")


def _measure_ray(
    place: Place, text: str, expected: Mapping[str, Any], local: float
) -> Iterator[Row]:
    """Measure the sweep, which took `local` seconds, on a cluster; its figures are `expected`."""
    from ray.cluster_utils import Cluster

    # As on a cluster that the sweep starts itself.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        options = ("--on", f"ray:{cluster.address}", "--out")
        seconds, result = measure_sweep(place, text, *options, "ray")
        count = len(expected["cells"])
        same, note = _compare(result, expected)
        each = 1000 * (seconds - local) / count
        note = f"{note}; {each:+.0f} ms a cell against the sweep without Ray"
        yield Row("the sweep on two Ray nodes", seconds, note, same)
        seconds, stored = measure_sweep(place, text, *options, "ray")
        all_stored = all(cell["stored"] for cell in stored["cells"])
        yield Row("again on Ray, nothing changed", seconds, "", all_stored)
        with _kill_half_way(cluster, nodes, place.folder / "lost", count) as killed:
            seconds, result = measure_sweep(place, text, *options, "lost")
        same, note = _compare(result, expected)
        lost = f"a node was killed after {killed[0]} cells" if killed else "no node was killed"
        yield Row("the sweep on Ray, a node lost", seconds, f"{lost}; {note}", same and any(killed))
    finally:
        cluster.shutdown()


def _compare(result: Mapping[str, Any], expected: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether two sweeps have the same cells and figures, bit for bit; and a note."""
    problems = [cell["problem"] for cell in result["cells"] if cell["problem"]]
    if problems:
        return False, f"{len(problems)} cells without a result: {problems[0]}"
    if len(result["cells"]) != len(expected["cells"]):
        return False, f"{len(result['cells'])} cells"
    same = list_figures(result) == list_figures(expected)
    return same, f"{'the same' if same else 'OTHER'} figures"


@contextmanager
def _kill_half_way(cluster: Any, nodes: list[Any], folder: Path, count: int) -> Iterator[list[int]]:
    """While open, kill a node once a sweep has stored half of its cells in `folder`.

    Yields a list, which then has the number of cells that were stored.
    """
    killed: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            stored = len(list((folder / "cells").glob("*.json")))
            if stored >= count // 2:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                killed.append(stored)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        is_over.set()
        watcher.join()


def measure_user_code(count: int) -> Iterator[Row]:
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
    yield Row(f"{len(cells)} commands with user code", commands)
    with _place() as place:
        (place.folder / "net.py").write_text(nets)
        swept, result = measure_sweep(place, text)
    _require_all(result, len(cells))
    yield Row.of_ratio("the sweep of user code", swept, commands, MOST_OF_USER_CODE)


def measure_overhead(count: int) -> Iterator[Row]:
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
        yield Row(f"{name}: starting", started - start)
        yield Row(f"{name}: the kinds of machines", described - started)
        yield Row(f"{name}: the first empty task", first - described)
        each, own = (1000 * seconds / (count - 1) for seconds in (last - first, used))
        note = f"{each:.2f} ms each, {own:.2f} ms of it on the cores of this process"
        yield Row(f"{name}: {count - 1} more", last - first, note)
        yield Row(f"{name}: ending", end - last)


def measure_store(count: int) -> Iterator[Row]:
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
            size = len(json.dumps(report)) // 1000
            yield Row(f"{what} of {size} kB, {count} times", seconds, note)


def main() -> int:
    """Print one table of all measurements; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.sweeps", description=__doc__)
    parser.add_argument("--models", type=int, default=len(MODELS))
    parser.add_argument("--environments", nargs="+", default=list(ENVIRONMENTS))
    parser.add_argument("--inputs", type=int, default=len(INPUTS))
    parser.add_argument("--user", type=int, default=4)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--no-commands", action="store_true")
    parser.add_argument("--empty", type=int, default=1000, help="empty tasks, for the overhead")
    given = parser.parse_args()
    print("| what | seconds | |\n|---|---|---|")
    rows = itertools.chain(
        measure_published(
            given.models,
            given.environments,
            given.inputs,
            commands=not given.no_commands,
            ray=given.ray,
        )
        if given.models
        else (),
        measure_user_code(given.user) if given.user else (),
        measure_overhead(given.empty) if given.empty else (),
        measure_store(max(1, given.empty // 10)) if given.empty else (),
    )
    hold = True
    for row in rows:
        hold &= row.holds
        note = row.note if row.holds else f"{row.note}, **not met**"
        print(f"| {row.what} | {row.seconds:.1f} | {note} |", flush=True)
    return 0 if hold else 1


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
    sys.exit(main())
