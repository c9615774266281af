"""The PyTorch twin of `tests.studies.mutants.score_keras`."""

from __future__ import annotations

import torch
from torch import nn

from tests.studies.mutants.zoo import score_weights


class Scorer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 6, 3)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 1)
        self.score = nn.Flatten(0)

    def forward(self, x):
        return self.score(self.head(torch.flatten(self.mean(self.entry(x)), 1)))


def build() -> nn.Module:
    model = Scorer()
    state = {name: torch.from_numpy(value) for name, value in score_weights().items()}
    model.load_state_dict(state)
    return model
