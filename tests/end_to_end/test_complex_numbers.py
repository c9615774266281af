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


def test_parts_are_joined_as_they_were_split():
    from parity.network.arrays import join_complex, split_complex

    numbers = np.array([[1 + 2j, 3 - 1j]], np.complex64)
    assert split_complex(numbers).shape == (1, 2, 2)
    assert np.array_equal(join_complex(split_complex(numbers)), numbers)
    assert split_complex(numbers.real) is not None
