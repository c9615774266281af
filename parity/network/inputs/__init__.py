"""The models' inputs: photographs, folders, arrays, seeded noise; the calibration batch.

Every input is one float32 array (N, C, H, W), preprocessed once, so that no two subjects can differ
by how they read a picture. Each source of inputs is one file of `sources`.
"""

from __future__ import annotations

from pathlib import Path

from parity.errors import InputError, UsageError
from parity.network.inputs import preprocessing, sources
from parity.network.inputs._calibration import make_calibration_batch
from parity.network.inputs._input import Array, Input, Shape
from parity.network.inputs._passes import exceeds_one_pass, split_into_passes
from parity.network.inputs._stress import (
    make_stress_arrays,
    make_stress_ids,
    make_stress_inputs,
)
from parity.network.inputs.preprocessing import Preprocessing

__all__ = [
    "Array",
    "Input",
    "Shape",
    "exceeds_one_pass",
    "load",
    "make_calibration_batch",
    "make_stress_arrays",
    "make_stress_ids",
    "make_stress_inputs",
    "split_into_passes",
    "takes_preprocessing",
]


def load(
    source: str | Path | Array | None,
    shape: Shape,
    *,
    batch: int | None = None,
    seed: int = 0,
    preprocess: str | Preprocessing = preprocessing.DEFAULT,
) -> Input:
    """Return the input for a model that takes `shape`, (C, H, W).

    `source` is a photograph, a folder of them, an .npy or .npz file or an array of float32, used
    as it is; `"random"`, seeded unit noise; or None, the photograph in Matplotlib's sample data.
    `batch` is the number of items to take (a folder and an array have their own number, 1
    elsewhere). A photograph taken several times is its centre crop, then seeded random crops, half
    of them mirrored. `preprocess` is what is done to a photograph's pixels, or a name of it in
    `parity.network.inputs.preprocessing`; other inputs are used as they are. Raises `InputError`,
    and `UsageError` for a preprocessing that is unknown, or given with another input.
    """
    if batch is not None and batch < 1:
        raise InputError(f"the batch must be at least 1, found {batch}")
    preprocessing.find(preprocess)
    found = sources.find(source)
    if takes_preprocessing(source):
        settings: dict[str, str | Preprocessing] = {"preprocess": preprocess}
    elif preprocess == preprocessing.DEFAULT or isinstance(preprocess, Preprocessing):
        # What a model states of photographs is no request to prepare another input.
        settings = {}
    else:
        raise UsageError(
            f"--preprocess {preprocess}: belongs to a photograph; the input '{found.NAME}' is used "
            "as it is"
        )
    return found.load(source, shape, batch=batch, seed=seed, **settings)


def takes_preprocessing(source: str | Path | Array | None) -> bool:
    """Return whether `source` is a photograph, or a folder of them."""
    return bool(getattr(sources.find(source), "TAKES_PREPROCESSING", False))
