"""An embedding that is read at other rows: one too far, with another row for the padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, LayerChange

OFFSET, PADDING = "embedding-offset", "embedding-padding"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    layer = failing.reference_layer
    if layer.kind != "embedding":
        return
    count = len(layer.weights["embeddings"])
    for offset in (1, -1, 2, -2):
        yield Candidate(
            OFFSET,
            _shift(offset, count),
            f"Each id reads the row {abs(offset)} {'after' if offset > 0 else 'before'} its own",
            f"{failing.label}: number the rows as the reference does",
            0.6,
        )
    for row in dict.fromkeys((0, count - 1, 1)):
        yield Candidate(
            PADDING,
            _zero_row(row),
            f"Row {row} is 0: it is taken for padding",
            f"{failing.label}: load row {row}, or declare no padding id",
            0.5,
        )


def _shift(offset: int, count: int) -> LayerChange:
    def change(layer: Layer) -> Layer:
        return layer.with_input_transform(
            lambda ids: np.asarray((ids.astype(np.int64) + offset) % count, np.float64)
        )

    return change


def _zero_row(row: int) -> LayerChange:
    def change(layer: Layer) -> Layer:
        table: Array = np.array(layer.weights["embeddings"], np.float64)
        table[row] = 0.0
        return layer.with_weights(embeddings=table)

    return change
