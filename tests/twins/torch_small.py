"""The PyTorch twin of `tests.twins.keras_small`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = 5


class Small(nn.Module):
    """A convolution, a grouped one beside a shortcut, a mean, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.body = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.inner = nn.ReLU()
        self.join = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.relu(self.norm(self.entry(image)))
        joined = self.join(self.inner(self.body(skip)) + skip)
        return self.head(torch.flatten(self.pool(joined), 1))


def weights(shape: tuple[int, ...], seed: int) -> Tensor:
    """The same values as `tests.twins.keras_small.weights`."""
    scale = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
    drawn = np.random.default_rng(seed).standard_normal(shape) * scale
    return torch.from_numpy(drawn.astype(np.float32))


def build() -> nn.Module:
    model = Small()
    state = {
        "entry.weight": weights((8, 3, 3, 3), 1),
        "body.weight": weights((8, 2, 3, 3), 2),
        "body.bias": weights((8,), 3),
        "head.weight": weights((CLASSES, 8), 4),
        "head.bias": weights((CLASSES,), 5),
        "norm.weight": weights((8,), 6),
        "norm.bias": weights((8,), 7),
        "norm.running_mean": weights((8,), 8),
        "norm.running_var": weights((8,), 9).abs() + 0.5,
    }
    model.load_state_dict(state, strict=False)
    return model


def other_epsilon() -> nn.Module:
    """The epsilon of Keras's own default."""
    model = build()
    model.norm.eps = 1e-3
    return model


def one_weight() -> nn.Module:
    """One weight of the grouped convolution moved by a tenth."""
    model = build()
    with torch.no_grad():
        model.body.weight[5, 0, 1, 2] += 0.1
    return model


def without_bias() -> nn.Module:
    """The grouped convolution has no bias."""
    model = build()
    model.body.bias = None
    return model
