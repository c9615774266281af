"""Where a model's branches begin: the layers that read what another layer reads."""

from __future__ import annotations

import keras
import pytest
import torch
from torch import nn

from parity.rows import Row
from parity.runtimes import keras_layers, torch_layers
from parity.table import LayerTable

TABLE = LayerTable((Row("main", "body", "conv", "main", "main"),))

pytestmark = pytest.mark.framework


class Block(nn.Module):
    """A 1x1 convolution on the shortcut, or at the end of the main path; the ReLU is in place."""

    def __init__(self, on_shortcut: bool) -> None:
        super().__init__()
        self.on_shortcut = on_shortcut
        self.main = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.surplus = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.main(x))
        if self.on_shortcut:
            return y + self.surplus(x)
        return self.surplus(y) + x


def keras_block(on_shortcut: bool) -> keras.Model:
    x = keras.Input((8, 8, 4))
    y = keras.layers.ReLU(name="relu")(keras.layers.Conv2D(4, 3, padding="same", name="main")(x))
    surplus = keras.layers.Conv2D(4, 1, name="surplus")
    outputs = [y, surplus(x)] if on_shortcut else [surplus(y), x]
    return keras.Model(x, keras.layers.Add(name="add")(outputs))


@pytest.mark.parametrize("on_shortcut", [True, False])
def test_a_layer_on_the_shortcut_stands_beside_the_main_path(on_shortcut):
    told = {
        "torch": torch_layers.describe(Block(on_shortcut), TABLE, (4, 8, 8)),
        "keras": keras_layers.describe(keras_block(on_shortcut), TABLE),
    }
    for subject, layers in told.items():
        beside = {layer["name"]: layer["beside"] for layer in layers}
        assert beside["surplus"] is on_shortcut, subject
        assert beside["relu"] is False, subject
