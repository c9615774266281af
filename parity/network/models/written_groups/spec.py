"""Variants of ResNeXt-50 whose Keras model differs from the PyTorch one, as people publish them.

The PyTorch model is the family `resnet`'s own. What the Keras models have in common: the 3×3
convolution is a Python loop over the groups with `padding="same"`, and the model ends in a softmax.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from parity.network.models.resnet.spec import STEM_CHANNELS, ResNetSpec
from parity.network.spec import Size
from parity.network.table import LayerTable, Row, Weight

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class WrittenGroupsSpec(ResNetSpec):
    """A ResNeXt whose groups read their `slices` by a late-bound loop variable, by a bound one, or
    each the `whole` input.
    """

    slices: Literal["late", "bound", "whole"] = "bound"

    family: ClassVar[str] = "written_groups"
    exports_weights: ClassVar[bool] = True

    def table(self) -> LayerTable:
        rename = _rename_in_blocks if self.slices == "whole" else _rename_as_applications
        rows = super().table().rows
        return LayerTable(tuple(rename(row) for row in rows if _has_row(row, self.slices)))

    def table_for(self, sides: Sequence[str]) -> LayerTable:
        table = self.table()
        if tuple(sides) != ("keras",):
            return table
        return LayerTable(tuple(self._complete(row) for row in table.rows))

    def _complete(self, row: Row) -> Row:
        """Return a row with the weights that the Keras model has: a bias, or dense groups."""
        if row.name == "stem.conv" and self.slices != "whole":
            bias = Weight("bias", f"{row.torch}.bias", "bias", (STEM_CHANNELS,))
            return replace(row, weights=(*row.weights, bias))
        if row.name.endswith(".conv2") and self.slices == "whole":
            (kernel,) = row.weights
            outputs, inputs, *window = kernel.shape
            dense = replace(kernel, shape=(outputs, inputs * self.groups, *window))
            return replace(row, weights=(dense,))
        return row

    @property
    def size(self) -> Size:
        """The size of the Keras model, with its stem's bias and its groups' surplus weights."""
        right = super().size
        more = STEM_CHANNELS
        if self.slices == "whole":
            grouped = [row.weights[0] for row in self.table().rows if row.name.endswith(".conv2")]
            more = (self.groups - 1) * sum(math.prod(kernel.shape) for kernel in grouped)
        return replace(right, parameters=right.parameters + more)


def _has_row(row: Row, slices: str) -> bool:
    """Return whether the Keras model has this row: with SAME it has no padding layer.

    The stem has one unless the groups read the whole input.
    """
    return row.kind != "pad" or (row.stage == "stem" and slices != "whole")


def _rename_as_applications(row: Row) -> Row:
    """Return a row with keras.applications' name; a grouped convolution ends in a concatenation."""
    if row.keras.endswith("_2_conv"):
        return replace(row, keras=row.keras.removesuffix("conv") + "concat")
    return row


def _rename_in_blocks(row: Row) -> Row:
    """`conv3_block2_1_conv` is `block3_2_conv1` here, and its batch-norm `block3_2_bn1`."""
    if not row.keras.startswith("conv") or "_block" not in row.keras:
        return row
    stage, _, rest = row.keras.removeprefix("conv").partition("_block")
    block, *words = rest.split("_")
    if words[0].isdigit():
        kind = "concat" if words == ["2", "conv"] else words[1]
        words = [f"{kind}{words[0]}"]
    return replace(row, keras=f"block{stage}_{block}_{words[0]}")


def _resnext(variant: str, slices: Literal["late", "bound", "whole"]) -> WrittenGroupsSpec:
    return WrittenGroupsSpec(
        f"resnext50_32x4d@{variant}", groups=32, width_per_group=4, slices=slices
    )


ARCHITECTURES = (
    _resnext("keras-lambda-groups", "late"),
    _resnext("keras-bound-groups", "bound"),
    _resnext("keras-dense-groups", "whole"),
)
