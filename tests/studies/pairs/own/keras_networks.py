"""The Keras side of the pairs: each function returns a model, or a model and its inputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

IMAGE = (32, 32, 3)


def _finish(inputs: Any, outputs: Any) -> keras.Model:
    return keras.Model(inputs, outputs)


def u_net() -> keras.Model:
    """Two levels down, two up by transposed convolutions, concatenated with the way down."""
    image = keras.Input(IMAGE)
    x = image
    ways = []
    for level, width in (("down1", 8), ("down2", 16)):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{level}a")(x)
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{level}b")(x)
        ways.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="middle")(x)
    for level, width, way in (("up2", 16, ways[1]), ("up1", 8, ways[0])):
        x = layers.Conv2DTranspose(width, 2, strides=2, name=f"{level}t")(x)
        x = layers.Concatenate()([way, x])
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{level}a")(x)
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{level}b")(x)
    return _finish(image, layers.Conv2D(4, 1, name="head")(x))


def lstm_tagger() -> keras.Model:
    tokens = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 16, name="embedding")(tokens)
    x = layers.LSTM(24, return_sequences=True, name="lstm1")(x)
    x = layers.LSTM(24, return_sequences=True, name="lstm2")(x)
    return _finish(tokens, layers.Dense(5, name="head")(x))


def gru_after() -> keras.Model:
    signal = keras.Input((10, 6))
    x = layers.GRU(12, return_sequences=True, name="gru")(signal)
    return _finish(signal, layers.Dense(3, name="head")(x))


def gru_before() -> keras.Model:
    signal = keras.Input((10, 6))
    x = layers.GRU(12, return_sequences=True, reset_after=False, name="gru")(signal)
    return _finish(signal, layers.Dense(3, name="head")(x))


def gru_cells() -> keras.Model:
    """The same as `gru_before`, from a cell: PyTorch's GRU has no such reset gate."""
    signal = keras.Input((10, 6))
    cell = layers.GRUCell(12, reset_after=False)
    x = layers.RNN(cell, return_sequences=True, name="gru")(signal)
    return _finish(signal, layers.Dense(3, name="head")(x))


def bidirectional() -> keras.Model:
    signal = keras.Input((10, 6))
    recurrent = layers.LSTM(12, return_sequences=True)
    x = layers.Bidirectional(recurrent, name="both")(signal)
    return _finish(signal, layers.Dense(3, name="head")(x))


def last_state() -> keras.Model:
    """The last state of a simple recurrent network decides."""
    signal = keras.Input((10, 6))
    x = layers.SimpleRNN(12, name="rnn")(signal)
    return _finish(signal, layers.Dense(3, name="head")(x))


def conv1d() -> keras.Model:
    signal = keras.Input((40, 4))
    x = layers.Conv1D(8, 5, padding="same", name="conv1")(signal)
    x = layers.BatchNormalization(epsilon=1e-5, name="norm1")(x)
    x = layers.ReLU()(x)
    x = layers.MaxPooling1D(2)(x)
    x = layers.Conv1D(16, 3, padding="causal", dilation_rate=2, name="conv2")(x)
    x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling1D()(x)
    return _finish(signal, layers.Dense(3, name="head")(x))


def conv3d() -> keras.Model:
    volume = keras.Input((8, 12, 12, 2))
    x = layers.Conv3D(4, 3, padding="same", activation="relu", name="conv1")(volume)
    x = layers.MaxPooling3D(2)(x)
    x = layers.Conv3D(6, 3, name="conv2")(x)
    x = layers.GlobalAveragePooling3D()(x)
    return _finish(volume, layers.Dense(3, name="head")(x))


def token_model() -> keras.Model:
    """An encoder of one block whose attention is written out."""
    tokens = keras.Input((9,), dtype="int32")
    x = layers.Embedding(60, 32, name="embedding")(tokens)
    y = layers.LayerNormalization(epsilon=1e-5, name="norm1")(x)
    q, k, v = (layers.Dense(32, name=name)(y) for name in ("query", "key", "value"))

    def split(t: Any) -> Any:
        return ops.transpose(ops.reshape(t, (-1, 9, 4, 8)), (0, 2, 1, 3))

    scores = ops.matmul(split(q), ops.transpose(split(k), (0, 1, 3, 2))) / 8**0.5
    y = ops.matmul(ops.softmax(scores), split(v))
    y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, 9, 32))
    x = x + layers.Dense(32, name="project")(y)
    y = layers.LayerNormalization(epsilon=1e-5, name="norm2")(x)
    y = layers.Dense(64, activation="gelu", name="wide")(y)
    x = x + layers.Dense(32, name="narrow")(y)
    x = layers.LayerNormalization(epsilon=1e-5, name="norm3")(x)
    return _finish(tokens, layers.Dense(7, name="head")(x))


def attention_layer() -> keras.Model:
    signal = keras.Input((9, 32))
    x = layers.MultiHeadAttention(4, 8, name="attention")(signal, signal)
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(x + signal)
    return _finish(signal, layers.Dense(7, name="head")(x))


