"""A depthwise kernel in another layout: Keras's is (H, W, C, M), PyTorch's (C·M, 1, H, W)."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import reweighing, taken_for, written_as
from parity.network import axes

NAME = "depthwise-layout"


def candidates(case: Case) -> Iterator[Candidate]:
    kernel = case.layer.weights.get("kernel")
    if case.layer.kind != "depthwise_conv" or kernel is None:
        return
    channels = case.layer.data.shape[1]
    shape = (channels, kernel.shape[0] // channels, *kernel.shape[2:])
    orders = {"H W C M": "values were read in another order of axes"}
    if shape[1] > 1:
        orders["H W M C"] = orders["H W C M"]
        orders["M C H W"] = "channels and their multiples are swapped"
    for other, text in orders.items():
        order = axes.permutation("C M H W", other)
        for change in (taken_for(order, shape), written_as(order, shape)):
            yield Candidate(
                NAME,
                reweighing(("kernel",), change),
                f"The depthwise kernel's {text}",
                f"{case.label}: Keras's depthwise kernel is (H, W, C, M), PyTorch's (C·M, 1, H, W)",
                0.5,
            )
