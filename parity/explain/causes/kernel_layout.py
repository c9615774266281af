"""A kernel in another layout (swapped height and width, or inputs and outputs): O(1)."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import (
    Array,
    Transform,
    read_as_layout,
    transform_weights,
    write_as_layout,
)
from parity.network import axes, kinds

NAME = "kernel-layout"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kernel = failing.reference_layer.weights.get("kernel")
    if kernel is None:
        return
    own, keras = _orders(failing)
    how = f"transpose the kernel: Keras has {_format_order(keras)}, PyTorch {_format_order(own)}"
    if kernel.ndim == 2:
        how = "transpose the weight: Keras has (inputs, outputs), PyTorch (outputs, inputs)"
    for text, change in _changes(failing, kernel):
        yield Candidate(
            NAME, transform_weights(("kernel",), change), text, f"{failing.label}: {how}", 0.5
        )


def _changes(failing: FailingLayer, kernel: Array) -> Iterator[tuple[str, Transform]]:
    if kernel.ndim == 2:
        text = "The dense weight was reshaped instead of transposed"
        yield text, lambda k: k.reshape(k.shape[::-1]).T
        yield text, lambda k: k.T.reshape(k.shape)
        return
    if kernel.shape[2:] != (1, 1):
        yield "Height and width of the kernel are swapped", lambda k: k.swapaxes(2, 3)
    if failing.reference_layer.kind == "depthwise_conv":
        return
    yield "Inputs and outputs of the kernel are swapped", lambda k: k.swapaxes(0, 1)
    own, keras = _orders(failing)
    # TensorFlow Lite's order: the second axis, mostly the inputs, after the spatial axes.
    first, second, *image = own.split()
    for other in (keras, " ".join((first, *image, second))):
        text = (
            "The kernel's values were read in another order of axes, "
            f"{_format_order(other)} for {_format_order(own)}"
        )
        order = axes.permutation(own, other)
        yield text, read_as_layout(order)
        yield text, write_as_layout(order)


def _orders(failing: FailingLayer) -> tuple[str, str]:
    """Return the orders of the kernel's axes in PyTorch and in Keras."""
    role = kinds.get(failing.reference_layer.kind).role("kernel")
    own, keras = role.axes, role.keras_axes or role.axes
    return own.replace(axes.SPATIAL, "H W"), keras.replace(axes.SPATIAL, "H W")


def _format_order(order: str) -> str:
    return axes.describe(order) if "(" in order else order.replace(" ", "")
