"""The toy family's only architecture and its layer table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parity.network.spec import ModelSpec
from parity.network.table import LayerTable, Row, Weight


@dataclass(frozen=True)
class ToySpec(ModelSpec):
    """A network of five layers; `width` is the convolution's channels."""

    width: int = 8

    family: ClassVar[str] = "toy"

    def table(self) -> LayerTable:
        image, features = (self.width, *self.image_size), (self.width,)
        kernel = (self.width, self.channels, 3, 3)
        norm = (
            Weight("gamma", "bn.weight", "gamma", features),
            Weight("beta", "bn.bias", "beta", features),
            Weight("mean", "bn.running_mean", "moving_mean", features),
            Weight("variance", "bn.running_var", "moving_variance", features),
        )
        head = (
            Weight("kernel", "fc.weight", "kernel", (self.classes, self.width)),
            Weight("bias", "fc.bias", "bias", (self.classes,)),
        )
        return LayerTable(
            (
                Row(
                    *("conv", "body", "conv", "conv", "conv"),
                    image,
                    (Weight("kernel", "conv.weight", "kernel", kernel),),
                ),
                Row("bn", "body", "batch_norm", "bn", "bn", image, norm),
                Row("relu", "body", "relu", "relu", "relu", image),
                Row("pool", "pool", "global_avg_pool", "pool", "pool", features),
                Row("logits", "logits", "dense", "fc", "fc", (self.classes,), head),
            )
        )


ARCHITECTURES = (ToySpec("toy", classes=4, image_size=(16, 16)),)
