"""Small PyTorch models of every manner of writing, and inputs for them."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Inputs = dict[str, np.ndarray[Any, Any]]


def image(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tokens(*shape: int, below: int = 11, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, below, shape)


class Residual(nn.Module):
    """In-place activations, `+=`, a shortcut."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.down = nn.Conv2d(3, width, 1)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.down(x)
        return self.relu(out)


class Functional(nn.Module):
    """No layer has a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.weight = nn.Parameter(torch.randn(4, 5))
        self.bias = nn.Parameter(torch.randn(5))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("var", torch.rand(4) + 0.5)

    def forward(self, x):
        x = functional.conv2d(x, self.kernel, padding="same")
        x = functional.batch_norm(x, self.mean, self.var, eps=1e-3)
        x = functional.leaky_relu(x, 0.2)
        x = functional.max_pool2d(functional.pad(x, (1, 1, 0, 0)), 2)
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return torch.softmax(x @ self.weight + self.bias, dim=-1)


class Maxima(nn.Module):
    """Attention over channels and places, as CBAM pools them."""

    def forward(self, x):
        largest = functional.adaptive_max_pool2d(x, 1).flatten(1)
        x = x * largest[:, :, None, None]
        return x.max(1, keepdim=True)[0] - torch.min(x, dim=1).values.unsqueeze(1)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Residual(), nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU()))
        self.head = nn.ModuleDict({"fc": nn.Linear(4, 3)})

    def forward(self, x):
        return self.head["fc"](self.body(x).mean((2, 3)))


class Branching(nn.Module):
    """The values decide on the path."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        for _ in range(3):
            x = self.one(x) if x.sum() > 0 else self.other(x)
        return x


class Outputs(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.a, self.b = form, nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x):
        one, two = self.a(x), self.b(x)
        if self.form == "tuple":
            return one, (two, x.shape)
        if self.form == "dict":
            return {"boxes": one, "scores": [two, None]}
        if self.form == "named":
            return namedtuple("Result", "left right")(one, two)
        return Pair(one, two)


@dataclass
class Pair:
    first: Any
    second: Any


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(3, 5)

    def forward(self, left, right, scale=None, *, extra=None):
        total = self.a(left) + self.b(right)
        total = total if scale is None else total * scale
        return total if extra is None else total - extra


class Tokens(nn.Module):
    """Integers, learned positions, a class token, an attention written by hand with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.position = nn.Parameter(torch.randn(1, 6, 8))
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm, self.gamma = nn.LayerNorm(8), nn.Parameter(torch.rand(8))

    def forward(self, ids):
        x = self.embed(ids)
        x = torch.cat((self.cls.expand(len(x), -1, -1), x), dim=1) + self.position
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * 4**-0.5
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        scores = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
        x = x + self.gamma * self.proj((scores @ v).transpose(1, 2).reshape(batch, length, width))
        return x[:, 0]


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(11, 6), layer, nn.Linear(width, 3)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0])


class Cells(nn.Module):
    """Cells that are called in a loop: with given states, with none, with zeros, on zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.long, self.gated = nn.LSTMCell(4, 5), nn.GRUCell(5, 5)
        self.plain, self.bare = nn.RNNCell(5, 4, nonlinearity="relu"), nn.RNNCell(4, 4, bias=False)

    def forward(self, x):
        state = x.new_zeros(len(x), 5)
        first, last, h, y = (state, state), None, None, torch.zeros(len(x), 4)
        for _ in range(2):
            first = self.long(x, first)
            last = self.gated(first[1], last)
            h = self.plain(last, h)
            y = self.bare(y, h)
        return y


class Computed(nn.Module):
    """Weights that are used through a computation."""

    def __init__(self) -> None:
        super().__init__()
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        self.table = nn.Parameter(torch.randn(5, 4))
        self.tied = nn.Linear(5, 4, bias=False)
        self.head = nn.Linear(4, 5)
        self.tied.weight = nn.Parameter(self.head.weight.detach().t().contiguous())

    def forward(self, x):
        x = self.spectral(self.normed(x).mean((2, 3)))
        x = functional.linear(x, self.table)
        x = x @ self.tied.weight.t()
        x = torch.addmm(self.head.bias, x, self.head.weight.T)
        x = torch.einsum("nc,cd->nd", x, self.table)
        # A cosine head: a computed kernel that the product reads transposed.
        return x @ functional.normalize(self.table, dim=-1).t()


