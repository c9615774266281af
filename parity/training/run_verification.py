"""The verification of a run while it trains: which steps, and what each starts from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from parity import files
from parity.errors import InputError
from parity.processes.child import Child
from parity.training.configuration import Configuration
from parity.training.data.batches import Batch, BatchReader, join_batches
from parity.training.data.loading import BatchFiles
from parity.training.steps import OtherChoices, PartError, StepCause, StepComparison
from parity.training.verification import (
    JUDGED_PRECISIONS,
    REFERENCE,
    BatchSource,
    Explain,
    StepInput,
    StepVerifier,
    VerifiedStep,
)

SCHEMA = "parity.verification/1"

FIRST_STEPS = 3
"""The number of first steps that are always compared."""


def choose_steps(per_epoch: int, epochs: int, every: int | None = None) -> frozenset[int]:
    """Return the steps of a run to compare, from 1 on.

    The first three; the last of the first epoch, whose batch may be smaller, and the one after it,
    whose order is another; one in the middle and the last. Or every `every`-th, from the first on.
    """
    total = per_epoch * epochs
    if every is not None:
        return frozenset(range(1, total + 1, every))
    later = {per_epoch, per_epoch + 1, (total + 1) // 2, total}
    return frozenset(n for n in {*range(1, FIRST_STEPS + 1), *later} if n <= total)


class RunVerifier:
    """Compares chosen steps of a run before it takes them; keeps the results in the run's folder.

    A step that was compared before the run was resumed is not compared again.
    """

    def __init__(
        self,
        configuration: Configuration,
        children: Mapping[str, Child],
        pool: ThreadPoolExecutor,
        reader: BatchReader,
        *,
        folder: Path,
        results: Path,
        every: int | None = None,
        explain: Explain | None = None,
        progress: Callable[[str, str], None],
    ) -> None:
        self._configuration = configuration
        self._children = children
        self._reader = reader
        self._folder = folder
        self._results = results
        self._show = progress
        epochs = configuration.epochs - configuration.initial_epoch
        self._chosen = choose_steps(reader.plan.updates, epochs, every)
        self._verifier = StepVerifier(
            configuration.table,
            configuration.optimizer,
            self._call,
            folder,
            loss=configuration.loss,
            label_smoothing=configuration.label_smoothing,
            seed=configuration.seed,
            accumulate=configuration.accumulate,
            device=configuration.device,
            precision=(
                configuration.precision
                if configuration.precision in JUDGED_PRECISIONS
                else "float32"
            ),
            pool=pool,
            explain=explain,
            hidden_kinks=configuration.model.hidden_kinks,
        )
        self.steps: dict[int, VerifiedStep] = {step.number: step for step in read_results(results)}

    def _call(self, side: str, operation: str, /, **arguments: Any) -> Mapping[str, Any]:
        return self._children[side].call(operation, **arguments)

    def verify_if_chosen(
        self, number: int, epoch: int, place: int, batch: BatchFiles, rates: tuple[float, ...]
    ) -> None:
        """Compare step `number` of the optimizer, step `place` of `epoch`, if it is chosen.

        `batch` is the first of its micro-batches. `rates` are those of the step before, of this
        step, and of the next.
        """
        if number not in self._chosen or number in self.steps:
            return
        self._show("verification", f"step {number}")
        state = self._folder / "state.safetensors"
        self._children[REFERENCE].call("save_canonical_state", path=str(state))
        before, rate, after = rates
        plateau = self._configuration.callbacks.plateau
        loaded = Batch(np.load(batch.images), np.load(batch.labels))
        others = [self._reader.read(epoch, each) for each in self._reader.plan.group(place)[1:]]
        joined = join_batches([loaded, *others])
        given = StepInput(
            number,
            rate,
            joined.images,
            joined.labels,
            state,
            rate_before=before,
            rate_after=after,
            plateau_factor=None if plateau is None else plateau.factor,
            source=BatchSource(self._reader, epoch, place),
            micro_batch_sizes=joined.micro_batch_sizes,
        )
        self.steps[number] = self._verifier.verify(given)
        self._show("verification", "done")
        write_results(self._results, tuple(self.steps.values()))


def write_results(path: Path, steps: tuple[VerifiedStep, ...]) -> None:
    """Write the compared steps as JSON."""
    data = {"schema": SCHEMA, "steps": [step_to_json(step) for step in steps]}
    files.write_text(path, json.dumps(data, indent=1) + "\n")


def read_results(path: Path) -> tuple[VerifiedStep, ...]:
    """Return the steps that `write_results` wrote; none if there is no file.

    Raises `InputError` for a file that is not one of this version.
    """
    if not path.is_file():
        return ()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"its schema is {data['schema']!r}")
        return tuple(_step_from_json(step) for step in data["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(
            f"{path}: expected compared steps of {SCHEMA}, found {what}; delete it to compare the "
            "steps again"
        ) from error


def step_to_json(step: VerifiedStep) -> dict[str, Any]:
    """Return a compared step as plain data."""
    return {
        "number": step.number,
        "semantics": dataclasses.asdict(step.semantics),
        "numerics": None if step.numerics is None else dataclasses.asdict(step.numerics),
        "mixed": None if step.mixed is None else dataclasses.asdict(step.mixed),
        "causes": [dataclasses.asdict(cause) for cause in step.causes],
    }


def _step_from_json(data: Mapping[str, Any]) -> VerifiedStep:
    # Runs of earlier releases have none in mixed precision.
    numerics, mixed = data["numerics"], data.get("mixed")
    return VerifiedStep(
        data["number"],
        _comparison_from_json(data["semantics"]),
        None if numerics is None else _comparison_from_json(numerics),
        tuple(StepCause(**cause) for cause in data["causes"]),
        None if mixed is None else _comparison_from_json(mixed),
    )


def _comparison_from_json(data: Mapping[str, Any]) -> StepComparison:
    choices = data["choices"]
    if choices is not None:
        choices = OtherChoices(tuple(choices["rows"]), choices["count"], choices["x_floor"])
    return StepComparison(
        data["step"],
        tuple(PartError(**error) for error in data["errors"]),
        tuple(data["missing"]),
        data["precision"],
        choices,
        tuple(data.get("kinks", ())),
    )
