"""Where a model's branches begin: the layers that read what another layer reads."""

from __future__ import annotations

import keras
import pytest
import torch
from torch import nn

from parity.network.rows import Row
from parity.network.table import LayerTable
from parity.runtimes.keras import layers as keras_layers
from parity.runtimes.torch import layers as torch_layers

TABLE = LayerTable((
    Row("main", "body", "conv", "main", "main"), Row("add", "body", "add", "add", "add"),
))  # fmt: skip

pytestmark = pytest.mark.framework


PLACES = ("shortcut", "first", "last")


class Sum(nn.Module):
    """A sum that a module owns, and hooks see."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Block(nn.Module):
    """A 1x1 convolution too many on the shortcut, or at either end of the main path."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place
        self.main = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.surplus = nn.Conv2d(4, 4, 1)
        self.add = Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.place == "first":
            return self.add(x, self.relu(self.main(self.surplus(x))))
        y = self.relu(self.main(x))
        if self.place == "shortcut":
            return self.add(self.surplus(x), y)
        return self.add(x, self.surplus(y))


def keras_block(place: str) -> keras.Model:
    x = keras.Input((8, 8, 4))
    main = keras.layers.Conv2D(4, 3, padding="same", name="main")
    relu = keras.layers.ReLU(name="relu")
    surplus = keras.layers.Conv2D(4, 1, name="surplus")
    branches = {
        "shortcut": lambda: [relu(main(x)), surplus(x)],
        "first": lambda: [relu(main(surplus(x))), x],
        "last": lambda: [surplus(relu(main(x))), x],
    }
    return keras.Model(x, keras.layers.Add(name="add")(branches[place]()))


@pytest.mark.parametrize("place", PLACES)
def test_a_layer_on_the_shortcut_stands_beside_the_main_path(place):
    told = {
        "torch": torch_layers.describe_layers(Block(place), TABLE, (4, 8, 8)),
        "keras": keras_layers.describe_layers(keras_block(place), TABLE),
    }
    for subject, layers in told.items():
        beside = {layer["name"]: layer["shares_input"] for layer in layers}
        on_shortcut = place == "shortcut"
        assert (beside["surplus"], beside["main"]) == (on_shortcut, on_shortcut), subject
        assert beside["relu"] is False, subject
