"""What is read of a PyTorch module, given to its kind's operator, is what the module computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from parity.network import kinds
from parity.runtimes.torch import layers as torch_layers

pytestmark = pytest.mark.framework

IMAGE = (2, 4, 7, 10)

MODULES = {
    "conv": [
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0)),
        nn.Conv2d(4, 6, (4, 2), padding="same", bias=False),
        nn.Conv2d(4, 6, 3, padding="valid", groups=2, dilation=(1, 2)),
    ],
    "depthwise_conv": [nn.Conv2d(4, 8, 3, groups=4, padding=1), nn.Conv2d(4, 4, 2, groups=4)],
    "conv_transpose": [
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 6, (2, 3), stride=(3, 2), groups=2, output_padding=(2, 0)),
        nn.ConvTranspose2d(4, 6, 3, dilation=2, padding=(2, 1), bias=False),
    ],
    "dense": [nn.Linear(4, 5), nn.Linear(4, 5, bias=False)],
    "batch_norm": [nn.BatchNorm2d(4, eps=0.1), nn.BatchNorm2d(4, affine=False)],
    "layer_norm": [nn.LayerNorm(4, eps=0.1), nn.LayerNorm(4, elementwise_affine=False)],
    "group_norm": [nn.GroupNorm(2, 4, eps=0.1), nn.GroupNorm(4, 4, affine=False)],
    "relu": [nn.ReLU()],
    "leaky_relu": [nn.LeakyReLU(0.2)],
    "elu": [nn.ELU(0.3), nn.ELU()],
    "gelu": [nn.GELU(), nn.GELU("tanh")],
    "silu": [nn.SiLU()],
    "sigmoid": [nn.Sigmoid()],
    "hard_sigmoid": [nn.Hardsigmoid()],
    "hard_swish": [nn.Hardswish()],
    "tanh": [nn.Tanh()],
    "softmax": [nn.Softmax(1)],
    "max_pool": [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((2, 3), (2, 1), dilation=(2, 3), ceil_mode=True),
        nn.MaxPool2d(2),
    ],
    "avg_pool": [
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d((2, 3), 2, (1, 1), ceil_mode=True),
        nn.AvgPool2d(2),
    ],
    "global_avg_pool": [nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((3, 4))],
    "global_max_pool": [nn.AdaptiveMaxPool2d((1, 1)), nn.AdaptiveMaxPool2d(3)],
    "identity": [nn.Identity()],
    "dropout": [nn.Dropout(0.5)],
    "flatten": [nn.Flatten()],
    "pad": [nn.ZeroPad2d((1, 2, 0, 3)), nn.ConstantPad2d((1, -2, 0, 3), 1.5)],
    "upsample": [
        nn.Upsample(scale_factor=(2.0, 1.5)),
        nn.Upsample((9, 20)),
        nn.Upsample(scale_factor=1.5, mode="bilinear"),
        nn.Upsample((9, 4), mode="bilinear", align_corners=True),
        nn.UpsamplingBilinear2d(scale_factor=2),
    ],
}
"""Of every kind that PyTorch has a module for."""

FLAT = {"dense", "layer_norm"}
"""Kinds that are tried on vectors."""


def test_every_kind_of_pytorch_is_tried():
    assert set(MODULES) == {kind.name for kind in kinds.registry().values() if kind.torch}


@pytest.mark.parametrize("kind", sorted(MODULES))
def test_the_operator_with_the_settings_that_are_read_is_the_module(kind):
    found, generator = kinds.get(kind), torch.Generator().manual_seed(0)
    for module in MODULES[kind]:
        module.double().eval()
        held = dict(module.named_parameters()) | dict(module.named_buffers())
        for tensor in held.values():
            if tensor.is_floating_point():
                random = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.data.copy_(random + 0.1)
        shape = (2, 4) if kind in FLAT else IMAGE
        data = torch.randn(shape, generator=generator, dtype=torch.float64)
        with torch.inference_mode():
            expected = module(data).numpy()

        assert torch_layers.kind_of(module) == kind
        weights = {r.name: held[r.torch].detach().numpy() for r in found.roles if r.torch in held}
        assert len(weights) == sum(tensor.is_floating_point() for tensor in held.values())
        settings = torch_layers.read_hyperparameters(module)
        actual = kinds.evaluate(kind, [data.numpy()], weights, settings)
        if found.pools_image and expected.shape[2:] == (1, 1):
            expected = expected[:, :, 0, 0]
        assert actual.shape == expected.shape, settings
        error = np.abs(actual - expected).max()
        assert error <= 1e-13 * np.abs(expected).max(), (settings, error)


@pytest.mark.parametrize("kind", kinds.registry().values(), ids=lambda kind: kind.name)
def test_every_name_is_one_of_pytorch(kind):
    for name in kind.torch:
        assert issubclass(getattr(nn, name), nn.Module)
    for name in kind.torch_functions:
        found = getattr(functional, name, None) or getattr(torch, name, None)
        assert callable(found or getattr(torch.Tensor, name))
    for setting in kind.hyperparameters:
        readers = {f"{kind.name}.{setting.name}", setting.name} & set(torch_layers.READERS)
        if setting.torch and not readers and kind.torch:
            assert any(hasattr(m, setting.torch) for m in MODULES[kind.name]), setting.name
        elif setting.torch and not readers:
            # Of a kind that functions alone compute, it is an argument.
            texts = [str(getattr(functional, name).__doc__) for name in kind.torch_functions]
            assert any(setting.torch in text for text in texts), setting.name


def test_an_adaptive_pool_that_keeps_an_axis_states_no_size():
    assert torch_layers.read_hyperparameters(nn.AdaptiveAvgPool2d((None, 1))) == {}


def test_a_convolution_of_one_channel_is_not_depthwise():
    assert torch_layers.kind_of(nn.Conv2d(1, 3, 3)) == "conv"
    assert torch_layers.kind_of(nn.Conv2d(4, 8, 3, groups=2)) == "conv"


def test_a_class_of_that_name_from_elsewhere_is_no_kind():
    Conv2d = type("Conv2d", (nn.Module,), {})  # noqa: N806
    assert torch_layers.kind_of(Conv2d()) == ""
