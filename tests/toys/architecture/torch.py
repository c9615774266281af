"""The toy's PyTorch twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from parity.network.models.toy.spec import ToySpec


class Toy(nn.Module):
    """(N, C, H, W) to (N, classes)."""

    def __init__(self, spec: ToySpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(spec.channels, spec.width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(spec.width)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(spec.width, spec.classes)

    def forward(self, image: Tensor) -> Tensor:
        features = self.pool(self.relu(self.bn(self.conv(image))))
        return self.fc(torch.flatten(features, 1))


def build(spec: ToySpec) -> nn.Module:
    return Toy(spec)
