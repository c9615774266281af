"""Small networks in PyTorch that the examples compare."""

import torch
from torch import nn

SHAPE = {"x": (2, 3, 32, 32)}


class Residual(nn.Module):
    """A convolution with a shortcut around it, and a head of five classes."""

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.LeakyReLU(slope)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        x = x + self.act(self.body(x))
        return self.head(x.mean((2, 3)))


def build(slope: float = 0.1, seed: int = 0) -> nn.Module:
    """Return the network with seeded weights."""
    torch.manual_seed(seed)
    return Residual(slope).eval()
