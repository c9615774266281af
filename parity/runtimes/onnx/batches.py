"""Running a session on another number of images at a time than it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]

CLOSE = 1e-3
"""Relative; kernels for other batch sizes sum in another order, a frozen batch mixes samples."""


def run(
    made: ort.InferenceSession,
    names: Sequence[str],
    feeds: Mapping[str, Array],
    items_per_run: int | None,
) -> list[Array]:
    """The outputs of a session that is given `items_per_run` samples at a time; all by default.

    The last piece is filled up with its last sample, for a graph that takes no fewer.
    """
    if items_per_run is None:
        outputs: list[Array] = made.run(list(names), dict(feeds))
        return outputs
    count = len(next(iter(feeds.values())))
    pieces = []
    for start in range(0, count, items_per_run):
        piece = {
            n: _filled(array[start : start + items_per_run], items_per_run)
            for n, array in feeds.items()
        }
        pieces.append(made.run(list(names), piece))
    return [np.concatenate(parts)[:count] for parts in zip(*pieces, strict=True)]


def refused(
    made: ort.InferenceSession, output: str, data: Array, counts: Sequence[int]
) -> list[str]:
    """Why a session cannot be run on each of these batch sizes; nothing where it can."""
    name = made.get_inputs()[0].name
    told, alone = [], None
    for count in counts:
        batch = np.resize(data, (count, *data.shape[1:]))
        try:
            (found,) = made.run([output], {name: batch})
        except Exception as error:  # noqa: BLE001 (its errors have no class in common)
            told.append(f"N={count}: {' '.join(str(error).split())[:160]}")
            continue
        if len(found) != count:
            told.append(f"N={count}: its output has the shape {found.shape}")
        elif alone is None:
            alone = found[0]
        elif not np.allclose(found[0], alone, rtol=0.0, atol=CLOSE * float(np.abs(alone).max())):
            told.append(f"N={count}: the first image gives other values than at N={counts[0]}")
    return told


def _filled(piece: Array, count: int) -> Array:
    missing = count - len(piece)
    return piece if missing == 0 else np.concatenate([piece, np.repeat(piece[-1:], missing, 0)])
