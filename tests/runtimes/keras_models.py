"""Small Keras models of every kind that the recorder is tried on, with their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """`inputs` are by name; `opaque` are the operations that no kind has."""

    build: Callable[[], Any]
    inputs: dict[str, Array]
    opaque: tuple[str, ...] = ()
    without_role: tuple[str, ...] = field(default=())
    """The names of variables that are read by no kind's role, or not at all."""


def drawn(*shape: int) -> Array:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def tokens(*shape: int) -> Array:
    return np.random.default_rng(list(shape)).integers(0, 20, shape).astype(np.int32)


CASES: dict[str, Case] = {}


def case(
    *, opaque: tuple[str, ...] = (), without_role: tuple[str, ...] = (), **inputs: Array
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def register(build: Callable[[], Any]) -> Callable[[], Any]:
        CASES[build.__name__] = Case(build, inputs, opaque, without_role)
        return build

    return register


def image(*shape: int, name: str = "image") -> Any:
    return keras.Input(shape, name=name)


# Images --------------------------------------------------------------------------------------


@case(image=drawn(2, 8, 8, 3))
def functional_sum() -> Any:
    x = image(8, 8, 3)
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x) + layers.Conv2D(4, 1)(x)
    return keras.Model(x, layers.Dense(2)(ops.mean(y * 2.0, axis=(1, 2))))


