"""Correct ports whose layers structure alone does not tell apart: they are in parity."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.framework

TORCH = """
import torch
from torch import nn
import torch.nn.functional as F


class Memory(nn.Module):
    def __init__(self, vocabulary=30, width=16, hops=3):
        super().__init__()
        self.C = nn.ModuleList([nn.Embedding(vocabulary, width) for _ in range(hops + 1)])
        self.T = nn.Parameter(torch.randn(hops + 1, 5, width) * 0.1)
        self.H = nn.Linear(width, width, bias=False)
        self.register_buffer("scale", torch.arange(1, 6 * width + 1).view(6, width) / 20)

    def encode(self, table, words):
        mask = (words != 0).float().unsqueeze(-1)
        return (table(words) * self.scale * mask).sum(dim=-2)

    def forward(self, story, query):
        u = self.encode(self.C[0], query)
        for hop in range(len(self.C) - 1):
            m = self.encode(self.C[hop], story) + self.T[hop]
            c = self.encode(self.C[hop + 1], story) + self.T[hop + 1]
            p = F.softmax(torch.einsum("bnd,bd->bn", m, u), dim=-1)
            u = torch.tanh(self.H(u) + torch.einsum("bn,bnd->bd", p, c))
        return F.linear(u, self.C[-1].weight)


def build():
    torch.manual_seed(3)
    story, query = torch.randint(1, 30, (2, 5, 6)), torch.randint(1, 30, (2, 6))
    return Memory().eval(), (story, query)
"""

KERAS = """
import keras
import numpy as np
from keras import layers, ops


class Memory(keras.Model):
    def __init__(self, vocabulary=30, width=16, hops=3):
        super().__init__()
        self.hops = hops
        self.C = [layers.Embedding(vocabulary, width, name=f"C{i}") for i in range(hops + 1)]
        self.T = self.add_weight(shape=(hops + 1, 5, width), name="T")
        self.H = layers.Dense(width, use_bias=False, name="H")
        self.scale = np.arange(1, 6 * width + 1, dtype="float32").reshape(6, width) / 20

    def encode(self, table, words):
        mask = ops.expand_dims(ops.cast(ops.not_equal(words, 0), "float32"), -1)
        return ops.sum(table(words) * self.scale * mask, axis=-2)

    def call(self, inputs):
        story, query = inputs
        u = self.encode(self.C[0], query)
        for hop in range(self.hops):
            m = self.encode(self.C[hop], story) + self.T[hop]
            c = self.encode(self.C[hop + 1], story) + self.T[hop + 1]
            p = ops.softmax(ops.sum(m * u[:, None, :], axis=-1), axis=-1)
            u = ops.tanh(self.H(u) + ops.sum(p[:, :, None] * c, axis=1))
        return ops.matmul(u, ops.transpose(self.C[self.hops].embeddings))


def build():
    model = Memory()
    draw = np.random.RandomState(0)
    inputs = [draw.randint(1, 30, shape).astype("int32") for shape in ((2, 5, 6), (2, 6))]
    model(inputs)
    return model, inputs
"""


def test_tables_of_one_shape_are_paired_by_their_names_as_the_values_prove(parity, tmp_path):
    (tmp_path / "t.py").write_text(TORCH)
    (tmp_path / "k.py").write_text(KERAS)
    done = parity(
        "compare", f"{tmp_path / 't.py'}:build", f"{tmp_path / 'k.py'}:build", "--weights", "torch",
        "--no-export", "--no-explain",
    )  # fmt: skip
    assert done.code == 0, done.out
