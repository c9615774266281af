"""The ResNet family: its ten published architectures and their layer table.

He et al., "Deep Residual Learning for Image Recognition" (2015); Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks" (2016); Zagoruyko & Komodakis, "Wide Residual Networks"
(2016). The stride of a bottleneck sits on its 3×3 convolution, as in torchvision and in ResNeXt's
paper, and not on the 1×1 before it, as in the first of these papers and in keras.applications.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from parity.errors import ArchitectureError
from parity.network.spec import ModelSpec, require_one_shape, require_positive, window_size
from parity.network.table import LayerTable, Row, Weight

if TYPE_CHECKING:
    from collections.abc import Iterator

Shape = tuple[int, int, int]
"""An activation without its batch axis: (C, H, W)."""

STEM_CHANNELS = 64
STAGE_PLANES = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResNetSpec(ModelSpec):
    """A residual network of four stages, `depths[i]` blocks each.

    `groups` is the cardinality of the 3×3 convolution of a bottleneck, and `width_per_group` its
    width in the first stage, divided by `groups`; both are torchvision's terms.
    """

    block: Literal["basic", "bottleneck"] = "bottleneck"
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    groups: int = 1
    width_per_group: int = 64

    family: ClassVar[str] = "resnet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block not in ("basic", "bottleneck"):
            raise ArchitectureError(
                f"{self.name}: block must be basic or bottleneck, found {self.block!r}"
            )
        if not isinstance(self.depths, tuple) or len(self.depths) != len(STAGE_PLANES):
            raise ArchitectureError(
                f"{self.name}: depths must be four numbers, found {self.depths!r}"
            )
        for depth in self.depths:
            require_positive(self.name, "depth", depth)
        require_positive(self.name, "groups", self.groups)
        require_positive(self.name, "width_per_group", self.width_per_group)
        if self.block == "basic" and (self.groups, self.width_per_group) != (1, 64):
            raise ArchitectureError(
                f"{self.name}: basic blocks have 1 group and a width of 64 per group"
            )

    @property
    def expansion(self) -> int:
        """The ratio of a block's output channels to its stage's planes."""
        return 4 if self.block == "bottleneck" else 1

    def table(self) -> LayerTable:
        return LayerTable(tuple(_rows(self)))


def _rows(spec: ResNetSpec) -> Iterator[Row]:
    """Yield the rows in execution order: stem, stage1 … stage4, pool, logits."""
    stem = list(_stem(spec.input_shape))
    yield from stem
    source = stem[-1]
    for index, (planes, depth) in enumerate(zip(STAGE_PLANES, spec.depths, strict=True)):
        for block in range(depth):
            stride = 2 if index > 0 and block == 0 else 1
            rows = list(_block(spec, index, block, source=source, planes=planes, stride=stride))
            yield from rows
            source = rows[-1]
    shape = _image(source)
    features = shape[0]
    yield Row("pool", "pool", "global_avg_pool", "avg_pool", "avgpool", (features,))
    yield Row(
        "logits", "logits", "dense", "predictions", "fc", (spec.classes,),
        (
            Weight("kernel", "fc.weight", "kernel", (spec.classes, features)),
            Weight("bias", "fc.bias", "bias", (spec.classes,)),
        ),
    )  # fmt: skip


def _stem(inputs: Shape) -> Iterator[Row]:
    place = _Place("stem.", "stem", "", "")
    yield place.pad("conv_pad", "conv1_pad", inputs, 3)
    conv = place.conv("conv", "conv1_conv", "conv1", inputs, STEM_CHANNELS, kernel=7, stride=2)
    shape = _image(conv)
    yield conv
    yield place.batch_norm("bn", "conv1_bn", "bn1", shape)
    yield place.unweighted("relu", "relu", "conv1_relu", "relu", shape)
    yield place.pad("pool_pad", "pool1_pad", shape, 1)
    pooled = _slide(shape, shape[0], kernel=3, stride=2)
    yield place.unweighted("pool", "max_pool", "pool1_pool", "maxpool", pooled)


def _block(
    spec: ResNetSpec, index: int, block: int, *, source: Row, planes: int, stride: int
) -> Iterator[Row]:
    """The rows of one residual block; `index` is the stage's, from 0, `source` the row it reads.

    The projection comes after the branch, where PyTorch runs it. Raises `ArchitectureError` if
    branch and shortcut end in two shapes.
    """
    stage = f"stage{index + 1}"
    place = _Place(
        f"{stage}.block{block}.", stage,
        f"conv{index + 2}_block{block + 1}_", f"layer{index + 1}.{block}.",
    )  # fmt: skip
    outputs = planes * spec.expansion
    shape = inputs = _image(source)
    shortcut, branch = source, source
    convolutions = _convolutions(spec, planes=planes, stride=stride)
    for number, (channels, kernel, step, groups) in enumerate(convolutions, start=1):
        if kernel > 1:
            yield place.pad(f"conv{number}_pad", f"{number}_pad", shape, kernel // 2)
        conv = place.conv(
            f"conv{number}", f"{number}_conv", f"conv{number}",
            shape, channels, kernel=kernel, stride=step, groups=groups,
        )  # fmt: skip
        shape = _image(conv)
        yield conv
        branch = place.batch_norm(f"bn{number}", f"{number}_bn", f"bn{number}", shape)
        yield branch
        if number < len(convolutions):
            yield place.unweighted(
                f"relu{number}", "relu", f"{number}_relu", f"relu#{number - 1}", shape
            )
    if _projects(inputs, outputs, stride):
        projection = place.conv(
            "downsample.conv", "0_conv", "downsample.0", inputs, outputs, kernel=1, stride=stride
        )
        yield replace(projection, inputs=(source.name,))
        shortcut = place.batch_norm("downsample.bn", "0_bn", "downsample.1", _image(projection))
        yield shortcut
    require_one_shape(f"{place.prefix}add", shortcut=shortcut.shape, branch=branch.shape)
    # PyTorch adds with an operator, which no module owns: the sum is what the last ReLU is source.
    last = len(convolutions) - 1
    total = place.unweighted("add", "add", "add", f"relu#{last}@input", shape)
    yield replace(total, inputs=(shortcut.name, branch.name))
    yield place.unweighted("relu", "relu", "out", f"relu#{last}", shape)


def _projects(inputs: Shape, outputs: int, stride: int) -> bool:
    """Return whether the shortcut needs a 1×1 convolution to get the shape of its branch."""
    return stride != 1 or inputs[0] != outputs


def _convolutions(
    spec: ResNetSpec, *, planes: int, stride: int
) -> tuple[tuple[int, int, int, int], ...]:
    """Return (output channels, kernel, stride, groups) of a block's convolutions, in order."""
    if spec.block == "basic":
        return ((planes, 3, stride, 1), (planes, 3, 1, 1))
    width = int(planes * spec.width_per_group / 64) * spec.groups
    return ((width, 1, 1, 1), (width, 3, stride, spec.groups), (planes * spec.expansion, 1, 1, 1))


