"""The PyTorch twin of the textbook's ResNet-18."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from parity.network.models.resnet.torch import check_additions

if TYPE_CHECKING:
    from parity.network.models.d2l.spec import TextbookSpec


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut, which a 1×1 convolution may project."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        projects = stride != 1 or inputs != channels
        self.downsample = nn.Conv2d(inputs, channels, 1, stride=stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        out = out + shortcut
        return self.relu(out)


def stage(inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    """Residual blocks, of which the first strides."""
    first = Residual(inputs, channels, stride)
    return nn.Sequential(first, *(Residual(channels, channels, 1) for _ in range(1, blocks)))


class ResNet(nn.Module):
    """(N, C, H, W) to (N, classes)."""

    def __init__(self, spec: TextbookSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(spec.channels, 64, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(64, 64, spec.depths[0], 1)
        self.layer2 = stage(64, 128, spec.depths[1], 2)
        self.layer3 = stage(128, 256, spec.depths[2], 2)
        self.layer4 = stage(256, 512, spec.depths[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512, spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def build(spec: TextbookSpec) -> nn.Module:
    """Return the module for `spec`, freshly initialised, in training mode and the default dtype."""
    model = ResNet(spec)
    check_additions(model, spec.input_shape)
    return model
