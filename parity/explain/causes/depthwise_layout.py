"""A depthwise kernel in another layout: Keras's is (H, W, C, M), PyTorch's (C·M, 1, H, W)."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import read_as_layout, transform_weights, write_as_layout
from parity.network import axes

NAME = "depthwise-layout"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kernel = failing.reference_layer.weights.get("kernel")
    if failing.reference_layer.kind != "depthwise_conv" or kernel is None:
        return
    channels = failing.reference_layer.data.shape[1]
    shape = (channels, kernel.shape[0] // channels, *kernel.shape[2:])
    orders = {"H W C M": "values were read in another order of axes"}
    if shape[1] > 1:
        orders["H W M C"] = orders["H W C M"]
        orders["M C H W"] = "channels and their multiples are swapped"
    for other, text in orders.items():
        order = axes.permutation("C M H W", other)
        for change in (read_as_layout(order, shape), write_as_layout(order, shape)):
            yield Candidate(
                NAME,
                transform_weights(("kernel",), change),
                f"The depthwise kernel's {text}",
                f"{failing.label}: Keras's depthwise kernel is (H, W, C, M), PyTorch's (C·M, 1, "
                "H, W)",
                0.5,
            )
