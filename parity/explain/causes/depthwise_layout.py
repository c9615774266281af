"""A depthwise kernel in another layout: Keras's is (H, W, C, M), PyTorch's (C·M, 1, H, W)."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import reweighing, taken_for, written_as

NAME = "depthwise-layout"


def candidates(case: Case) -> Iterator[Candidate]:
    kernel = case.layer.weights.get("kernel")
    if case.layer.kind != "depthwise_conv" or kernel is None:
        return
    channels = case.layer.data.shape[1]
    shape = (channels, kernel.shape[0] // channels, *kernel.shape[2:])
    orders = {(2, 3, 0, 1): "values were read in another order of axes"}
    if shape[1] > 1:
        orders[2, 3, 1, 0] = orders[2, 3, 0, 1]
        orders[1, 0, 2, 3] = "channels and their multiples are swapped"
    for order, text in orders.items():
        for change in (taken_for(order, shape), written_as(order, shape)):
            yield Candidate(
                NAME,
                reweighing(("kernel",), change),
                f"The depthwise kernel's {text}",
                f"{case.label}: Keras's depthwise kernel is (H, W, C, M), PyTorch's (C·M, 1, H, W)",
                0.5,
            )