@case(image=drawn(2, 8, 8, 3))
def nested() -> Any:
    inner = image(8, 8, 3)
    block = keras.Model(inner, layers.Conv2D(4, 3, strides=2, padding="same")(inner), name="block")
    x = image(8, 8, 3)
    tail = keras.Sequential(
        [layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    )
    return keras.Model(x, layers.Flatten()(tail(block(x))))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(4, 3)
        self.blocks = [layers.Dense(4), layers.Dense(4)]
        self.norm = layers.LayerNormalization()

    def call(self, x: Any) -> Any:
        x = tf.nn.relu(self.conv(x))
        for block in self.blocks:
            x = self.norm(block(x)) + x
        return tf.reduce_max(x, axis=[1, 2])


@case(x=drawn(2, 8, 8, 3))
def subclassed() -> Any:
    return Subclassed()


@case(image=drawn(1, 16, 16, 3))
def unet() -> Any:
    x = image(16, 16, 3)
    top = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    middle = layers.MaxPooling2D()(top)
    middle = layers.Conv2D(8, 3, padding="same", activation="elu")(middle)
    low = layers.AveragePooling2D(3, 2, padding="same")(middle)
    up = layers.Conv2DTranspose(8, 3, strides=2, padding="same")(low)
    up = layers.UpSampling2D()(layers.Concatenate()([up, middle]))
    up = layers.UpSampling2D(2, interpolation="bilinear")(layers.Concatenate()([up, top]))
    return keras.Model(x, layers.Conv2D(1, 1, activation="sigmoid")(up))


@case(image=drawn(1, 9, 9, 4))
def convolutions() -> Any:
    x = image(9, 9, 4)
    y = layers.Conv2D(4, 3, dilation_rate=2, padding="same", groups=2, activation="gelu")(x)
    y = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", depth_multiplier=2)(y)
    y = layers.SeparableConv2D(6, 3, activation="silu")(y)
    y = layers.Conv2D(6, 3, groups=6)(y)
    y = layers.Conv2DTranspose(4, (3, 2), strides=(2, 3), output_padding=(1, 0))(y)
    return keras.Model(x, y)


@case(image=drawn(2, 16, 4))
def waves() -> Any:
    x = image(16, 4)
    y = layers.Conv1D(6, 3, padding="causal", dilation_rate=2)(x)
    y = layers.DepthwiseConv1D(3)(layers.MaxPooling1D(2)(y))
    y = layers.Conv1DTranspose(3, 4, strides=2, padding="same")(layers.UpSampling1D(2)(y))
    return keras.Model(x, layers.GlobalMaxPooling1D()(y))


@case(image=drawn(2, 16, 4))
def separable_wave() -> Any:
    x = image(16, 4)
    return keras.Model(x, layers.SeparableConv1D(5, 3, padding="same")(x))


@case(image=drawn(1, 6, 6, 6, 2))
def volumes() -> Any:
    x = image(6, 6, 6, 2)
    y = layers.MaxPooling3D(2, padding="same")(layers.Conv3D(3, 3, padding="same")(x))
    y = layers.AveragePooling3D(2, 1, padding="same")(layers.Conv3DTranspose(2, 2, strides=2)(y))
    return keras.Model(x, layers.GlobalAveragePooling3D()(layers.ZeroPadding3D(1)(y)))


@case(image=drawn(2, 6, 6, 8))
def norms() -> Any:
    x = image(6, 6, 8)
    y = layers.LayerNormalization(axis=[1, 2, 3])(layers.GroupNormalization(4)(x))
    y = layers.UnitNormalization()(layers.RMSNormalization()(y))
    y = layers.BatchNormalization(scale=False)(layers.GroupNormalization(-1)(y))
    return keras.Model(x, y)


@case(image=drawn(1, 3, 8, 8))
def channels_first() -> Any:
    x = image(3, 8, 8)
    y = layers.DepthwiseConv2D(3, data_format="channels_first")(x)
    y = layers.MaxPooling2D(2, data_format="channels_first")(layers.BatchNormalization(axis=1)(y))
    return keras.Model(x, layers.GlobalAveragePooling2D(data_format="channels_first")(y))


@case(image=drawn(1, 6, 6, 3) * 255)
def preprocessing() -> Any:
    x = image(6, 6, 3)
    y = layers.Rescaling(1 / 127.5, -1.0)(x)
    y = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(y)
    y = layers.Resizing(9, 9, interpolation="bicubic")(y)
    y = layers.Resizing(4, 5, interpolation="nearest")(y)
    for layer in (layers.Dropout(0.5), layers.GaussianNoise(0.1), layers.SpatialDropout2D(0.2)):
        y = layer(y)
    return keras.Model(x, y)


@case(image=drawn(1, 6, 6, 3), opaque=("ScaleAndTranslate",))
def resizes() -> Any:
    x = image(6, 6, 3)
    cubic = layers.UpSampling2D(3, interpolation="bicubic")(x)
    smooth = ops.image.resize(x, (7, 5), interpolation="bilinear", antialias=True)
    return keras.Model(x, [cubic, smooth])


@case(image=drawn(1, 7, 7, 3), without_role=("vector_u", "step"))
def computed_kernels() -> Any:
    class Quantised(layers.Conv2D):
        def build(self, shape: Any) -> None:
            super().build(shape)
            self.step = self.add_weight(shape=(), initializer="ones", name="step")

        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            kernel = ops.round(ops.divide(kernel, self.step)) * self.step
            return super().convolution_op(inputs, kernel)

    class Standardised(layers.Conv2D):
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            return super().convolution_op(inputs, kernel - ops.mean(kernel, axis=(0, 1, 2)))

    x = image(7, 7, 3)
    y = layers.SpectralNormalization(layers.Conv2D(3, 3))(Standardised(4, 3)(x))
    y = Quantised(3, 3)(y)
    return keras.Model(x, y)


# Sequences -----------------------------------------------------------------------------------


@case(image=drawn(2, 6, 3))
def lstm() -> Any:
    x = image(6, 3)
    y = layers.LSTM(4)(layers.LSTM(5, return_sequences=True, go_backwards=True)(x))
    return keras.Model(x, layers.Dense(2)(y))


@case(image=drawn(2, 6, 3))
def gru() -> Any:
    x = image(6, 3)
    y = layers.GRU(5, return_sequences=True)(x)
    y = layers.GRU(5, reset_after=False, return_sequences=True)(y)
    return keras.Model(x, layers.SimpleRNN(4, activation="relu")(y))


@case(image=drawn(2, 6, 3))
def gated_activations() -> Any:
    x = image(6, 3)
    hard = {"recurrent_activation": "hard_sigmoid", "return_sequences": True}
    y = layers.Bidirectional(layers.LSTM(5, **hard))(x)
    y = layers.LSTM(4, activation="relu", return_sequences=True)(y)
    return keras.Model(x, layers.GRU(4, activation="relu", **hard)(y))


@case(image=drawn(2, 6, 3))
def bidirectional() -> Any:
    x = image(6, 3)
    y = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(x)
    y = layers.Bidirectional(layers.GRU(5))(y)
    z = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True), merge_mode="sum")(x)
    return keras.Model(x, [y, z])


