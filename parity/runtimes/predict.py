"""The operation that returns a model's outputs on a batch of images, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import InputError
from parity.runtimes.framework import Framework
from parity.runtimes.run import read_input

Array = NDArray[Any]


class PredictOperations(Framework):
    """Predicts with the loaded model, as a deployed program would: no tensor is captured."""

    _predictors: tuple[Any, dict[tuple[str, str], Any]] | None = None
    """The loaded model, and what `prepare_prediction` returned for it."""

    def prepare_prediction(self, *, precision: str, device: str) -> Any:
        """Return what `compute_outputs` takes: the model in a precision, on a device."""
        raise NotImplementedError

    def compute_outputs(self, prepared: Any, images: Array) -> Array:
        """Return the outputs (N, …) of images (N, C, H, W), in inference mode."""
        raise NotImplementedError

    def predict(
        self, *, images: str, out: str, precision: str = "float32", device: str = "cpu"
    ) -> dict[str, Any]:
        """Write the outputs (N, classes) of the images of an `.npy` file to the `.npy` file `out`.

        Raises `InputError` for a model whose output is not one row of scores an image.
        """
        if self._predictors is None or self._predictors[0] is not self.model:
            self._predictors = self.model, {}
        known = self._predictors[1]
        if (precision, device) not in known:
            known[precision, device] = self.prepare_prediction(precision=precision, device=device)
        data = read_input(images)
        started = time.perf_counter()
        outputs = self.compute_outputs(known[precision, device], data)
        seconds = time.perf_counter() - started
        save_outputs(self.name, outputs, Path(out), count=len(data))
        return {"seconds": seconds}


def save_outputs(runtime: str, outputs: Array, path: Path, *, count: int) -> None:
    """Write a classifier's outputs; trailing axes of length 1 are left out. Raises `InputError`."""
    scores = np.asarray(outputs)
    while scores.ndim > 2 and scores.shape[-1] == 1:
        scores = scores[..., 0]
    if scores.ndim != 2 or scores.shape[0] != count or scores.shape[1] < 2:
        raise InputError(
            f"{runtime}: the model's output has the shape {scores.shape}, expected "
            f"({count}, classes): it is no classifier of images"
        )
    np.save(path, scores)
