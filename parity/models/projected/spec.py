"""The variant of ResNeXt-50 whose PyTorch model has a projection too many in most blocks.

The Keras model is the family `resnet`'s own, and the layer table, too: what the PyTorch model has
beside it is in no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parity.models.resnet.spec import ResNetSpec


@dataclass(frozen=True)
class ProjectedSpec(ResNetSpec):
    """A ResNeXt with a 1×1 convolution and batch-norm on the shortcut of every block."""

    family: ClassVar[str] = "projected"
    own_graphs: ClassVar[bool] = True
    reference: ClassVar[str] = "keras"


ARCHITECTURES = (
    ProjectedSpec("resnext50_32x4d@torch-project-every-block", groups=32, width_per_group=4),
)
