"""One input: a batch of items, its hash and its source; the memory that an input may take."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import InputError

Array = NDArray[np.float32]
Shape = tuple[int, int, int]
"""The shape that a model takes, without the batch axis: (C, H, W)."""

MAX_INPUT_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Input:
    """One batch, (N, C, H, W) in C order, and its source."""

    source_type: str
    """The `NAME` of one of the `sources`: photo, folder, array, random."""
    array: Array
    sha256: str
    source: str
    """A description for the report: the file's name, the seed of noise."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for the report, the shape in place of the array."""
        return {
            "kind": self.source_type,
            "shape": list(self.array.shape),
            "sha256": self.sha256,
            "source": self.source,
        }


def make_input(source_type: str, array: Array, source: str) -> Input:
    """Return an input with the SHA-256 of its shape and values; copied only if not contiguous."""
    array = np.ascontiguousarray(array)
    checksum = hashlib.sha256(repr(array.shape).encode())
    checksum.update(array.data)
    return Input(source_type, array, checksum.hexdigest(), source)


def check_input_size(shape: tuple[int, ...]) -> None:
    """Raise `InputError` if a float32 input of this shape takes more than `MAX_INPUT_BYTES`."""
    if (size := 4 * math.prod(shape)) > MAX_INPUT_BYTES:
        raise InputError(
            f"an input of {shape} takes {size / 2**30:.1f} GiB, more than the limit of "
            f"{MAX_INPUT_BYTES >> 30} GiB: lower --batch"
        )
