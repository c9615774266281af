"""An image or feature map that is transposed, mirrored, upside down or shifted: O(1) everywhere.

It looks like a fault of the kernel; that which moves the input is tried first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Transform, transform_input

NAME = "input-moved"
TIME = "time-reversed"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    data = failing.reference_layer.inputs[0]
    if data.ndim == 4 and min(data.shape[2:]) > 1:
        for text, change in _image_changes(data):
            yield Candidate(
                NAME,
                transform_input(change),
                f"It reads its input {text}",
                f"{failing.label}: give it the input as the reference has it",
                # Ahead of the kernel's layouts.
                0.68,
                describes_values=True,
            )
    if data.ndim == 3 and data.shape[1] > 1:
        yield Candidate(
            TIME,
            transform_input(lambda tensor: tensor[:, ::-1]),
            "It reads the sequence from its end",
            f"{failing.label}: read the sequence in the reference's order",
            0.4,
            describes_values=True,
        )


def _image_changes(data: Array) -> Iterator[tuple[str, Transform]]:
    if data.shape[2] == data.shape[3]:
        yield "transposed: rows are columns", lambda x: x.swapaxes(2, 3)
        yield "turned by 90 degrees", lambda x: np.rot90(x, 1, (2, 3))
        yield "turned by 270 degrees", lambda x: np.rot90(x, 3, (2, 3))
    yield "mirrored", lambda x: x[:, :, :, ::-1]
    yield "upside down", lambda x: x[:, :, ::-1]
    yield "turned by 180 degrees", lambda x: x[:, :, ::-1, ::-1]
    for axis, name in ((2, "row"), (3, "column")):
        for step in (1, -1):
            where = "later" if step > 0 else "earlier"

            def shift(x: Array, axis: int = axis, step: int = step) -> Array:
                moved = np.roll(x, step, axis=axis)
                edge = [slice(None)] * x.ndim
                edge[axis] = slice(0, 1) if step > 0 else slice(-1, None)
                moved[tuple(edge)] = 0.0
                return moved

            yield f"one {name} {where}, with zeros in its place", shift
