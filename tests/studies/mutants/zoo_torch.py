"""The PyTorch twin of `tests.studies.mutants.zoo_keras`."""

from __future__ import annotations

import torch
from torch import nn

from tests.studies.mutants.zoo import CLASSES, SLOPE, weights


class Zoo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.leaky = nn.LeakyReLU(SLOPE)
        self.max = nn.MaxPool2d(3, stride=2, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gelu = nn.GELU()
        self.mean = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.wide = nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False)
        self.hidden = nn.Linear(1024, 64)
        self.relu = nn.ReLU()
        self.square = nn.Linear(64, 64)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = self.max(self.leaky(self.norm(self.entry(x))))
        x = self.grouped(self.wide(self.mean(self.gelu(self.depth(x)))))
        x = self.relu(self.hidden(torch.flatten(x, 1)))
        return self.head(self.square(x))


def build() -> nn.Module:
    model = Zoo()
    state = {name: torch.from_numpy(value) for name, value in weights().items()}
    model.load_state_dict(state, strict=False)
    return model
