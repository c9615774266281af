"""A block whose two sides differ in shape is refused by the builders of both frameworks."""

from __future__ import annotations

import pytest

from parity.errors import ArchitectureError
from parity.network import architectures

pytestmark = pytest.mark.framework


@pytest.mark.parametrize("family", ["resnet", "d2l", "projected"])
def test_torch_refuses_a_block_that_strides_beside_a_plain_shortcut(family, monkeypatch):
    import importlib

    import torch

    twin = importlib.import_module(f"parity.network.models.{family}.torch")
    found = {"resnet": "resnet18", "d2l": "resnet18@d2l"}.get(
        family, "resnext50_32x4d@torch-project-every-block"
    )
    asked = architectures.get(found, image_size=(64, 64), classes=10)
    with torch.device("meta"):
        twin.build(asked)
    network = twin.ResNeXt if family == "projected" else twin.ResNet
    before = network.__init__

    def forgets(self, spec):
        before(self, spec)
        self.layer3[0].downsample = None

    monkeypatch.setattr(network, "__init__", forgets)
    with torch.device("meta"), pytest.raises(ArchitectureError) as caught:
        twin.build(asked)
    shortcut, branch = ("512×8×8", "1024×4×4") if family == "projected" else ("128×8×8", "256×4×4")
    assert str(caught.value).startswith(
        f"layer3.0: the shortcut {shortcut} and the branch {branch} cannot be added"
    )


def test_torch_refuses_what_it_would_broadcast(monkeypatch):
    """One channel, or one pixel, is stretched by `+` without a word."""
    import torch
    from torch import nn

    from parity.network.models.resnet import torch as twin

    before = twin.ResNet.__init__

    def narrows(self, spec):
        before(self, spec)
        self.layer2[0].downsample = nn.Conv2d(64, 1, 1, stride=2)

    monkeypatch.setattr(twin.ResNet, "__init__", narrows)
    with (
        torch.device("meta"),
        pytest.raises(ArchitectureError, match="the shortcut 1×8×8 and the branch"),
    ):
        twin.build(architectures.get("resnet18", image_size=(64, 64)))


@pytest.mark.parametrize("shape", [(8, 8, 64), (8, 8, 1), (1, 1, 128), (4, 4, 64)])
@pytest.mark.parametrize("family", ["resnet", "d2l", "written_groups"])
def test_keras_refuses_two_sides_of_two_shapes(shape, family):
    import importlib

    import keras

    twin = importlib.import_module(f"parity.network.models.{family}.keras")
    branch = keras.KerasTensor((None, 4, 4, 128))
    with pytest.raises(ArchitectureError) as caught:
        twin.add(keras.KerasTensor((None, *shape)), branch, "conv3_block1_add")
    *space, channels = shape
    shortcut = "×".join(map(str, (channels, *space)))
    assert str(caught.value).startswith(
        f"conv3_block1_add: the shortcut {shortcut} and the branch 128×4×4 cannot be added"
    )


def test_keras_refuses_a_block_that_is_not_projected(monkeypatch):
    import keras

    from parity.network.models.resnet import keras as twin

    before = twin.basic_block

    def forgets(x, filters, name, *, stride, project):
        return before(x, filters, name, stride=stride, project=False)

    monkeypatch.setattr(twin, "basic_block", forgets)
    with (
        keras.StatelessScope(initialize_variables=False),
        pytest.raises(
            ArchitectureError, match="conv3_block1_add: the shortcut 64×16×16 and the branch 128"
        ),
    ):
        twin.build(architectures.get("resnet18", image_size=(64, 64)))


def test_every_builder_of_a_residual_family_refuses(monkeypatch):
    """Whichever family is added: each Keras builder adds by the function that refuses."""
    import importlib

    import keras

    from parity.network.models.resnet import keras as twin

    def refuse(name, **shapes):
        raise ArchitectureError(f"asked at {name}")

    monkeypatch.setattr(twin, "require_one_shape", refuse)
    for name in (*architectures.names()[:1], *architectures.variants()):
        asked = architectures.get(name, image_size=(32, 32), classes=2)
        module = importlib.import_module(f"parity.network.models.{asked.family}.keras")
        with (
            keras.StatelessScope(initialize_variables=False),
            pytest.raises(ArchitectureError, match="asked at"),
        ):
            module.build(asked)
