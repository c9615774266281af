"""Embeddings: rows of a table, taken by integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.kind import Hyperparameter, Kind, Role

Array = NDArray[np.float64]


def _embedding(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """The rows of the table that the integers of the input, of any shape, name."""
    rows = inputs[0].astype(np.int64)
    table = weights["embeddings"]
    if rows.size and not (rows.min() >= 0 and rows.max() < len(table)):
        raise ValueError(f"the integers are not below {len(table)}")
    return table[rows]


KINDS = (
    Kind(
        "embedding",
        _embedding,
        mixes_axes=True,
        roles=(Role("embeddings", "embeddings", "weight", "V C", outputs=1),),
        hyperparameters=(
            # The number of rows, and the length of each.
            Hyperparameter("in", optional=True),
            Hyperparameter("out", reshapes=True, optional=True),
        ),
        torch_functions=("embedding",),
    ),
)
