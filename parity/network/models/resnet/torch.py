"""The PyTorch twin of the ResNet family, in the manner of torchvision, with its names and order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from parity.network.spec import require_one_shape, window_size

if TYPE_CHECKING:
    from parity.network.models.resnet.spec import ResNetSpec


def conv3x3(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False
    )


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; the first one strides."""

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, stride: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x

        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out)

        if self.downsample is not None:
            identity = self.downsample(x)

        # Not in place, as torchvision's is: what a hook read from bn2 stays what it was.
        out = out + identity
        return self.relu(out)


class Bottleneck(nn.Module):
    """1×1, 3×3 in groups, 1×1 beside a shortcut; the 3×3 strides, not the first 1×1."""

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int,
        downsample: nn.Module | None,
        groups: int,
        base_width: int,
    ) -> None:
        super().__init__()
        width = int(planes * (base_width / 64.0)) * groups
        self.conv1 = conv1x1(inplanes, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, planes * self.expansion)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x

        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out)
        out = self.relu(out)

        out = self.conv3(out)
        out = self.bn3(out)

        if self.downsample is not None:
            identity = self.downsample(x)

        out = out + identity
        return self.relu(out)


class ResNet(nn.Module):
    """(N, C, H, W) to (N, classes): the stem, four stages of blocks, the mean, a dense layer."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.inplanes = 64
        self.conv1 = nn.Conv2d(
            spec.channels, self.inplanes, kernel_size=7, stride=2, padding=3, bias=False
        )
        self.bn1 = nn.BatchNorm2d(self.inplanes)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(64, spec.depths[0])
        self.layer2 = self._make_layer(128, spec.depths[1], stride=2)
        self.layer3 = self._make_layer(256, spec.depths[2], stride=2)
        self.layer4 = self._make_layer(512, spec.depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(self.inplanes, spec.classes)

    def _make_layer(self, planes: int, blocks: int, stride: int = 1) -> nn.Sequential:
        layers = [self._make_block(planes, stride)]
        layers.extend(self._make_block(planes) for _ in range(1, blocks))
        return nn.Sequential(*layers)

    def _make_block(self, planes: int, stride: int = 1) -> nn.Module:
        block = BasicBlock if self.spec.block == "basic" else Bottleneck
        outplanes = planes * block.expansion
        downsample = None
        if stride != 1 or self.inplanes != outplanes:
            downsample = nn.Sequential(
                conv1x1(self.inplanes, outplanes, stride), nn.BatchNorm2d(outplanes)
            )
        inplanes, self.inplanes = self.inplanes, outplanes
        if block is BasicBlock:
            return BasicBlock(inplanes, planes, stride, downsample)
        return Bottleneck(
            inplanes, planes, stride, downsample, self.spec.groups, self.spec.width_per_group
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.maxpool(x)

        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)

        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.fc(x)


def check_additions(model: nn.Module, shape: tuple[int, int, int]) -> None:
    """Raise `ArchitectureError` where a block's shortcut and branch differ in shape, for images of
    `shape`.

    PyTorch would stretch an axis of size 1, and else say so in the middle of the first run.
    """
    shape = _after(_after(shape, model.conv1), model.maxpool)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for number, block in enumerate(getattr(model, stage)):
            shortcut = branch = shape
            for name, module in block.named_children():
                if name == "downsample":
                    shortcut = _after(shortcut, module)
                else:
                    branch = _after(branch, module)
            require_one_shape(f"{stage}.{number}", shortcut=shortcut, branch=branch)
            shape = branch


def _after(shape: tuple[int, int, int], module: nn.Module) -> tuple[int, int, int]:
    """Return the shape (C, H, W) after a module of one or more parallel convolutions or pools."""
    windows = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d))]
    if not windows:
        return shape
    first = windows[0]
    axes = zip(
        shape[1:], *map(_pair, (first.kernel_size, first.stride, first.padding)), strict=True
    )
    height, width = (
        window_size(size, kernel=kernel, stride=stride, padding=padding)
        for size, kernel, stride, padding in axes
    )
    channels = sum(getattr(window, "out_channels", shape[0]) for window in windows)
    return (channels, height, width)


def build(spec: ResNetSpec) -> nn.Module:
    """Return the module for `spec`, freshly initialised, in training mode and the default dtype.

    Raises `ArchitectureError` for a block whose two sides cannot be added.
    """
    model = ResNet(spec)
    check_additions(model, spec.input_shape)
    return model
