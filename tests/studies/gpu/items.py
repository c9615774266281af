"""The items that are run on the GPU: one function each, which returns figures or raises."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from parity.commands import doctor
from parity.commands import evaluate as evaluating
from parity.commands import train as training
from parity.errors import DeviceMemoryError, ParityError, UsageError
from parity.network import architectures, weights
from parity.processes.child import Child
from parity.processes.interpreters import select_interpreter
from parity.report.model import Report
from parity.training import initialization
from parity.training.data.batches import BatchPlan, BatchReader, Preprocessing
from parity.training.data.sources import open_dataset
from parity.training.description import TrainedDescription
from parity.training.optimizers import Optimizer
from parity.training.verification import REFERENCE, StepInput, StepVerifier
from tests.studies.gpu.bench import PRECISIONS, SUBJECTS, Bench

Figures = Mapping[str, Any]


class WrongResult(AssertionError):
    """The result of an item is wrong."""


class NotRun(Exception):
    """An item cannot be run here; the message says why."""


@dataclass(frozen=True)
class Item:
    """One check; `needs` are the subjects without which it cannot be run."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[Bench], Figures]


def require(condition: bool, message: object) -> None:
    """Raise `Failed` with a message unless a condition is true."""
    if not condition:
        raise WrongResult(str(message))


def make_precision_item(subject: str, precision: str) -> Item:
    """Return the check of a subject in a precision: at that precision's floor, flags included."""

    def run(bench: Bench) -> Figures:
        try:
            report = bench.compare([subject], precision=precision)
        except UsageError as error:
            # A runtime without kernels for a precision is no failure.
            raise NotRun(str(error)) from error
        require_parity(report)
        facts = report.subjects[subject]
        require(facts.device == "gpu", facts.device)
        return {
            "flags": facts.flags,
            "proof": facts.proof,
            "run_seconds": facts.seconds.get("run"),
            "compare_seconds": report.seconds,
            "stages": find_stage_errors(report, subject),
        }

    return Item(f"{subject} in {precision}", (subject,), run)


def require_parity(report: Report) -> None:
    """Raise `Failed`, with the failures and the largest error, unless the verdict is parity."""
    failures = [f"{name}: {f.failure}" for name, f in report.subjects.items() if f.failure]
    worst = max(
        (r.x_floor for stage in report.stages for r in stage.subjects.values()), default=0.0
    )
    require(report.verdict == "parity", f"{report.verdict}, {worst:.3g}x the floor; {failures}")


def find_stage_errors(report: Report, subject: str) -> dict[str, dict[str, float]]:
    """Return the largest error of a subject by stage, and how many floors that is."""
    return {
        stage.name: {
            "max_abs": stage.subjects[subject].max_abs,
            "x_floor": stage.subjects[subject].x_floor,
        }
        for stage in report.stages
    }


def compare_cpu_with_gpu(bench: Bench) -> Figures:
    """The same models on both, against one float64 reference on the CPU."""
    subjects = ["torch@cpu", "torch@gpu", "keras@gpu", "onnx-torch@gpu"]
    report = bench.compare(subjects)
    require_parity(report)
    pairs = {name: pair.max_abs for name, pair in report.stages[-1].pairs.items()}
    return {"compare_seconds": report.seconds, "logits_max_abs": pairs}


def explain_tf32(bench: Bench) -> Figures:
    """TF32, judged as float32, diverges, and the cause is found to be TF32."""
    report = bench.compare(["torch@gpu"], precision="tf32", judge_as="float32", explain=True)
    require(report.verdict == "divergence", report.verdict)
    require([cause.cause for cause in report.causes] == ["tf32"], report.causes)
    return dict(report.causes[0].evidence)


def repeat_runs(bench: Bench) -> Figures:
    """Three runs of all subjects are bit for bit the same."""
    report = bench.compare(bench.present, repeat=3)
    assert report.repeat is not None
    differences = {name: count for name, count in report.repeat.differed.items() if count}
    require(not differences, f"runs that were not bit for bit the first one: {differences}")
    return {"runs": report.repeat.runs}


def compare_backends(bench: Bench) -> Figures:
    """One Keras model on three backends."""
    report = bench.compare(["keras@gpu", "keras[jax]@gpu", "keras[torch]@gpu"], reference="keras")
    require_parity(report)
    return {"compare_seconds": report.seconds}


def compare_serially(bench: Bench) -> Figures:
    """`--serial` gives the same verdict."""
    report = bench.compare(bench.present, serial=True)
    require_parity(report)
    return {"compare_seconds": report.seconds}


