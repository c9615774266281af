"""Correct ports, as people write them, pass whole: no difference is seen where there is none."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.framework

TORCH = '''
import torch
from torch import nn
import torch.nn.functional as F


class Quantised(nn.Conv1d):
    """Dilated and causal, with a learned step of its kernel, a scalar."""

    def __init__(self, width, dilation):
        super().__init__(width, width, 3, dilation=dilation)
        self.step = nn.Parameter(torch.tensor(0.01))
        self.left = 2 * dilation

    def forward(self, x):
        kernel = torch.round(self.weight / self.step) * self.step
        return F.conv1d(F.pad(x, (self.left, 0)), kernel, self.bias, dilation=self.dilation)


class Block(nn.Module):
    def __init__(self, length, width, dilation):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = Quantised(width, dilation)
        self.expand = nn.Conv1d(width, 2 * width, 1)
        self.mix = nn.Conv1d(length, length, 1)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        y = self.conv(self.norm(x).transpose(1, 2))
        y = self.mix(F.glu(self.expand(y), dim=1).transpose(1, 2))
        q, k, v = self.query(y), self.key(y), self.value(y)
        return x + 0.1 * (q @ k.transpose(1, 2)) @ v


class Net(nn.Module):
    def __init__(self, length=12, width=6):
        super().__init__()
        self.blocks = nn.ModuleList(Block(length, width, d) for d in (1, 2))
        self.low, self.high = nn.Linear(width, 3), nn.Linear(width, 3)
        self.register_buffer("basis", torch.linspace(0.0, 1.0, 15).view(3, 5))
        self.classes = nn.Parameter(torch.randn(4, 5))

    def forward(self, signal):
        for block in self.blocks:
            signal = block(signal)
        pooled = signal.mean(1)
        found = torch.tanh(self.low(pooled) @ self.basis) + (self.high(pooled) @ self.basis) ** 2
        return found @ F.normalize(self.classes, dim=-1).t()


def build():
    torch.manual_seed(0)
    return Net()
'''

KERAS = """
import keras
import numpy as np
from keras import layers, ops


class Quantised(layers.Conv1D):
    def build(self, shape):
        super().build(shape)
        self.step = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.02))

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        x = ops.pad(x, [[0, 0], [2 * self.dilation_rate[0], 0], [0, 0]])
        kernel = ops.round(self.kernel / self.step) * self.step
        return ops.conv(x, kernel, dilation_rate=self.dilation_rate) + self.bias


class Products(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.value, self.key, self.query = (layers.Dense(width) for _ in range(3))

    def call(self, x):
        v, k, q = self.value(x), self.key(x), self.query(x)
        return 0.1 * ops.matmul(ops.einsum("bkd,bqd->bqk", k, q), v)


class Cosines(layers.Layer):
    def build(self, shape):
        self.classes = self.add_weight(shape=(4, shape[-1]), initializer="random_normal")

    def call(self, x):
        length = ops.sqrt(ops.sum(ops.square(self.classes), axis=-1, keepdims=True))
        return ops.matmul(x, ops.transpose(self.classes / length))


def build(length=12, width=6):
    keras.utils.set_random_seed(1)
    signal = x = keras.Input((length, width), name="signal")
    for dilation in (1, 2):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = Quantised(width, 3, dilation_rate=dilation)(y)
        a, b = ops.split(layers.Conv1D(2 * width, 1)(y), 2, axis=-1)
        y = layers.Permute((2, 1))(a * ops.sigmoid(b))
        y = layers.Permute((2, 1))(layers.Dense(length)(y))
        x = x + Products(width)(y)
    x = layers.GlobalAveragePooling1D()(x)
    basis = np.linspace(0.0, 1.0, 15).reshape(3, 5).astype("float32")
    project = layers.Lambda(lambda each: ops.matmul(each, basis))
    high, low = layers.Dense(3)(x), layers.Dense(3)(x)
    found = ops.square(project(high)) + ops.tanh(project(low))
    return keras.Model(signal, Cosines()(found))
"""


@pytest.mark.slow
def test_a_port_with_all_that_is_written_in_two_ways(parity, tmp_path):
    """Signals, tokens, computed kernels, a scalar, square kernels, a basis, a GLU; and exports."""
    (tmp_path / "torch_net.py").write_text(TORCH)
    (tmp_path / "keras_net.py").write_text(KERAS)
    models = tmp_path / "torch_net.py:build", tmp_path / "keras_net.py:build"
    options = ("--weights", "torch", "--input", "random", "--json", "-")
    done = parity("compare", *map(str, models), *options)
    assert done.code == 0, done.out + done.err
    assert set(done.report["subjects"]) == {"torch", "keras", "onnx-torch", "onnx-keras"}
    assert set(done.report["levels"].values()) <= {"pass", "skipped"}
    wrong = KERAS.replace("ops.sigmoid(b)", "ops.tanh(b)")
    (tmp_path / "keras_net.py").write_text(wrong)
    assert parity("compare", *map(str, models), *options, "--no-export", "--no-explain").code == 1
