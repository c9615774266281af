"""ResNet-18 as "Dive into Deep Learning" (section 8.6) builds it, for grey images and ten classes.

A true twin in both frameworks: beside the architecture of He et al., its convolutions have biases,
and a projected shortcut has no batch-norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from parity.network.models.resnet.spec import ResNetSpec
from parity.network.table import LayerTable, Row, Weight


@dataclass(frozen=True)
class TextbookSpec(ResNetSpec):
    """The residual network of a textbook."""

    family: ClassVar[str] = "d2l"

    def table(self) -> LayerTable:
        return LayerTable(tuple(_rows(super().table())))


def _rows(table: LayerTable) -> Iterator[Row]:
    for row in table.rows:
        if row.name.endswith("downsample.bn"):
            continue
        if row.kind == "add":
            # The projection's batch-norm is gone: the sum reads the convolution itself.
            shortcut, branch = row.inputs
            inputs = (shortcut.replace("downsample.bn", "downsample.conv"), branch)
            yield replace(row, inputs=inputs)
            continue
        if row.kind != "conv":
            yield row
            continue
        torch = row.torch.replace("downsample.0", "downsample")
        shape = row.weights[0].shape
        kernel = Weight("kernel", f"{torch}.weight", "kernel", shape)
        bias = Weight("bias", f"{torch}.bias", "bias", shape[:1])
        yield replace(row, torch=torch, weights=(kernel, bias))


ARCHITECTURES = (
    TextbookSpec("resnet18@d2l", classes=10, channels=1, block="basic", depths=(2, 2, 2, 2)),
)