def compare_references(bench: Bench) -> Figures:
    """Two models that references name, read and aligned: both on the GPU, in every precision."""
    figures: dict[str, Any] = {}
    for precision in PRECISIONS:
        try:
            report = bench.compare_references(
                (
                    "torch=tests/twins/torch_small.py:build",
                    "keras=tests/twins/keras_small.py:build",
                ),
                device="gpu",
                precision=precision,
            )
        except UsageError as error:
            figures[precision] = f"not run: {error}"
            continue
        require_parity(report)
        devices = {facts.device for facts in report.subjects.values()}
        require(devices == {"gpu"}, f"{precision}: {devices}")
        figures[precision] = report.seconds
    return {"compare_seconds": figures}


def compile_with_xla(bench: Bench) -> Figures:
    """`--xla` is at the floor too, and is in the report."""
    report = bench.compare(["keras@gpu"], xla=True)
    require_parity(report)
    require(report.subjects["keras@gpu"].flags["xla"] is True, "the flag is not in the report")
    return {"run_seconds": report.subjects["keras@gpu"].seconds["run"]}


def verify_exports(bench: Bench) -> Figures:
    """The files that both exporters write compute, on the GPU, what float64 does."""
    seconds = {}
    for side in ("keras", "torch"):
        with tempfile.TemporaryDirectory(prefix="parity-gpu-") as folder:
            path = Path(folder) / f"{side}.onnx"
            bench.export(side, path)
            report = bench.compare([f"onnx-{side}@gpu"], **{f"onnx_{side}": path})
        require_parity(report)
        facts = report.subjects[f"onnx-{side}@gpu"]
        require(facts.device == "gpu", facts.device)
        seconds[side] = facts.seconds.get("run")
    return {"run_seconds": seconds}


def exceed_memory(bench: Bench) -> Figures:
    """A batch that is too large for any GPU is an error that names one that fits."""
    assert bench.gpu is not None
    # An item of a ResNet-50 at 224 takes some 20 MB of activations at the widest place.
    batch = int(bench.gpu.bytes / 8e6)
    with bench.load_child("torch@gpu", batch) as (child, arguments):
        try:
            child.call("run", **arguments)
        except DeviceMemoryError as error:
            require("fits: --batch" in str(error), error)
            return {"batch": batch, "message": str(error)}
    raise NotRun(f"a batch of {batch} fits in the GPU's memory")


def make_forward_item(subject: str) -> Item:
    """Return the check that times a forward pass at batch 8, the best of 5; logits captured."""

    def run(bench: Bench) -> Figures:
        with bench.load_child(subject, 8) as (child, arguments):
            seconds = [child.call("run", **arguments)["seconds"] for _ in range(5)]
        return {"forward_seconds": min(seconds), "first_seconds": seconds[0]}

    return Item(f"bare forward of {subject}", (subject,), run)


def evaluate_images(bench: Bench) -> Figures:
    """The digits through the four runtimes on the GPU: the labels and the loss of the CPU."""
    spec = architectures.get(bench.model, classes=10, image_size=(32, 32), channels=1)
    classes = tuple(map(str, range(10)))
    description = TrainedDescription(spec.name, classes, Preprocessing(spec.image_size, 1))
    with tempfile.TemporaryDirectory(prefix="parity-gpu-") as folder:
        path = Path(folder) / "weights.safetensors"
        values = initialization.draw(spec, "he-normal", seed=0)
        weights.save(path, values, metadata=description.to_metadata())
        found, expected = (
            evaluating.evaluate(
                bench.model, data="digits", weights=path, device=device, subjects=subjects,
                exact=True, python=bench.python,
            )
            for device, subjects in (("gpu", [n.removesuffix("@gpu") for n in FOUR]),
                                     ("cpu", ["torch"]))
        )  # fmt: skip
    require(not found.failures, found.failures)
    require(found.changed == 0, f"{found.changed} labels change")
    (split,), (cpu,) = found.splits, expected.splits
    for name, figures in split.scores.items():
        require(figures.confusion == cpu.scores["torch"].confusion, f"{name}: other labels")
    assert split.reference is not None
    return {"seconds": split.seconds, "largest_error": split.reference.largest_error}


