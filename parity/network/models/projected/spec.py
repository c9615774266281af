"""The variant of ResNeXt-50 whose PyTorch model has a projection too many in most blocks.

The Keras model is the family `resnet`'s own, and the layer table, too: what the PyTorch model has
beside it is in no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parity.network.models.resnet.spec import ResNetSpec
from parity.network.spec import Size
from parity.network.table import Row


@dataclass(frozen=True)
class ProjectedSpec(ResNetSpec):
    """A ResNeXt with a 1×1 convolution and batch-norm on the shortcut of every block."""

    family: ClassVar[str] = "projected"
    exports_weights: ClassVar[bool] = True
    default_reference: ClassVar[str] = "keras"

    @property
    def size(self) -> Size:
        """The size of the PyTorch model, with its surplus projections."""
        right = super().size
        widths = [row.shape[0] for row in self.table().rows if _is_plain(row)]
        return Size(
            right.parameters + sum(width**2 + 2 * width for width in widths),
            right.statistics + sum(2 * width for width in widths),
        )


def _is_plain(row: Row) -> bool:
    """Return whether a row is the sum of a block with an identity shortcut."""
    return row.kind == "add" and not row.inputs[0].endswith(".downsample.bn")


ARCHITECTURES = (
    ProjectedSpec("resnext50_32x4d@torch-project-every-block", groups=32, width_per_group=4),
)
