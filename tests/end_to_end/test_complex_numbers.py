"""Complex tensors are compared by both of their parts, in either framework."""

from __future__ import annotations

import numpy as np
import pytest

import parity

pytestmark = pytest.mark.framework

TORCH = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, imaginary, given):
        super().__init__()
        self.dense, self.imaginary, self.given = nn.Linear(8, 8), imaginary, given

    def forward(self, x):
        z = torch.fft.fft(self.dense(x))
        z = torch.complex(z.real, z.imag * self.imaginary)
        return z if self.given else torch.view_as_real(z)


def net(imaginary=1.0, given=True):
    torch.manual_seed(3)
    return Net(imaginary, given), torch.randn(2, 8)
"""

KERAS = """
import keras
import tensorflow as tf


class Spectrum(keras.layers.Layer):
    def __init__(self, imaginary):
        super().__init__()
        self.imaginary = imaginary

    def call(self, x):
        z = tf.signal.fft(tf.complex(x, tf.zeros_like(x)))
        z = tf.complex(tf.math.real(z), tf.math.imag(z) * self.imaginary)
        return tf.stack([tf.math.real(z), tf.math.imag(z)], -1)


def net(imaginary=1.0):
    data = keras.Input((8,))
    return keras.Model(data, Spectrum(imaginary)(keras.layers.Dense(8)(data)))
"""


def test_an_imaginary_part_that_differs_is_a_divergence(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(TORCH)
    report = parity.compare(f"right={file}:net", f"wrong={file}:net,imaginary=2.0", export=False)
    assert report.verdict == "divergence"
    (cause,) = report.causes
    assert (cause.subject, cause.cause) == ("wrong", "constant")
    report = parity.compare(f"right={file}:net", f"same={file}:net", export=False)
    assert report.verdict == "parity"


@pytest.mark.slow
def test_complex_tensors_across_frameworks(tmp_path):
    torch_file, keras_file = tmp_path / "net.py", tmp_path / "keras_net.py"
    torch_file.write_text(TORCH)
    keras_file.write_text(KERAS)
    right = f"{torch_file}:net,given=False"
    for imaginary, verdict in ((1.0, "parity"), (2.0, "divergence")):
        wrong = f"{keras_file}:net,imaginary={imaginary}"
        assert parity.compare(right, wrong, weights=right, export=False).verdict == verdict


TORCH_CONSTANTS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, factor, offset, turned, is_tensor):
        super().__init__()
        self.dense, self.turned = nn.Linear(8, 8), turned
        self.factor, self.offset = (
            torch.tensor([complex(*each)]) if is_tensor else complex(*each)
            for each in (factor, offset)
        )

    def forward(self, x):
        z = torch.fft.fft(self.dense(x))
        z = z * self.factor + self.offset
        z = z * (torch.view_as_complex(torch.arange(16.0).reshape(8, 2)) * (1 + self.turned * 1j))
        return torch.view_as_real(z / (2 + 1j) * 0.5)


def net(factor=(1.0, 2.0), offset=(0.5, 1.0), turned=0.0, is_tensor=False):
    torch.manual_seed(3)
    return Net(factor, offset, turned, is_tensor), torch.randn(2, 8)
"""

KERAS_CONSTANTS = """
import keras
import tensorflow as tf


class Spectrum(keras.layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        z = tf.signal.fft(tf.complex(x, tf.zeros_like(x)))
        z = z * tf.constant(complex(*self.factor), z.dtype)
        return tf.stack([tf.math.real(z), tf.math.imag(z)], -1)


def net(factor=(1.0, 2.0)):
    keras.utils.set_random_seed(0)
    data = keras.Input((8,))
    return keras.Model(data, Spectrum(factor)(keras.layers.Dense(8)(data)))
"""


@pytest.mark.parametrize("is_tensor", [False, True])
def test_complex_constants_have_their_names(tmp_path, is_tensor):
    file = tmp_path / "net.py"
    file.write_text(TORCH_CONSTANTS)
    expected = {
        "factor=(1.0,3.0)": ("constant", "Its constant is 1+3j, not 1+2j"),
        "offset=(0.5,0.0)": ("constant", "Its constant is 0.5+0j, not 0.5+1j"),
        "turned=1.0": ("constant-factor", "Its constant is 1+1j times the reference's"),
    }
    others = [f"m{at}={file}:net,is_tensor={is_tensor},{each}" for at, each in enumerate(expected)]
    report = parity.compare(f"right={file}:net", *others, export=False)
    found = {each.subject: each for each in report.causes}
    assert len(found) == len(report.causes) == len(expected)
    for at, (cause, text) in enumerate(expected.values()):
        assert found[f"m{at}"].cause == cause
        assert text in found[f"m{at}"].message


@pytest.mark.slow
def test_complex_constants_of_keras_models(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(KERAS_CONSTANTS)
    report = parity.compare(f"right={file}:net", f"wrong={file}:net,factor=(1.0,3.0)", export=False)
    (cause,) = report.causes
    assert cause.cause == "constant"
    assert "Its constant is 1+3j, not 1+2j" in cause.message


def test_parts_are_joined_as_they_were_split():
    from parity.network.arrays import join_complex, split_complex

    numbers = np.array([[1 + 2j, 3 - 1j]], np.complex64)
    assert split_complex(numbers).shape == (1, 2, 2)
    assert np.array_equal(join_complex(split_complex(numbers)), numbers)
    assert split_complex(numbers.real) is not None


def test_outputs_of_live_models_have_both_parts():
    from parity.testing.comparison import _as_floating

    numbers = np.array([1 + 2j, 3 - 1j], np.complex64)
    assert np.array_equal(_as_floating(numbers), [[1.0, 2.0], [3.0, -1.0]])


def test_complex_weights_are_named_and_kept_in_a_copy(tmp_path):
    from parity.runtimes.torch.in_process import InProcessModel

    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))

        def forward(self, x):
            return (x * self.weight).imag

    model = InProcessModel(Net())
    (output,) = model.compute_outputs({"x": np.ones((1, 2), np.float32)}).values()
    assert output.tolist() == [[2.0, -1.0]]
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\n\n\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))\n\n"
        "    def forward(self, x):\n"
        "        return torch.view_as_real(x * self.weight)\n\n\n"
        "def net():\n    return Net(), torch.randn(2, 2)\n"
    )
    report = parity.compare(f"a={file}:net", f"b={file}:net", export=False)
    note = "complex weights are neither compared nor copied as weights: weight"
    assert any(note in each for each in report.notes)
