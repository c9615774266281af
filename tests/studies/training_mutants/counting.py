"""Runs the mutants and the correct trainings, and counts what was found."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.studies.training_mutants.bench import OPTIMIZERS, Bench, Task, constant, falling
from tests.studies.training_mutants.faults import Fault


@dataclass(frozen=True)
class Outcome:
    """What was found of one mutant; `causes` are the names that it was given."""

    fault: Fault
    model: str
    optimizer: str
    subject: str
    step: int
    kind: str
    tensor: str
    causes: tuple[str, ...]
    problem: str = ""

    @property
    def label(self) -> str:
        return f"{self.fault.name} ({self.model}, {self.optimizer}, {self.subject})"

    @property
    def detected(self) -> bool:
        """Whether the first step that differs is the one in which the fault acts first."""
        return self.step == self.fault.acts

    @property
    def located(self) -> bool:
        return (
            self.detected
            and self.kind in self.fault.kinds
            and (not self.fault.tensors or self.tensor in self.fault.tensors)
        )

    @property
    def named(self) -> bool:
        return self.causes == (self.fault.cause,)

    @property
    def wrongly_named(self) -> bool:
        """Whether a cause was given that is not the fault's, even beside the right one."""
        return any(cause != self.fault.cause for cause in self.causes)


def run_mutants(
    bench: Bench, faults: Iterable[Fault], *, models: frozenset[str] | None = None, seed: int = 0
) -> Iterator[Outcome]:
    """Yield the outcome of each fault on each of its models, optimizers and subjects."""
    for fault in faults:
        for model, optimizer in fault.on:
            if models is not None and model not in models:
                continue
            for subject in fault.subjects:
                yield _run(bench, fault, model, optimizer, subject, seed)


def _run(
    bench: Bench, fault: Fault, model: str, optimizer: str, subject: str, seed: int
) -> Outcome:
    task = Task(
        model, OPTIMIZERS[optimizer], seed=seed, rates=fault.rates, augmentation=fault.augmentation,
        steps_per_epoch=fault.steps_per_epoch, accumulate=fault.accumulate,
    )  # fmt: skip
    try:
        steps = bench.run(
            task, fault.acts, subject=subject, change=fault.change, patch=fault.patch,
            prepare=fault.prepare,
        )  # fmt: skip
    except Exception:  # noqa: BLE001
        return Outcome(fault, model, optimizer, subject, 0, "", "", (), traceback.format_exc())
    last = steps[-1]
    if last.agrees:
        return Outcome(fault, model, optimizer, subject, 0, "", "", ())
    first = last.semantics.first_difference()
    names = tuple(cause.name for cause in last.causes)
    kind, tensor = ("", "") if first is None else (first.kind, first.tensor)
    return Outcome(fault, model, optimizer, subject, last.number, kind, tensor, names)


@dataclass(frozen=True)
class Clean:
    """A correct training: its steps, those at a kink or tie, and what was wrongly alarmed."""

    task: Task
    steps: int
    choices: int
    alarm: str = ""


def run_clean(bench: Bench, tasks: Iterable[tuple[Task, int]]) -> Iterator[Clean]:
    """Yield what was found of each correct training, in float64 and in float32."""
    for task, count in tasks:
        steps = bench.run(task, count, numerics=True, stop=False)
        compared = [each for step in steps for each in step.comparisons]
        alarms = [
            f"{task.model}, {task.optimizer.name}, seed {task.seed}: step {each.step}, "
            f"{each.precision}, {each.first_difference()}"
            for each in compared
            if not each.agrees
        ]
        choices = sum(each.choices is not None for each in compared)
        yield Clean(task, len(steps), choices, "; ".join(alarms))


def list_clean_tasks(
    seeds: int, *, resnet: bool = True, precision: str = "float32"
) -> Iterator[tuple[Task, int]]:
    """Yield correct trainings and their number of steps: models, optimizers, schedules, seeds."""
    for model in ("mlp", "cnn"):
        for name, optimizer in OPTIMIZERS.items():
            for seed in range(seeds):
                rates = falling if seed % 2 else constant
                smoothing = 0.1 if name == "adamw" else 0.0
                task = Task(model, optimizer, seed=seed, rates=rates, label_smoothing=smoothing)
                yield dataclasses.replace(task, precision=precision), 3
    if resnet:
        for name in ("momentum", "adam"):
            yield Task("resnet18", OPTIMIZERS[name], precision=precision), 2