class Views(nn.Module):
    """In-place functions on views and through them."""

    def forward(self, x):
        y = x.clone() * 2
        flat = y.view(-1)
        flat.mul_(3.0)
        y[:, 0] = 0.5
        y[:, 1] += x[:, 1]
        part = y[:, 2:]
        part.relu_()
        return y + flat.view_as(y), torch.relu(part)


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.tensor([1.0, 2.0, 3.0])
        self.register_buffer("shift", torch.ones(3), persistent=False)
        self.register_buffer("index", torch.tensor([2, 0, 1]))

    def forward(self, x):
        grid = torch.arange(3, device=x.device).to(x.dtype) / 3
        x = (x * self.scale - self.shift)[:, self.index]
        return x / (grid + 1) + x.new_zeros(3) + torch.zeros_like(x)


class ThroughNumpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        hidden = self.fc(x)
        return self.fc(torch.from_numpy(np.sort(hidden.numpy(), axis=-1)).to(x.dtype))


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.inner(x))


class Shapes(nn.Module):
    def forward(self, x):
        x = torch.roll(functional.interpolate(x, scale_factor=2, mode="nearest"), (1, 1), (2, 3))
        x = torch.stack((x, x.flip(3)), 1).flatten(1, 2).unsqueeze(1).squeeze(1)
        a, b = x.split((2, x.shape[1] - 2), dim=1)
        x = functional.pixel_shuffle(torch.cat((a, b, a, b), 1)[:, :8], 2)
        x = x.permute(0, 2, 3, 1).contiguous().view(x.shape[0], -1, x.shape[1]).transpose(1, 2)
        x = torch.where(x > 0, x, x.exp() - 1).clamp(-1, 4).sqrt().nan_to_num(0.5)
        return x.amax(-1, keepdim=True).expand(-1, -1, 3).repeat(1, 2, 1).sum(1)


class Activations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Sequential(
            nn.ReLU6(), nn.Hardtanh(-2, 2, inplace=True), nn.PReLU(3), nn.ELU(0.5), nn.GELU("tanh"),
            nn.Hardswish(), nn.Hardsigmoid(), nn.Softplus(2.0), nn.Mish(inplace=True), nn.SELU(),
            nn.CELU(0.7), nn.Softsign(), nn.LogSigmoid(), nn.Tanh(), nn.Sigmoid(),
            nn.LeakyReLU(0.1), nn.LogSoftmax(1), nn.Softmax2d(), nn.Dropout2d(0.3), nn.SiLU(),
        )  # fmt: skip

    def forward(self, x):
        return self.all(x)


class Positions(nn.Module):
    """A table of constants through a layer, as the positions of a Transformer-XL."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 8, bias=False)
        self.register_buffer("table", torch.linspace(-1.0, 1.0, 12).reshape(3, 4), False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bid,jd->bij", x, self.project(self.table))


class Decoder(nn.Module):
    """Learned queries through layers of their own, and once more as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(3, 8))
        self.table = nn.Parameter(torch.randn(6, 8))
        self.first = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.cross = nn.MultiheadAttention(8, 2, batch_first=True)
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        query = self.queries.unsqueeze(0)
        y = self.norm(query + self.first(query, query, query)[0])
        y = y.expand(len(x), -1, -1)
        y = y + self.cross(y, x, x)[0] + self.project(self.queries)
        scores = torch.einsum("bqc,kc->bqk", y, self.project(self.table))
        return scores, functional.linear(y, self.queries)


def sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


IMAGE = image(2, 3, 8, 8)
VECTOR = image(2, 4)
IDS = tokens(2, 5)


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    inputs: Inputs