@case(image=drawn(1, 3, 6, 6, 2), opaque=("RNN",))
def cells() -> Any:
    x = image(3, 6, 6, 2)
    y = layers.Reshape((16, 3))(layers.ConvLSTM2D(3, 3)(x))
    return keras.Model(x, layers.RNN(layers.LSTMCell(4))(y))


class _Cells(keras.Model):
    """Cells that are called in a loop: with given states and with zeros, on data and on zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.long, self.gated = layers.LSTMCell(5), layers.GRUCell(5)
        self.early = layers.GRUCell(4, reset_after=False)
        self.plain = layers.SimpleRNNCell(4, activation="relu", use_bias=False)

    def call(self, image: Any) -> Any:
        zeros = ops.zeros((ops.shape(image)[0], 5))
        first, last, h = [zeros, zeros], [zeros], ops.zeros((ops.shape(image)[0], 4))
        y = h
        for _ in range(2):
            _, first = self.long(image, first)
            x, last = self.gated(first[1], states=last)
            h, _ = self.early(x, h)
            y, _ = self.plain(y, [h])
        return y


@case(image=drawn(2, 4))
def cell_loops() -> Any:
    return _Cells()


@case(image=tokens(2, 6))
def masked_lstm() -> Any:
    x = keras.Input((6,), dtype="int32", name="image")
    return keras.Model(x, layers.LSTM(5)(layers.Embedding(20, 4, mask_zero=True)(x)))


@case(image=tokens(2, 9))
def tagger() -> Any:
    x = keras.Input((None,), dtype="int32", name="image")
    y = layers.Conv1D(5, 3, padding="same")(layers.Embedding(20, 6)(x))
    return keras.Model(x, layers.TimeDistributed(layers.Dense(3))(y))


class Positions(layers.Layer):
    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(9, shape[-1]), name="table")

    def call(self, x: Any) -> Any:
        return x + ops.take(self.table, ops.arange(x.shape[1]), axis=0)


@case(tokens=tokens(2, 7))
def transformer() -> Any:
    x = keras.Input((7,), dtype="int32", name="tokens")
    y = Positions()(layers.Embedding(20, 8)(x))
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 4)(y, y))
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(y))
    return keras.Model(x, layers.GlobalAveragePooling1D()(y))


@case(image=drawn(2, 7, 8))
def attention() -> Any:
    x = image(7, 8)
    y = layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x, use_causal_mask=True)
    y = layers.MultiHeadAttention(2, 4)(y, y, use_causal_mask=True)
    y = layers.GroupQueryAttention(4, 4, 2)(y, y)
    y = layers.AdditiveAttention(use_scale=False)([layers.Attention()([y, y]), x])
    return keras.Model(x, layers.Average()([y, layers.Dot(axes=(2, 2))([y, x])[..., :1] * y]))


@case(image=drawn(2, 5, 6))
def einsum_layers() -> Any:
    x = image(5, 6)
    y = layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de")(x)
    y = layers.EinsumDense("abde,def->abf", output_shape=(None, 4), activation="relu")(y)
    return keras.Model(x, y)


# Several inputs and outputs ------------------------------------------------------------------


@case(b=drawn(2, 4), a=drawn(2, 3))
def two_inputs() -> Any:
    one, two = keras.Input((4,), name="b"), keras.Input((3,), name="a")
    x = layers.Concatenate()([layers.Dense(3)(one), two])
    return keras.Model([one, two], [layers.Dense(2, name="p")(x), layers.Dense(1, name="q")(x)])


@case(image=drawn(2, 4), aux=drawn(2, 3))
def named() -> Any:
    inputs = {"image": keras.Input((4,), name="image"), "aux": keras.Input((3,), name="aux")}
    x = layers.Concatenate()([inputs["image"], inputs["aux"]])
    return keras.Model(inputs, {"x": layers.Dense(2)(x), "y": layers.Dense(1)(x)})


@case(image=drawn(2, 4))
def shared() -> Any:
    x = image(4)
    dense = layers.Dense(4)
    return keras.Model(x, dense(layers.ReLU()(dense(x))))


@case(rows=tokens(2, 6), image=drawn(2, 8))
def lookups() -> Any:
    rows, x = keras.Input((6,), dtype="int32", name="rows"), image(8)
    y = layers.GlobalAveragePooling1D()(
        layers.Dense(3)(layers.Embedding(20, 4, mask_zero=True)(rows))
    )
    return keras.Model([rows, x], [y, ops.take(x, ops.convert_to_tensor([1, 2]), axis=1)])


# One's own -----------------------------------------------------------------------------------


class Custom(layers.Layer):
    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")
        self.g = self.add_weight(shape=(3,), name="g", initializer="ones")
        self.raw = tf.Variable(np.full(3, 2.0, np.float32))
        self.constant = tf.constant([1.0, 2.0, 3.0])

    def call(self, x: Any) -> Any:
        return tf.matmul(x, self.w) * self.g + self.constant * self.raw


@case(image=drawn(2, 4))
def custom() -> Any:
    x = image(4)
    return keras.Model(x, layers.Lambda(lambda data: tf.square(data) + 1.0)(Custom()(x)))


class RawOperations(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = self.add_weight(shape=(3, 3, 3, 4), name="kernel")
        self.bias = self.add_weight(shape=(4,), name="bias")
        self.dense = self.add_weight(shape=(4, 5), name="dense")

    def call(self, x: Any) -> Any:
        x = tf.nn.bias_add(tf.nn.conv2d(x, self.kernel, [1, 2, 2, 1], "SAME"), self.bias)
        x = tf.image.resize(tf.nn.gelu(x), [6, 6])
        x = tf.pad(tf.nn.max_pool2d(x, 2, 2, "VALID"), [[0, 0], [1, 1], [0, 0], [0, 0]])
        x = tf.transpose(tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [tf.shape(x)[0], 4, -1]),
                         [0, 2, 1])  # fmt: skip
        y = tf.tensordot(x, self.dense, 1)
        first, second = tf.split(y, [2, 3], axis=-1)
        x = tf.nn.softmax(tf.concat([first, second, y[:, :, :2]], -1), axis=1)
        return {"scores": tf.cast(x, tf.float32), "classes": tf.argmax(x, -1)}


@case(x=drawn(2, 8, 8, 3))
def raw_operations() -> Any:
    return RawOperations()


class Compiled(keras.Model):
    """With XLA the bits are others: it is opaque then."""

    def __init__(self, jit: bool) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(30), layers.Dense(30)
        self.jit = jit
        self.inner = tf.function(self.compute, jit_compile=jit)

    def compute(self, x: Any) -> Any:
        if not self.jit:
            return tf.nn.relu(self.second(tf.nn.relu(x)))
        return tf.reduce_sum(self.second(tf.nn.softmax(x * 3.0)) ** 2 / 7.0, -1)

    def call(self, x: Any) -> Any:
        return self.inner(self.first(x))


@case(x=drawn(20, 40))
def compiled() -> Any:
    return Compiled(jit=False)


@case(x=drawn(20, 40), opaque=("tf.function",), without_role=("kernel", "bias"))
def compiled_with_xla() -> Any:
    return Compiled(jit=True)


# Functions -----------------------------------------------------------------------------------


_ACTIVATIONS = """
relu sigmoid tanh silu gelu hard_sigmoid hard_silu elu selu softplus softsign mish leaky_relu relu6
log_softmax softmax celu glu log_sigmoid exponential hard_tanh tanh_shrink squareplus
"""


@case(image=drawn(2, 6))
def activations() -> Any:
    x = image(6)
    names = _ACTIVATIONS.split()
    outputs = [layers.Activation(name)(x) for name in names]
    outputs += [
        layers.PReLU("ones")(x),
        layers.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.5)(x),
        layers.ReLU(6.0)(x),
        layers.LeakyReLU(0.2)(x),
        layers.ELU(0.5)(x),
        layers.Activation(lambda data: keras.activations.gelu(data, approximate=True))(x),
    ]
    return keras.Model(x, outputs)


@case(image=drawn(2, 6, 8, 4), opaque=("StridedSlice",))
def shapes() -> Any:
    x = image(6, 8, 4)
    y = layers.Cropping1D((1, 1))(layers.Reshape((8, 24))(layers.Permute((2, 1, 3))(x)))
    y = layers.Reshape((4, 6, 6))(ops.reshape(y, (-1, 144)))
    y = layers.Cropping2D(1)(layers.ZeroPadding2D(((1, 0), (0, 2)))(y))
    z = ops.roll(ops.flip(y, 1), 1, axis=2)
    z = ops.stack([z, z], axis=1)[:, 0]
    return keras.Model(
        x,
        [
            layers.RepeatVector(3)(layers.Flatten()(z)),
            ops.expand_dims(z, 1),
            ops.squeeze(z[:, :1], 1),
            ops.transpose(z, (0, 3, 1, 2)),
            ops.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"),
            ops.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric"),
            ops.split(z, 3, axis=1)[1],
            z[:, ::2],
            z[..., ::-1],
            z[:, ::2, :, ::-1],
        ],
    )


class Queries(layers.Layer):
    """A weight that is data, of one row for each image."""

    def build(self, shape: Any) -> None:
        self.value = self.add_weight(shape=(1, 3, 8), name="value")

    def call(self, x: Any) -> Any:
        return ops.broadcast_to(self.value, (ops.shape(x)[0], 3, 8))


@case(image=drawn(2, 5, 8), opaque=("parameter",), without_role=("value",))
def learned_queries() -> Any:
    x = image(5, 8)
    query = Queries()(x)
    y = layers.LayerNormalization()(query + layers.MultiHeadAttention(2, 4)(query, query))
    y = y + layers.MultiHeadAttention(2, 4)(y, x) + layers.Dense(8)(query)
    return keras.Model(x, layers.Dense(4)(y))


class ProjectedTable(layers.Layer):
    """A table of constants through a layer, as the positions of a Transformer-XL."""

    def __init__(self) -> None:
        super().__init__()
        self.project = layers.Dense(8, use_bias=False)
        self.table = np.linspace(-1.0, 1.0, 12, dtype="float32").reshape(3, 4)

    def call(self, x: Any) -> Any:
        return ops.einsum("bid,jd->bij", x, self.project(ops.convert_to_tensor(self.table)))


@case(image=drawn(2, 5, 8), opaque=("parameter",))
def projected_table() -> Any:
    x = image(5, 8)
    return keras.Model(x, ProjectedTable()(x))


@case(image=drawn(2, 6), opaque=("TopKV2", "Prod", "OneHot", "IsFinite"))
def arithmetic() -> Any:
    x = image(6)
    return keras.Model(
        x,
        [
            ops.exp(x), ops.log(ops.abs(x) + 1), ops.sqrt(ops.abs(x) + 1e-3), ops.erf(x),
            ops.rsqrt(ops.square(x) + 1), ops.sin(x), ops.maximum(x, 0.0), ops.minimum(x, 1.0),
            ops.where(x > 0, x, -x), ops.clip(x, -1, 1), ops.sum(x, axis=1, keepdims=True),
            ops.max(x, 1), ops.var(x, axis=1), ops.std(x, axis=-1), ops.cumsum(x, 1),
            ops.argmax(x, 1), x / 2.0, 2.0 - x, x**2, ops.einsum("ab,ac->abc", x, x),
            ops.matmul(ops.expand_dims(x, 1), ops.expand_dims(x, 2)), ops.logsumexp(x, 1),
            ops.floor(x), ops.norm(x, axis=1), ops.one_hot(ops.argmax(x, 1), 6), ops.prod(x, 1),
            ops.sort(x, 1), ops.mean(x),
        ],
    )  # fmt: skip
