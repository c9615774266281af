"""Models as people write them in PyTorch; their twins are those of `user_keras`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.conv(x)))


class TorchCnn(nn.Module):
    """Two blocks, a shortcut, a max-pool, and a dense layer on the flattened map."""

    def __init__(self, num_classes: int = 10, detach: bool = False, size: int = 8) -> None:
        super().__init__()
        self.stem = Block(1, 6)
        self.body = nn.Sequential(Block(6, 6), nn.MaxPool2d(2))
        self.hidden = nn.Linear(6 * (size // 2) ** 2, 16)
        self.norm = nn.LayerNorm(16, eps=1e-3)
        self.head = nn.Linear(16, num_classes)
        self.detach = detach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.body[0](x)
        x = x + (y.detach() if self.detach else y)
        x = self.body[1](x).flatten(1)
        x = functional.relu(self.hidden(x))
        return self.head(self.norm(x))


def torch_cnn(
    num_classes: int = 10, detach: bool = False, size: int = 8, frozen: bool = False
) -> nn.Module:
    model = TorchCnn(num_classes, detach, size)
    model.hidden.requires_grad_(not frozen)
    return model


def torch_even(value: float = 0.02) -> nn.Module:
    """The network of `torch_cnn` with one number in all parameters."""
    model = TorchCnn()
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


class TorchAttention(nn.Module):
    """Patches, one attention with packed projections, a mean over the tokens."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, stride=2)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x.mean(1))


def torch_attention(num_classes: int = 10) -> nn.Module:
    return TorchAttention(num_classes)


def torch_padded(num_classes: int = 10) -> nn.Module:
    """A max-pool that pads by itself, and an activation whose kinks no side can tell."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )


def torch_normed(num_classes: int = 10) -> nn.Module:
    """A batch-norm whose gradient is one number a sample, but for an activation."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8, momentum=0.01),
        nn.ELU(),
        nn.Conv2d(8, 8, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )


def torch_grouped(num_classes: int = 10, bias: bool = False) -> nn.Module:
    """A grouped convolution, which TensorFlow trains on the CPU through XLA alone."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ELU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=bias),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )
