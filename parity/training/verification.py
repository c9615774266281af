"""The verification of a run: its first steps in float64, each from the reference's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from parity.network import weights
from parity.processes.child import Child
from parity.processes.training_requests import Float64StepRequest, StepRequest
from parity.training.configuration import Configuration
from parity.training.data.batches import BatchReader
from parity.training.optimizers import trainer_request
from parity.training.steps import StepComparison, compare_step, round_as_keras

Array = NDArray[Any]

REFERENCE = "torch"
"""The framework whose state every step starts from; the maps of the optimizers are made for it."""

SUBJECT = "keras"


def verify_steps(
    configuration: Configuration,
    children: Mapping[str, Child],
    pool: ThreadPoolExecutor,
    reader: BatchReader,
    *,
    initial: Path,
    folder: Path,
    steps: int,
    progress: Callable[[str, str], None],
) -> tuple[StepComparison, ...]:
    """Compare the run's first `steps` steps, on its own batches, in float64.

    The children hold the run's model; `initial` are its initial weights, `folder` is for files.
    """
    table = configuration.table
    order = [weight.name for _, weight in table.weights()]
    state: dict[str, Array] = {
        f"weight/{name}": np.asarray(value, np.float64)
        for name, value in weights.load(initial, table).items()
        if value.dtype.kind == "f"
    }
    comparisons = []
    per_epoch = reader.plan.steps
    for number in range(1, steps + 1):
        progress("verification", f"step {number}/{steps} in float64")
        epoch, place = divmod(number - 1, per_epoch)
        batch = reader.read(epoch + 1, place)
        np.save(folder / "images.npy", batch.images)
        np.save(folder / "labels.npy", batch.labels)
        weights.save(folder / "state.safetensors", state)

        def take(side: str, number: int = number) -> Mapping[str, Any]:
            request = _request(configuration, side, number, per_epoch, folder)
            return children[side].call("step_float64", **request.to_json())

        # Both at once.
        pending = {side: pool.submit(take, side) for side in (REFERENCE, SUBJECT)}
        answers = {side: future.result() for side, future in pending.items()}
        expected, actual = (
            safetensors.numpy.load_file(folder / f"{side}.safetensors") for side in pending
        )
        comparisons.append(
            compare_step(
                step=number,
                before=state,
                expected=expected,
                actual=actual,
                statistics=answers[REFERENCE]["statistics"],
                order=order,
            )
        )
        state = {
            name: value for name, value in expected.items() if name.startswith(("weight/", "slot/"))
        }
    progress("verification", "done")
    return tuple(comparisons)


def _request(
    configuration: Configuration, side: str, number: int, per_epoch: int, folder: Path
) -> Float64StepRequest:
    rate = configuration.schedule.rate_at(
        number - 1,
        base=configuration.optimizer.learning_rate,
        steps_per_epoch=per_epoch,
        epochs=configuration.epochs,
    )
    optimizer = configuration.optimizer
    if side == REFERENCE:
        optimizer, rate = round_as_keras(optimizer, number, rate)
    return Float64StepRequest(
        trainer_request(
            optimizer,
            side,
            configuration.table,
            label_smoothing=configuration.label_smoothing,
            seed=configuration.seed,
        ),
        StepRequest(
            str(folder / "images.npy"),
            str(folder / "labels.npy"),
            rate,
            optimizer.epsilon_at(side, number),
        ),
        str(folder / "state.safetensors"),
        number,
        str(folder / f"{side}.safetensors"),
    )