def two_inputs() -> keras.Model:
    image, features = keras.Input(IMAGE, name="image"), keras.Input((5,), name="features")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(6, activation="tanh", name="dense")(features)
    x = layers.Concatenate()([x, y])
    return _finish([image, features], layers.Dense(3, name="head")(x))


def two_outputs() -> keras.Model:
    image = keras.Input(IMAGE)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    pooled = layers.GlobalAveragePooling2D()(x)
    scores = layers.Dense(3, name="scores")(pooled)
    return _finish(image, [scores, layers.Conv2D(2, 1, name="map")(x)])


def dict_outputs() -> keras.Model:
    image = keras.Input(IMAGE)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    pooled = layers.GlobalAveragePooling2D()(x)
    boxes, scores = layers.Dense(4, name="boxes"), layers.Dense(4, name="scores")
    return _finish(image, {"scores": scores(pooled), "boxes": boxes(pooled)})


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")
        self.norm1 = layers.BatchNormalization(epsilon=1e-5, name="norm1")
        self.conv2 = layers.Conv2D(8, 3, padding="same", name="conv2")
        self.head = layers.Dense(3, name="head")

    def call(self, x: Any) -> Any:
        x = ops.relu(self.norm1(self.conv1(x)))
        x = ops.relu(x + self.conv2(x))
        return self.head(ops.mean(x, axis=(1, 2)))


def subclassed() -> tuple[keras.Model, Any]:
    return Subclassed(), np.random.default_rng(0).normal(size=(1, *IMAGE)).astype("float32")


def nested() -> keras.Model:
    image = keras.Input(IMAGE)
    inside = keras.Input((16, 16, 8))
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(inside)
    y = layers.Conv2D(8, 3, padding="same", name="conv2")(y)
    block = keras.Model(inside, layers.ReLU()(layers.Add()([inside, y])), name="block")
    x = layers.Conv2D(8, 2, strides=2, name="stem")(image)
    x = block(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _finish(image, layers.Dense(3, name="head")(x))


def operators() -> keras.Model:
    """Arithmetic on tensors, and slices, without layers."""
    image = keras.Input(IMAGE)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(image)
    y = layers.Conv2D(8, 3, padding="same", activation="sigmoid", name="conv2")(x)
    x = x + y * 2.0
    x = x[:, ::2, ::2] - 0.5
    return _finish(image, layers.Dense(3, name="head")(ops.max(x, axis=(1, 2))))


def separable() -> keras.Model:
    image = keras.Input(IMAGE)
    x = layers.SeparableConv2D(8, 3, padding="same", use_bias=False, name="first")(image)
    x = layers.BatchNormalization(epsilon=1e-5, name="norm")(x)
    x = layers.ReLU(max_value=6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Activation("silu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _finish(image, layers.Dense(3, name="head")(x))


def squeeze_excite() -> keras.Model:
    image = keras.Input(IMAGE)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(image)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Conv2D(4, 1, activation="relu", name="reduce")(s)
    s = layers.Conv2D(16, 1, activation="sigmoid", name="expand")(s)
    x = layers.Multiply()([x, s])
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _finish(image, layers.Dense(3, name="head")(x))


def flattened() -> keras.Model:
    image = keras.Input(IMAGE)
    x = layers.Conv2D(6, 5, activation="relu", name="conv1")(image)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(8, 5, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(20, activation="relu", name="dense")(x)
    return _finish(image, layers.Dense(4, name="head")(x))


def residual() -> keras.Model:
    """Two residual blocks with batch norms, the second one with a shortcut that has weights."""
    image = keras.Input(IMAGE)

    def norm(name: str) -> layers.Layer:
        return layers.BatchNormalization(epsilon=1e-5, name=name)

    def conv(width: int, size: int, name: str, stride: int = 1) -> layers.Layer:
        if stride == 1:
            return layers.Conv2D(width, size, padding="same", use_bias=False, name=name)
        return layers.Conv2D(width, size, strides=stride, use_bias=False, name=name)

    x = layers.ReLU()(norm("norm")(conv(8, 3, "stem")(image)))
    y = layers.ReLU()(norm("norm1a")(conv(8, 3, "conv1a")(x)))
    y = norm("norm1b")(conv(8, 3, "conv1b")(y))
    x = layers.ReLU()(layers.Add()([x, y]))
    shortcut = norm("norm2s")(conv(16, 1, "conv2s", 2)(x))
    y = layers.ZeroPadding2D(1)(x)
    y = layers.ReLU()(norm("norm2a")(conv(16, 3, "conv2a", 2)(y)))
    y = norm("norm2b")(conv(16, 3, "conv2b")(y))
    x = layers.ReLU()(layers.Add()([shortcut, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return _finish(image, layers.Dense(3, name="head")(x))


def upsampled() -> keras.Model:
    """A small autoencoder: up-sampling of two kinds, PReLU and a group norm."""
    image = keras.Input(IMAGE)
    x = layers.Conv2D(8, 3, strides=2, name="conv1")(layers.ZeroPadding2D(1)(image))
    x = layers.GroupNormalization(4, epsilon=1e-5, name="norm")(x)
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.UpSampling2D(2, interpolation="nearest")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="elu", name="conv2")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return _finish(image, layers.Conv2D(3, 3, padding="same", activation="tanh", name="last")(x))