@dataclass(frozen=True, slots=True)
class _Place:
    """The prefixes of rows' names in the table, in Keras and in PyTorch."""

    prefix: str
    stage: str
    keras: str
    torch: str

    def unweighted(self, name: str, kind: str, keras: str, torch: str, shape: Shape) -> Row:
        """Return the row of a layer without weights."""
        torch = self.torch + torch if torch else ""
        return Row(self.prefix + name, self.stage, kind, self.keras + keras, torch, shape)

    def pad(self, name: str, keras: str, inputs: Shape, padding: int) -> Row:
        """Keras's explicit padding; PyTorch's convolutions and pools pad for themselves."""
        channels, height, width = inputs
        padded = (channels, height + 2 * padding, width + 2 * padding)
        return self.unweighted(name, "pad", keras, "", padded)

    def conv(
        self, name: str, keras: str, torch: str, inputs: Shape, channels: int,
        *, kernel: int, stride: int, groups: int = 1,
    ) -> Row:  # fmt: skip
        """Return the row of a convolution without bias, padded by half its kernel."""
        shape = _slide(inputs, channels, kernel=kernel, stride=stride)
        path = self.torch + torch
        weight = Weight(
            "kernel", f"{path}.weight", "kernel", (channels, inputs[0] // groups, kernel, kernel)
        )
        return Row(
            self.prefix + name, self.stage, "conv", self.keras + keras, path, shape, (weight,)
        )

    def batch_norm(self, name: str, keras: str, torch: str, shape: Shape) -> Row:
        path, size = self.torch + torch, (shape[0],)
        weights = (
            Weight("gamma", f"{path}.weight", "gamma", size),
            Weight("beta", f"{path}.bias", "beta", size),
            Weight("mean", f"{path}.running_mean", "moving_mean", size),
            Weight("variance", f"{path}.running_var", "moving_variance", size),
        )
        return Row(
            self.prefix + name, self.stage, "batch_norm", self.keras + keras, path, shape, weights
        )


def _slide(inputs: Shape, channels: int, *, kernel: int, stride: int) -> Shape:
    """Return the output shape of windows on `inputs` that are padded by half their kernel."""
    height, width = (
        window_size(size, kernel=kernel, stride=stride, padding=kernel // 2) for size in inputs[1:]
    )
    return (channels, height, width)


def _image(row: Row) -> Shape:
    channels, height, width = row.shape
    return (channels, height, width)


def _resnet(
    name: str,
    block: Literal["basic", "bottleneck"],
    depths: tuple[int, int, int, int],
    groups: int = 1,
    width_per_group: int = 64,
) -> ResNetSpec:
    return ResNetSpec(
        name, block=block, depths=depths, groups=groups, width_per_group=width_per_group
    )


ARCHITECTURES = (
    _resnet("resnet18", "basic", (2, 2, 2, 2)),
    _resnet("resnet34", "basic", (3, 4, 6, 3)),
    _resnet("resnet50", "bottleneck", (3, 4, 6, 3)),
    _resnet("resnet101", "bottleneck", (3, 4, 23, 3)),
    _resnet("resnet152", "bottleneck", (3, 8, 36, 3)),
    _resnet("resnext50_32x4d", "bottleneck", (3, 4, 6, 3), 32, 4),
    _resnet("resnext101_32x8d", "bottleneck", (3, 4, 23, 3), 32, 8),
    _resnet("resnext101_64x4d", "bottleneck", (3, 4, 23, 3), 64, 4),
    _resnet("wide_resnet50_2", "bottleneck", (3, 4, 6, 3), 1, 128),
    _resnet("wide_resnet101_2", "bottleneck", (3, 4, 23, 3), 1, 128),
)
