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


CELLS_TORCH = """
import torch
from torch import nn


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.out = nn.LSTMCell(4, 6), nn.GRUCell(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        zeros = torch.zeros(len(x), 6)
        state, h = (zeros, zeros), zeros
        for t in range(x.size(1)):
            state = self.first(x[:, t], state)
            h = self.last(state[0] + state[1], h)
        return self.out(h)


def build():
    torch.manual_seed(3)
    return Cells().eval(), (torch.randn(2, 4, 4),)
"""

CELLS_KERAS = """
import keras
import numpy as np
from keras import layers, ops


class Cells(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.out = LAYERS

    def call(self, x):
        zeros = ops.zeros((len(x), 6))
        state, h = [zeros, zeros], zeros
        for t in range(x.shape[1]):
            _, state = self.first(x[:, t], state)
            h, _ = self.last(state[0] + state[1], h)
        return self.out(h)


def build():
    model = Cells()
    x = np.random.RandomState(0).randn(2, 4, 4).astype("float32")
    model(x)
    return model, x
"""

PLAIN = "layers.LSTMCell(6), layers.GRUCell(6), layers.Dense(3)"


@pytest.mark.parametrize(
    ("cells", "code", "line"),
    [
        (PLAIN, 0, ""),
        # A cell of the user's own is read as its products.
        (
            f"{PLAIN.replace('layers.GRUCell(6)', 'Own(6)')}\nclass Own(layers.GRUCell):\n"
            "    def call(self, sequence, states): return super().call(sequence, states)",
            1,
            "4 weights of torch were not copied into keras (last.weight_ih, last.weight_hh, "
            "last.bias_ih and 1 more), and the difference begins where they are read.",
        ),
    ],
    ids=["cells", "a cell of one's own"],
)
@pytest.mark.slow
def test_cells_in_a_loop_have_the_weights_of_their_partners(parity, tmp_path, cells, code, line):
    first, _, more = cells.partition("\n")
    text = CELLS_KERAS.replace("LAYERS", first).replace("class Cells", f"{more}\n\nclass Cells")
    (tmp_path / "t.py").write_text(CELLS_TORCH)
    (tmp_path / "k.py").write_text(text)
    done = parity(
        "compare", f"{tmp_path / 't.py'}:build", f"{tmp_path / 'k.py'}:build", "--weights", "torch",
        "--no-export", "--no-explain", "--quiet",
    )  # fmt: skip
    assert done.code == code, done.out
    assert line in done.out.partition("\n")[0]
