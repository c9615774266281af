"""`python -m tests.studies.benchmarks.training`: training through parity against a bare loop.

ResNet-18 on noise, SGD, one thread. The bare loop has its arrays in memory; through parity they
come from the loader as files, in a child. Both run in turns, since other programs share the cores;
the figure is the ratio of the medians of all steps.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from parity.network import architectures, weights
from parity.network.spec import ModelSpec
from parity.processes.child import Child
from parity.processes.training_requests import StepRequest
from parity.training import initialization
from parity.training.data.batches import BatchPlan, BatchReader, Preprocessing
from parity.training.data.images import ArrayImages
from parity.training.data.loading import open_loader
from parity.training.optimizers import Optimizer, trainer_request
from parity.training.verification import StepInput, StepVerifier

CLASSES = 10

ISOLATED = 5
"""The number of compared steps that are timed alone."""


class BareLoop:
    """A framework's own loop in a process of its own; each line of input takes some steps."""

    def __init__(self, framework: str, size: int, batch: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--bare", framework, str(size), str(batch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def take(self, steps: int) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(steps, file=self._process.stdin, flush=True)
        return [float(word) for word in self._process.stdout.readline().split()]

    def close(self) -> None:
        self._process.communicate()


def serve_bare(framework: str, size: int, batch: int) -> None:
    """Take steps on arrays in memory, and print the seconds of each."""
    random = np.random.default_rng(0)
    images = random.random((batch, 3, size, size), np.float32)
    labels = random.integers(0, CLASSES, batch)
    spec = _spec(size)
    if framework == "torch":
        import torch

        from parity.network.models.resnet.torch import build

        torch.set_num_threads(1)
        model = build(spec).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        x, y = torch.from_numpy(images), torch.from_numpy(labels)

        def step() -> None:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
    else:
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        from parity.network.models.resnet.keras import build as build_keras

        twin = build_keras(spec)
        twin.compile(
            optimizer=keras.optimizers.SGD(1e-3, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["sparse_categorical_accuracy"],
            jit_compile=False,
        )
        nhwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1))

        def step() -> None:
            twin.train_on_batch(nhwc, labels)

    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        print(*seconds, flush=True)


def _spec(size: int) -> ModelSpec:
    return architectures.get("resnet18", classes=CLASSES, image_size=(size, size))


def measure(
    framework: str, *, size: int, batch: int, rounds: int, steps: int
) -> tuple[float, float]:
    """Return the median seconds of a step, bare and through parity."""
    spec, optimizer = _spec(size), Optimizer("sgd", 1e-3, momentum=0.9)
    count = batch * (rounds + 1) * steps
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size), np.uint8)
    images = ArrayImages("noise", pixels, tuple(i % CLASSES for i in range(count)), (0,) * count)
    reader = BatchReader(images, BatchPlan(count, batch), Preprocessing((size, size), 3))
    bare_loop, child = BareLoop(framework, size, batch), Child(framework)
    times: dict[str, list[float]] = {"bare": [], "parity": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        initial = folder / "initial.safetensors"
        weights.save(initial, initialization.draw(spec, "he-normal", seed=0))
        child.call("set_threads", count=1)
        child.call("load", spec=spec.to_json())
        child.call("load_weights", path=str(initial))
        child.call(
            "start_training", **trainer_request(optimizer, framework, spec.table()).to_json()
        )
        with open_loader(folder, workers=0) as loader:
            batches = loader.iterate(reader, 1)
            for number in range(rounds + 1):
                bare = bare_loop.take(steps)
                driven = []
                for _ in range(steps):
                    started = time.perf_counter()
                    files = next(batches)
                    request = StepRequest(str(files.images), str(files.labels), 1e-3)
                    child.call("train_step", **request.to_json())
                    driven.append(time.perf_counter() - started)
                # The first round compiles.
                if number:
                    times["bare"] += bare
                    times["parity"] += driven
            batches.close()
    child.close()
    bare_loop.close()
    return statistics.median(times["bare"]), statistics.median(times["parity"])


def measure_comparison(*, size: int, batch: int, steps: int, compared: int) -> tuple[float, ...]:
    """Return the seconds of a bare pair of steps, of an isolated compared step, of two bare runs,
    and of one run of both frameworks with `compared` of its steps compared.

    Runs include what their first steps compile, no start of processes. The medians of steps do not:
    most of the bare ones, and the `ISOLATED` compared ones after the run, compile nothing.
    """
    spec, optimizer = _spec(size), Optimizer("sgd", 1e-3, momentum=0.9)
    random = np.random.default_rng(0)
    images = random.random((batch, 3, size, size), np.float32)
    labels = random.integers(0, CLASSES, batch)
    bare = {name: BareLoop(name, size, batch) for name in ("keras", "torch")}
    pair, runs = 0.0, 0.0
    for loop in bare.values():
        seconds = loop.take(steps)
        pair += statistics.median(seconds)
        runs += sum(seconds)
        loop.close()
    children = {name: Child(name) for name in bare}
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(2) as pool:
        folder = Path(temporary)
        initial, state = folder / "initial.safetensors", folder / "state.safetensors"
        weights.save(initial, initialization.draw(spec, "he-normal", seed=0))
        np.save(folder / "batch.npy", images)
        np.save(folder / "classes.npy", labels)
        for name, child in children.items():
            child.call("set_threads", count=1)
            child.call("load", spec=spec.to_json())
            child.call("load_weights", path=str(initial))
            child.call("start_training", **trainer_request(optimizer, name, spec.table()).to_json())
        verifier = StepVerifier(
            spec.table(),
            optimizer,
            lambda side, operation, /, **arguments: children[side].call(operation, **arguments),
            folder,
            pool=pool,
        )
        request = StepRequest(str(folder / "batch.npy"), str(folder / "classes.npy"), 1e-3)

        def compare(number: int) -> float:
            """Compare a step with what the run has reached; return its seconds."""
            before = time.perf_counter()
            children["torch"].call("save_canonical_state", path=str(state))
            verified = verifier.verify(StepInput(number, 1e-3, images, labels, state))
            if not verified.agrees:
                raise AssertionError(f"step {number} differs")
            return time.perf_counter() - before

        started = time.perf_counter()
        for number in range(1, steps + 1):
            if number <= compared:
                compare(number)
            list(pool.map(lambda c: c.call("train_step", **request.to_json()), children.values()))
        whole = time.perf_counter() - started
        alone = [compare(number) for number in range(steps + 1, steps + 1 + ISOLATED)]
    for child in children.values():
        child.close()
    return pair, statistics.median(alone), runs, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        framework, size, batch = arguments.bare
        serve_bare(framework, int(size), int(batch))
        return
    print("| framework | bare, s a step | through parity | ratio |\n|---|---|---|---|", flush=True)
    for framework in ("keras", "torch"):
        bare, driven = measure(
            framework,
            size=arguments.image_size,
            batch=arguments.batch,
            rounds=arguments.rounds,
            steps=arguments.steps,
        )
        print(f"| {framework} | {bare:.3f} | {driven:.3f} | {driven / bare:.2f} |", flush=True)
    pair, alone, runs, whole = measure_comparison(
        size=arguments.image_size, batch=arguments.batch, steps=50, compared=3
    )
    print("\n| comparison | bare, s | through parity | ratio |\n|---|---|---|---|")
    print(f"| one isolated step | {pair:.2f} | {alone:.2f} | {alone / pair:.1f} |")
    print(f"| 50 steps, three compared | {runs:.1f} | {whole:.1f} | {whole / runs:.2f} |")


if __name__ == "__main__":
    main()