CASES: dict[str, Case] = {
    "residual": Case(Residual, {"x": IMAGE}),
    "functional": Case(Functional, {"x": IMAGE}),
    "nested": Case(Nested, {"x": IMAGE}),
    "branching": Case(Branching, {"x": VECTOR}),
    **{
        f"outputs_{form}": Case(lambda form=form: Outputs(form), {"x": VECTOR})
        for form in ("tuple", "dict", "named", "dataclass")
    },
    "two_inputs": Case(TwoInputs, {"left": VECTOR, "right": image(2, 3)}),
    "optional_input": Case(
        TwoInputs, {"left": VECTOR, "right": image(2, 3), "extra": image(2, 5, seed=3)}
    ),
    "tokens": Case(Tokens, {"ids": IDS}),
    "fused_attention": Case(Fused, {"x": image(2, 5, 8)}),
    "lstm": Case(lambda: Recurrent(nn.LSTM(6, 4, 2, batch_first=True), 4), {"ids": IDS}),
    "gru": Case(lambda: Recurrent(nn.GRU(6, 4, bidirectional=True), 8), {"ids": IDS}),
    "rnn": Case(lambda: Recurrent(nn.RNN(6, 4, nonlinearity="relu"), 4), {"ids": IDS}),
    "cells": Case(Cells, {"x": VECTOR}),
    "lstm_projected": Case(lambda: Recurrent(nn.LSTM(6, 4, proj_size=2), 2), {"ids": IDS}),
    "maxima": Case(Maxima, {"x": IMAGE}),
    "computed": Case(Computed, {"x": IMAGE}),
    "views": Case(Views, {"x": image(2, 4, 3)}),
    "constants": Case(Constants, {"x": image(2, 3)}),
    "numpy": Case(ThroughNumpy, {"x": VECTOR}),
    "scripted": Case(Scripted, {"x": VECTOR}),
    "shapes": Case(Shapes, {"x": image(2, 2, 4, 4)}),
    "activations": Case(Activations, {"x": IMAGE}),
    "wave": Case(
        lambda: sequence(
            nn.Conv1d(3, 4, 3, dilation=2),
            nn.BatchNorm1d(4),
            nn.MaxPool1d(2),
            nn.ConvTranspose1d(4, 2, 3),
            nn.InstanceNorm1d(2, affine=True),
            nn.AvgPool1d(2),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(2, 3),
        ),
        {"input": image(2, 3, 16)},
    ),
    "volume": Case(
        lambda: sequence(
            nn.Conv3d(2, 4, 3, padding=1),
            nn.BatchNorm3d(4),
            nn.MaxPool3d(2),
            nn.GroupNorm(2, 4),
            nn.ConvTranspose3d(4, 2, 2),
            nn.AdaptiveMaxPool3d(2),
            nn.Flatten(),
        ),
        {"input": image(1, 2, 4, 6, 4)},
    ),
    "depthwise": Case(
        lambda: sequence(
            nn.Conv2d(3, 6, 3, groups=3),
            nn.ReLU6(inplace=True),
            nn.Conv2d(6, 4, 1),
            nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1, groups=2),
            nn.ZeroPad2d(1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.AvgPool2d(3, 2, 1),
            nn.AdaptiveMaxPool2d((2, 3)),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(24, 5),
        ),
        {"input": IMAGE},
    ),
    "norms": Case(
        lambda: sequence(
            nn.RMSNorm(8),
            nn.LayerNorm((8, 8), eps=1e-3),
            nn.GroupNorm(3, 3),
            nn.InstanceNorm2d(3),
        ),
        {"input": IMAGE},
    ),
    "encoder": Case(
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        ),
        {"src": image(2, 5, 8)},
    ),
    "attention": Case(
        lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=4),
        {"query": image(5, 2, 8), "key": image(7, 2, 6), "value": image(7, 2, 4)},
    ),
    "queries": Case(Decoder, {"x": image(2, 5, 8)}),
    "positions": Case(Positions, {"x": image(2, 5, 8)}),
}
