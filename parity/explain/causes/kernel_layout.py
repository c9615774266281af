"""A kernel in another layout: O(1) from that layer on; height and width, or inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.case import Candidate, Case
from parity.explain.layer import Array, Step, reweighing

NAME = "kernel-layout"
FLIPPED = "kernel-flipped"
TRANSPOSED = "dense-transposed"
DEPTHWISE = "depthwise-layout"


def candidates(case: Case) -> Iterator[Candidate]:
    kernel = case.layer.weights.get("kernel")
    if kernel is None:
        return
    for name, text, change in _changes(case, kernel):
        yield Candidate(
            name,
            reweighing(("kernel",), change),
            text,
            f"{case.label}: {_remedy(name, case)}",
            0.5,
        )


def _changes(case: Case, kernel: Array) -> Iterator[tuple[str, str, Step]]:
    if kernel.ndim == 2:
        yield TRANSPOSED, "The dense weight is transposed", np.transpose
        yield (
            NAME,
            "The dense weight was reshaped where it had to be transposed",
            lambda k: k.reshape(k.shape[::-1]).T,
        )
        yield NAME, "The dense weight was reshaped where it had to be transposed", _as_transposed
        return
    if kernel.shape[2:] != (1, 1):
        yield NAME, "Height and width of the kernel are swapped", lambda k: k.swapaxes(2, 3)
        yield (
            FLIPPED,
            "The kernel is flipped: a true convolution, not a correlation",
            lambda k: k[:, :, ::-1, ::-1],
        )
        yield FLIPPED, "The kernel is flipped from top to bottom", lambda k: k[:, :, ::-1, :]
        yield FLIPPED, "The kernel is flipped from left to right", lambda k: k[:, :, :, ::-1]
    if case.layer.kind == "depthwise_conv":
        told = "The depthwise kernel's values were read in another order of axes"
        orders = {(2, 3, 1, 0): told, (2, 3, 0, 1): told}
    else:
        yield NAME, "Inputs and outputs of the kernel are swapped", lambda k: k.swapaxes(0, 1)
        told = "The kernel's values were read in another order of axes, "
        orders = {(2, 3, 1, 0): f"{told}HWIO for OIHW", (0, 2, 3, 1): f"{told}OHWI for OIHW"}
    name = DEPTHWISE if case.layer.kind == "depthwise_conv" else NAME
    for order, text in orders.items():
        yield name, text, _taken_for(order)
        yield name, text, _written_as(order)


def _as_transposed(kernel: Array) -> Array:
    return kernel.T.reshape(kernel.shape)


def _taken_for(order: tuple[int, ...]) -> Step:
    """The numbers of an OIHW kernel, in memory, taken for those of the layout `order`."""
    back = tuple(int(axis) for axis in np.argsort(order))
    return lambda k: k.reshape([k.shape[axis] for axis in order]).transpose(back)


def _written_as(order: tuple[int, ...]) -> Step:
    """The numbers of a kernel in the layout `order` taken for those of OIHW."""
    return lambda k: k.transpose(order).reshape(k.shape)


def _remedy(name: str, case: Case) -> str:
    if name == FLIPPED:
        return "copy the kernel unflipped: both frameworks correlate"
    if name == TRANSPOSED or case.layer.kind == "dense":
        return "transpose the weight: Keras has (inputs, outputs), PyTorch (outputs, inputs)"
    if name == DEPTHWISE:
        return "Keras's depthwise kernel is (H, W, C, M), PyTorch's (C·M, 1, H, W)"
    return "transpose the kernel: Keras has HWIO, PyTorch OIHW"
