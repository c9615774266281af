"""PyTorch modules that write a grouped convolution as one Conv2d per group."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from parity.network.rows import Row
from parity.network.table import LayerTable
from parity.runtimes.torch import layers as torch_layers

CHANNELS, GROUPS = 8, 4

TABLE = LayerTable((Row("conv", "body", "conv", "conv", "conv"),))

pytestmark = pytest.mark.framework


class Parallel(nn.Module):
    """Convolutions that each read a slice of the channels, or `whole`, all of them."""

    def __init__(self, inputs: int, *, whole: bool) -> None:
        super().__init__()
        self.whole = whole
        self.parts = nn.ModuleList(nn.Conv2d(inputs, 2, 3, bias=False) for _ in range(GROUPS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slices = [x] * GROUPS if self.whole else x.chunk(GROUPS, dim=1)
        return torch.cat([part(y) for part, y in zip(self.parts, slices, strict=True)], dim=1)


class Series(nn.Module):
    """Two equal convolutions, one after the other, in a module that is no nn.Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(CHANNELS, CHANNELS, 3) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def describe(module):
    model = nn.Sequential(OrderedDict(conv=module))
    (layer,) = torch_layers.describe_layers(model, TABLE, (CHANNELS, 8, 8))
    return layer["hyper"]


def test_convolutions_over_slices_are_one_grouped_convolution():
    hyper = describe(Parallel(CHANNELS // GROUPS, whole=False))
    assert (hyper["groups"], hyper["in"], hyper["out"]) == (GROUPS, CHANNELS, CHANNELS)
    assert hyper["kernel"] == [3, 3]


def test_convolutions_that_each_read_the_whole_input_have_no_groups():
    hyper = describe(Parallel(CHANNELS, whole=True))
    assert (hyper["groups"], hyper["in"], hyper["out"]) == (1, CHANNELS, CHANNELS)


@pytest.mark.parametrize(
    "module",
    [Series(), nn.Sequential(*(nn.Conv2d(CHANNELS, CHANNELS, 3) for _ in range(2)))],
    ids=["module", "sequential"],
)
def test_equal_convolutions_in_series_are_no_grouped_convolution(module):
    assert describe(module) == {}
