"""A kernel in another layout: O(1) from that layer on; height and width, or inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Step, reweighing, taken_for, written_as
from parity.network import axes, kinds

NAME = "kernel-layout"


def candidates(case: Case) -> Iterator[Candidate]:
    kernel = case.layer.weights.get("kernel")
    if kernel is None:
        return
    own, keras = _orders(case)
    how = f"transpose the kernel: Keras has {_letters(keras)}, PyTorch {_letters(own)}"
    if kernel.ndim == 2:
        how = "transpose the weight: Keras has (inputs, outputs), PyTorch (outputs, inputs)"
    for text, change in _changes(case, kernel):
        yield Candidate(NAME, reweighing(("kernel",), change), text, f"{case.label}: {how}", 0.5)


def _changes(case: Case, kernel: Array) -> Iterator[tuple[str, Step]]:
    if kernel.ndim == 2:
        told = "The dense weight was reshaped where it had to be transposed"
        yield told, lambda k: k.reshape(k.shape[::-1]).T
        yield told, lambda k: k.T.reshape(k.shape)
        return
    if kernel.shape[2:] != (1, 1):
        yield "Height and width of the kernel are swapped", lambda k: k.swapaxes(2, 3)
    if case.layer.kind == "depthwise_conv":
        return
    yield "Inputs and outputs of the kernel are swapped", lambda k: k.swapaxes(0, 1)
    own, keras = _orders(case)
    # TensorFlow Lite's order: the second axis, of the inputs as a rule, behind the image's.
    first, second, *image = own.split()
    for other in (keras, " ".join((first, *image, second))):
        told = (
            "The kernel's values were read in another order of axes, "
            f"{_letters(other)} for {_letters(own)}"
        )
        order = axes.permutation(own, other)
        yield told, taken_for(order)
        yield told, written_as(order)


def _orders(case: Case) -> tuple[str, str]:
    """The orders of the kernel's axes in PyTorch and in Keras."""
    role = kinds.get(case.layer.kind).role("kernel")
    own, keras = role.axes, role.keras_axes or role.axes
    return own.replace(axes.SPATIAL, "H W"), keras.replace(axes.SPATIAL, "H W")


def _letters(order: str) -> str:
    return axes.describe(order) if "(" in order else order.replace(" ", "")