def compare_training_steps(bench: Bench) -> Figures:
    """A step of Adam on the GPU, in both frameworks, against PyTorch's in float64 on the CPU."""
    spec = architectures.get(bench.model, classes=10, image_size=(32, 32), channels=1)
    optimizer, table = Optimizer("adam", 1e-3), spec.table()
    data = open_dataset("digits")
    reader = BatchReader(data.training, BatchPlan(32, 32), Preprocessing((32, 32), 1))
    batch, figures = reader.read(1, 0), {}
    with tempfile.TemporaryDirectory(prefix="parity-gpu-") as name, ExitStack() as stack:
        folder = Path(name)
        initial, state = folder / "initial.safetensors", folder / "state.safetensors"
        values = initialization.draw(spec, "he-normal", seed=0)
        weights.save(initial, values)
        weights.save(state, {f"weight/{key}": value for key, value in values.items()})

        def load(runtime: str, *, gpu: bool) -> Child:
            child = Child(runtime, python=select_interpreter(runtime, bench.python), gpu=gpu)
            stack.callback(child.close)
            child.call("load", spec=spec.to_json())
            child.call("load_weights", path=str(initial))
            return child

        reference = load(REFERENCE, gpu=False)
        for subject in ("keras@gpu", "torch@gpu"):
            runtime = subject.partition("@")[0]
            sides = {REFERENCE: reference, subject: load(runtime, gpu=True)}
            verifier = StepVerifier(
                table, optimizer, partial(_call_side, sides), folder, subject=subject,
                framework=runtime, device="gpu",
            )  # fmt: skip
            started = time.monotonic()
            step = verifier.verify(StepInput(1, 1e-3, batch.images, batch.labels, state))
            require(step.agrees, f"{subject}: {step.failing and step.failing.first_difference()}")
            assert step.numerics is not None
            worst = step.numerics.worst()
            figures[subject] = {
                "seconds": time.monotonic() - started,
                "float64": max(error.rel_l2 for error in step.semantics.errors),
                "x_floor": None if worst is None else worst.x_floor,
            }
    return figures


def train_model(bench: Bench) -> Figures:
    """A run of two epochs on the GPU, the second resumed, in every precision."""
    figures: dict[str, Any] = {}
    for precision in ("float32", "bfloat16", "float16"):
        with tempfile.TemporaryDirectory(prefix="parity-gpu-") as folder:
            options: dict[str, Any] = {
                "data": "digits", "image_size": 32, "batch": 64, "learning_rate": 1e-3,
                "out": Path(folder) / "run", "device": "gpu", "precision": precision,
                "python": bench.python,
            }  # fmt: skip
            first = training.train(bench.model, epochs=1, verify=True, every=100, **options)
            run = training.train(bench.model, epochs=2, resume=True, **options)
        require(bool(first.verified_steps) and first.agrees, f"{precision}: a step differs")
        for each in run.frameworks:
            accuracy = each.epochs[-1].validation_accuracy
            require(accuracy > 0.5, f"{each.framework} in {precision}: {accuracy:.0%} right")
            figures[f"{each.framework} in {precision}"] = {
                "validation_accuracy": accuracy, "images_per_second": each.images / each.seconds,
            }  # fmt: skip
    return figures


def _call_side(
    sides: Mapping[str, Child], side: str, operation: str, /, **arguments: Any
) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = sides[side].call(operation, **arguments)
    return answer


def inspect_runtimes(bench: Bench) -> Figures:
    """`parity doctor --device gpu` finds no problem in any runtime."""
    status = doctor.inspect_machine(device="gpu", python=bench.python)
    require(status.exit_code == 0, status.missing)
    return {each.runtime: dict(each.flags) for each in status.runtimes}


FOUR = ("keras@gpu", "torch@gpu", "onnx-keras@gpu", "onnx-torch@gpu")

ITEMS = (
    *(make_precision_item(subject, name) for name in PRECISIONS for subject in SUBJECTS),
    *(make_forward_item(subject) for subject in ("keras@gpu", "torch@gpu")),
    Item("CPU against GPU", ("torch@gpu", "keras@gpu", "onnx-torch@gpu"), compare_cpu_with_gpu),
    Item("TF32 is named as the cause", ("torch@gpu",), explain_tf32),
    Item("three runs are bit for bit the same", (), repeat_runs),
    Item(
        "three backends of Keras",
        ("keras@gpu", "keras[jax]@gpu", "keras[torch]@gpu"),
        compare_backends,
    ),
    Item("two models by reference", ("keras@gpu", "torch@gpu"), compare_references),
    Item("export verified on CUDA", ("onnx-keras@gpu", "onnx-torch@gpu"), verify_exports),
    Item("--xla", ("keras@gpu",), compile_with_xla),
    Item("--serial", (), compare_serially),
    Item("out of memory", ("torch@gpu",), exceed_memory),
    Item("one evaluation", FOUR, evaluate_images),
    Item("one compared training step", ("keras@gpu", "torch@gpu"), compare_training_steps),
    Item("one training run", ("keras@gpu", "torch@gpu"), train_model),
    Item("doctor --device gpu", FOUR, inspect_runtimes),
)


def attempt(item: Item, bench: Bench) -> tuple[str, str | None, Figures]:
    """Run an item; return `passed`, `failed` or `not run`, the reason, and the figures."""
    reason = bench.explain_absence(item.needs)
    if reason is None and not bench.present:
        reason = next(iter(bench.absent.values()), "no subject can be run")
    if reason is not None:
        return "not run", reason, {}
    try:
        return "passed", None, item.run(bench)
    except NotRun as error:
        return "not run", str(error), {}
    except (WrongResult, ParityError) as error:
        return "failed", str(error), {}
    except Exception as error:  # noqa: BLE001 (one item's fault must not cost the others' record)
        return "failed", f"{type(error).__name__}: {error}", {}
