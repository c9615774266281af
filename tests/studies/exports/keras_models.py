"""Keras models of every kind that the exporters are studied on."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.studies.exports.case import Case
from tests.studies.exports.keras_case import Entry, KerasModel

ENTRIES: list[Entry] = []

_kinds = ["layers"]


def kind(name: str) -> None:
    """Give the entries that follow their kind."""
    _kinds.append(name)


def add(name: str, build: Callable[[], keras.Model], *arguments: Any, **options: Any) -> None:
    """Register a builder."""
    ENTRIES.append(Entry(name, _kinds[-1], build, *arguments, **options))


def case(name: str, **options: Any) -> Callable[[Callable[[], keras.Model]], Any]:
    """Register a builder under a name."""

    def register(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        add(name, build, **options)
        return build

    return register


def sequential(name: str, shape: tuple[int | None, ...], *stack: Any, **options: Any) -> None:
    """Register a stack of layers; `stack` holds functions that make them."""
    dtype = options.pop("dtype", "float32")

    def build() -> keras.Model:
        return keras.Sequential([keras.Input(shape, dtype=dtype), *(make() for make in stack)])

    add(name, build, **options)


def function(
    name: str, shape: tuple[int | None, ...], body: Callable[[Any], Any], **options: Any
) -> None:
    """Register a functional model of one input."""
    dtype = options.pop("dtype", "float32")

    def build() -> keras.Model:
        x = keras.Input(shape, dtype=dtype)
        return keras.Model(x, body(x))

    add(name, build, **options)


def normal(rows: int, seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Return one array of normal numbers for each shape, with the rows first."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rows, *shape)).astype(np.float32) for shape in shapes]


def tokens(rows: int, seed: int, length: int, high: int = 20, low: int = 0) -> np.ndarray:
    """Return integers of shape (rows, length)."""
    return np.random.default_rng(seed).integers(low, high, (rows, length)).astype(np.int32)


IMAGE = (12, 12, 3)

kind("layers")

for _name in (
    "celu",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "soft_shrink",
    "sparse_plus",
    "sparsemax",
    "sparse_sigmoid",
    "squareplus",
    "tanh",
    "tanh_shrink",
    "threshold",
):
    sequential(
        f"activation_{_name}",
        (8,),
        lambda: layers.Dense(6),
        lambda name=_name: layers.Activation(
            keras.activations.get(name)
            if name != "threshold"
            else lambda x: keras.activations.threshold(x, 0.1, 0.0)
        ),
    )

sequential("dense_3d", (5, 8), lambda: layers.Dense(6, activation="relu"))
sequential(
    "einsum_dense", (5, 8), lambda: layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d")
)
sequential("prelu_shared", IMAGE, lambda: layers.PReLU(shared_axes=[1, 2]))
sequential("leaky_relu_layer", (8,), lambda: layers.LeakyReLU(0.2))
sequential("relu_max", (8,), lambda: layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2))
sequential("softmax_axis1", (5, 8), lambda: layers.Softmax(axis=1))
sequential("layer_norm", (5, 8), layers.LayerNormalization)
sequential("layer_norm_axes", IMAGE, lambda: layers.LayerNormalization(axis=[1, 2, 3]))
sequential("rms_norm", (5, 8), layers.RMSNormalization)
sequential("group_norm", IMAGE, lambda: layers.Conv2D(8, 3), lambda: layers.GroupNormalization(4))
sequential(
    "instance_norm", IMAGE, lambda: layers.Conv2D(8, 3), lambda: layers.GroupNormalization(-1)
)
sequential("unit_norm", (8,), layers.UnitNormalization)
sequential("batch_norm_dense", (8,), lambda: layers.Dense(6), layers.BatchNormalization)
sequential(
    "batch_norm_axis3",
    IMAGE,
    lambda: layers.Conv2D(4, 3),
    lambda: layers.BatchNormalization(axis=3),
)
sequential(
    "batch_norm_axis1",
    IMAGE,
    lambda: layers.Conv2D(4, 3),
    lambda: layers.BatchNormalization(axis=1),
)
sequential(
    "batch_norm_bare",
    IMAGE,
    lambda: layers.Conv2D(4, 3),
    lambda: layers.BatchNormalization(center=False, scale=False),
)
sequential("spectral_norm", IMAGE, lambda: layers.SpectralNormalization(layers.Conv2D(4, 3)))


def _normalization() -> layers.Layer:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).standard_normal((50, 8)) * 3 + 1)
    return layer


sequential("normalization", (8,), _normalization, lambda: layers.Dense(3))
sequential(
    "normalization_given",
    IMAGE,
    lambda: layers.Normalization(mean=[1.0, 2, 3], variance=[4.0, 5, 6]),
)
sequential(
    "normalization_invert",
    (3,),
    lambda: layers.Normalization(mean=[1.0, 2, 3], variance=[4.0, 5, 6], invert=True),
)
sequential("rescaling", IMAGE, lambda: layers.Rescaling(1 / 127.5, offset=-1))
sequential(
    "rescaling_channels", IMAGE, lambda: layers.Rescaling([0.1, 0.2, 0.3], offset=[1.0, 2, 3])
)

kind("convolutions")

for _padding in ("same", "valid"):
    for _stride in (1, 2, 3):
        for _kernel in (2, 3, 4):
            if _stride == 1 or _kernel != 2:
                sequential(
                    f"conv2d_{_padding}_s{_stride}_k{_kernel}",
                    (11, 14, 3),
                    lambda p=_padding, s=_stride, k=_kernel: layers.Conv2D(4, k, s, p),
                )
sequential("conv2d_dilated", IMAGE, lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same"))
sequential("conv2d_dilated_23", IMAGE, lambda: layers.Conv2D(4, 3, dilation_rate=(2, 3)))
sequential("conv2d_groups", (12, 12, 4), lambda: layers.Conv2D(8, 3, groups=2, activation="relu"))
sequential(
    "conv2d_channels_first", (3, 12, 12), lambda: layers.Conv2D(4, 3, data_format="channels_first")
)
sequential(
    "depthwise", IMAGE, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")
)
sequential("depthwise_stride", IMAGE, lambda: layers.DepthwiseConv2D(3, 2, padding="same"))
sequential("depthwise_dilated", IMAGE, lambda: layers.DepthwiseConv2D(3, dilation_rate=2))
sequential("depthwise1d", (12, 3), lambda: layers.DepthwiseConv1D(3, depth_multiplier=2))
sequential("separable", IMAGE, lambda: layers.SeparableConv2D(5, 3, strides=2, padding="same"))
sequential("separable1d", (12, 3), lambda: layers.SeparableConv1D(5, 3, padding="same"))
sequential("conv1d_causal", (12, 3), lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2))
sequential("conv1d_same", (13, 3), lambda: layers.Conv1D(5, 4, strides=2, padding="same"))
sequential("conv1d_length", (None, 3), lambda: layers.Conv1D(5, 3, padding="same"), sizes=(17,))
sequential("conv3d", (6, 8, 8, 2), lambda: layers.Conv3D(4, 3, strides=2, padding="same"))
sequential("conv3d_groups", (6, 8, 8, 4), lambda: layers.Conv3D(4, 3, groups=2))
for _stride, _kernel, _padding, _extra in (
    (2, 3, "same", None), (2, 3, "valid", None), (2, 4, "same", None), (3, 2, "same", None),
    (3, 2, "valid", None), (2, 3, "same", 0), (2, 3, "same", 1), (2, 5, "valid", 1),
    (1, 3, "valid", None), (1, 3, "same", None),
):  # fmt: skip
    sequential(
        f"conv2d_transpose_s{_stride}_k{_kernel}_{_padding}_o{_extra}",
        (5, 6, 3),
        lambda s=_stride, k=_kernel, p=_padding, o=_extra: layers.Conv2DTranspose(
            4, k, s, p, output_padding=o
        ),
    )
sequential(
    "conv2d_transpose_dilated", (5, 6, 3), lambda: layers.Conv2DTranspose(4, 3, dilation_rate=2)
)
sequential("conv1d_transpose", (7, 3), lambda: layers.Conv1DTranspose(4, 3, 2, "same"))
sequential("conv1d_transpose_valid", (7, 3), lambda: layers.Conv1DTranspose(4, 2, 3))
sequential("conv3d_transpose", (4, 5, 5, 2), lambda: layers.Conv3DTranspose(3, 3, 2, "same"))
sequential("locally", IMAGE, lambda: layers.Conv2D(4, 1), lambda: layers.Activation("relu"))

kind("pooling, resizing")

for _padding in ("same", "valid"):
    for _stride in (1, 2, 3):
        sequential(
            f"max_pool_{_padding}_s{_stride}", (11, 14, 3),
            lambda p=_padding, s=_stride: layers.MaxPooling2D(3, s, p),
        )  # fmt: skip
        sequential(
            f"average_pool_{_padding}_s{_stride}", (11, 14, 3),
            lambda p=_padding, s=_stride: layers.AveragePooling2D(3, s, p),
        )  # fmt: skip
sequential("average_pool_even", (12, 12, 3), lambda: layers.AveragePooling2D(2, 3, "same"))
sequential("max_pool1d", (11, 3), lambda: layers.MaxPooling1D(2, padding="same"))
sequential("average_pool1d", (11, 3), lambda: layers.AveragePooling1D(3, 2, "same"))
sequential("max_pool3d", (6, 7, 8, 2), lambda: layers.MaxPooling3D(2, padding="same"))
sequential("average_pool3d", (6, 7, 8, 2), lambda: layers.AveragePooling3D(2, padding="same"))
sequential("global_pools", IMAGE, lambda: layers.GlobalMaxPooling2D(keepdims=True))
sequential("global_average_pool", IMAGE, layers.GlobalAveragePooling2D)
sequential("global_average_pool1d", (7, 5), layers.GlobalAveragePooling1D)
sequential("global_max_pool3d", (4, 5, 6, 2), layers.GlobalMaxPooling3D)
if hasattr(layers, "AdaptiveAveragePooling2D"):
    sequential("adaptive_average_pool", IMAGE, lambda: layers.AdaptiveAveragePooling2D(5))
    sequential("adaptive_max_pool", IMAGE, lambda: layers.AdaptiveMaxPooling2D(5))
sequential(
    "zero_padding_cropping",
    IMAGE,
    lambda: layers.ZeroPadding2D(((1, 2), (0, 3))),
    lambda: layers.Cropping2D(((1, 0), (2, 1))),
)
sequential("upsampling_nearest", IMAGE, lambda: layers.UpSampling2D((2, 3)))
sequential("upsampling_bilinear", IMAGE, lambda: layers.UpSampling2D(2, interpolation="bilinear"))
sequential("upsampling1d", (7, 3), lambda: layers.UpSampling1D(3))
sequential("upsampling3d", (3, 4, 5, 2), lambda: layers.UpSampling3D(2))
for _method in ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"):
    for _from, _to in (((12, 12), (23, 31)), ((20, 18), (7, 5)), ((224, 224), (223, 225))):
        sequential(
            f"resizing_{_method}_{_from[0]}_{_to[0]}",
            (*_from, 2),
            lambda m=_method, t=_to: layers.Resizing(*t, interpolation=m),
        )
sequential("resizing_antialias", (20, 20, 2), lambda: layers.Resizing(7, 9, antialias=True))
sequential("resizing_crop", (20, 30, 2), lambda: layers.Resizing(10, 10, crop_to_aspect_ratio=True))
sequential("center_crop", (20, 30, 2), lambda: layers.CenterCrop(10, 11))
sequential(
    "flatten_reshape",
    IMAGE,
    lambda: layers.Reshape((6, -1, 3)),
    lambda: layers.Permute((2, 1, 3)),
    layers.Flatten,
)
sequential("repeat_vector", (5,), lambda: layers.RepeatVector(4))
sequential(
    "dropouts",
    (8, 5),
    lambda: layers.SpatialDropout1D(0.5),
    lambda: layers.GaussianNoise(1.0),
    lambda: layers.GaussianDropout(0.5),
    lambda: layers.AlphaDropout(0.3),
)
sequential(
    "augmentation",
    IMAGE,
    layers.RandomFlip,
    lambda: layers.RandomRotation(0.2),
    lambda: layers.RandomZoom(0.2),
    lambda: layers.Conv2D(3, 3),
)
sequential("time_distributed", (4, *IMAGE), lambda: layers.TimeDistributed(layers.Conv2D(3, 3)))
sequential(
    "time_distributed_images_length",
    (None, 8, 8, 2),
    lambda: layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu")),
    lambda: layers.TimeDistributed(layers.Flatten()),
    lambda: layers.LSTM(4),
)
sequential("time_distributed_length", (None, 7), lambda: layers.TimeDistributed(layers.Dense(3)))
sequential(
    "fully_convolutional",
    (None, None, 3),
    lambda: layers.Conv2D(4, 3, 2, "same", activation="relu"),
    lambda: layers.Conv2DTranspose(2, 3, 2, "same"),
    sizes=(16, 24),
)
sequential(
    "dynamic_pool_dense",
    (None, None, 3),
    lambda: layers.Conv2D(4, 3),
    layers.GlobalAveragePooling2D,
    lambda: layers.Dense(2),
    sizes=(16, 21),
)
sequential(
    "dynamic_upsampling",
    (None, None, 3),
    lambda: layers.UpSampling2D(2, interpolation="bilinear"),
    sizes=(16, 21),
)
sequential("dynamic_resizing", (None, None, 3), lambda: layers.Resizing(23, 31), sizes=(16, 21))
sequential(
    "dynamic_resizing_nearest",
    (None, None, 3),
    lambda: layers.Resizing(23, 31, interpolation="nearest"),
    sizes=(16, 21),
)


@case("dynamic_unet", sizes=(16, 24))
def _dynamic_unet() -> keras.Model:
    x = keras.Input((None, None, 3))
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(a))
    c = layers.UpSampling2D(2, interpolation="bilinear")(b)
    return keras.Model(x, layers.Conv2D(1, 1)(layers.Concatenate()([a, c])))


kind("merging")

for _kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):

    def _merge(kind: str = _kind) -> keras.Model:
        a, b = keras.Input((5, 4), name="left"), keras.Input((5, 4), name="right")
        return keras.Model([a, b], getattr(layers, kind)()([a, b]))

    add(f"merge_{_kind.lower()}", _merge)


@case("merge_dot")
def _dot() -> keras.Model:
    a, b = keras.Input((5, 4), name="left"), keras.Input((5, 4), name="right")
    return keras.Model([a, b], layers.Dot(axes=(2, 2), normalize=True)([a, b]))


kind("recurrent")

for _kind in ("LSTM", "GRU", "SimpleRNN"):
    _make = getattr(layers, _kind)
    sequential(f"{_kind.lower()}", (6, 5), lambda make=_make: make(8))
    sequential(
        f"{_kind.lower()}_sequences",
        (6, 5),
        lambda make=_make: make(8, return_sequences=True),
        lambda make=_make: make(4),
    )
    sequential(
        f"{_kind.lower()}_backwards",
        (6, 5),
        lambda make=_make: make(8, go_backwards=True, return_sequences=True),
    )
    sequential(f"{_kind.lower()}_length", (None, 5), lambda make=_make: make(8))
    sequential(
        f"{_kind.lower()}_bidirectional",
        (6, 5),
        lambda make=_make: layers.Bidirectional(make(8, return_sequences=True)),
    )
    sequential(
        f"{_kind.lower()}_bidirectional_last",
        (6, 5),
        lambda make=_make: layers.Bidirectional(make(8), merge_mode="sum"),
    )
    sequential(f"{_kind.lower()}_no_bias", (6, 5), lambda make=_make: make(8, use_bias=False))
    sequential(f"{_kind.lower()}_relu", (6, 5), lambda make=_make: make(8, activation="relu"))
    sequential(f"{_kind.lower()}_gelu", (6, 5), lambda make=_make: make(8, activation="gelu"))
    sequential(f"{_kind.lower()}_unrolled", (6, 5), lambda make=_make: make(8, unroll=True))
    sequential(
        f"{_kind.lower()}_masked",
        (7,),
        lambda: layers.Embedding(20, 5, mask_zero=True),
        lambda make=_make: make(8),
        dtype="int32",
        high=3,
    )
    sequential(
        f"{_kind.lower()}_masked_sequences",
        (7,),
        lambda: layers.Embedding(20, 5, mask_zero=True),
        lambda make=_make: make(8, return_sequences=True),
        dtype="int32",
        high=3,
    )
    sequential(
        f"{_kind.lower()}_masked_bidirectional",
        (7,),
        lambda: layers.Embedding(20, 5, mask_zero=True),
        lambda make=_make: layers.Bidirectional(make(8, return_sequences=True)),
        lambda make=_make: layers.Bidirectional(make(4)),
        dtype="int32",
        high=3,
    )

    def _states(make: Any = _make) -> keras.Model:
        x = keras.Input((6, 5))
        return keras.Model(x, make(8, return_sequences=True, return_state=True)(x))

    add(f"{_kind.lower()}_states", _states)

    def _decoder(kind: str = _kind) -> keras.Model:
        x = keras.Input((1, 5), name="step")
        states = [keras.Input((8,), name="h")]
        if kind == "LSTM":
            states.append(keras.Input((8,), name="c"))
        layer = getattr(layers, kind)(8, return_state=True, name="decoder")
        return keras.Model([x, *states], layer(x, initial_state=states))

    add(f"{_kind.lower()}_decoder_step", _decoder)

    def _seq2seq(kind: str = _kind) -> keras.Model:
        source, target = keras.Input((7, 5), name="source"), keras.Input((None, 4), name="target")
        _, *states = getattr(layers, kind)(8, return_state=True)(source)
        y = getattr(layers, kind)(8, return_sequences=True)(target, initial_state=states)
        return keras.Model([source, target], layers.Dense(6, activation="softmax")(y))

    add(f"{_kind.lower()}_seq2seq", _seq2seq)

sequential("gru_reset_before", (6, 5), lambda: layers.GRU(8, reset_after=False))
sequential(
    "gru_reset_before_backwards",
    (6, 5),
    lambda: layers.GRU(8, reset_after=False, go_backwards=True),
)
sequential("lstm_hard_sigmoid", (6, 5), lambda: layers.LSTM(8, recurrent_activation="hard_sigmoid"))
sequential("masking_layer", (6, 5), lambda: layers.Masking(0.0), lambda: layers.LSTM(8))
sequential("rnn_cells", (6, 5), lambda: layers.RNN(layers.LSTMCell(8)))
sequential("rnn_stacked_cells", (6, 5), lambda: layers.RNN([layers.LSTMCell(8), layers.GRUCell(4)]))
sequential("conv_lstm2d", (4, 6, 6, 2), lambda: layers.ConvLSTM2D(3, 3, padding="same"))
sequential("conv_lstm1d", (4, 6, 2), lambda: layers.ConvLSTM1D(3, 3, return_sequences=True))
sequential("lstm_dropout", (6, 5), lambda: layers.LSTM(8, dropout=0.3, recurrent_dropout=0.3))


@case("lstm_attention")
def _lstm_attention() -> keras.Model:
    x = keras.Input((6, 5))
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    return keras.Model(x, layers.GlobalAveragePooling1D()(layers.Attention()([y, y])))


@case("lstm_masked_states")
def _masked_states() -> keras.Model:
    x = keras.Input((7,), dtype="int32")
    y = layers.Embedding(20, 5, mask_zero=True)(x)
    return keras.Model(x, layers.LSTM(4, return_sequences=True, return_state=True)(y))


kind("attention")

sequential(
    "embedding_mean",
    (7,),
    lambda: layers.Embedding(20, 6),
    layers.GlobalAveragePooling1D,
    dtype="int32",
)
sequential(
    "embedding_mask_mean",
    (7,),
    lambda: layers.Embedding(20, 6, mask_zero=True),
    layers.GlobalAveragePooling1D,
    dtype="int32",
    high=4,
)
sequential(
    "embedding_length",
    (None,),
    lambda: layers.Embedding(20, 6),
    lambda: layers.Conv1D(3, 3, padding="same"),
    dtype="int64",
)
sequential(
    "category_encoding",
    (4,),
    lambda: layers.CategoryEncoding(20, output_mode="multi_hot"),
    dtype="int32",
)
sequential(
    "category_encoding_count",
    (4,),
    lambda: layers.CategoryEncoding(20, output_mode="count"),
    dtype="int32",
)
sequential(
    "category_one_hot",
    (1,),
    lambda: layers.CategoryEncoding(20, output_mode="one_hot"),
    dtype="int32",
)
sequential(
    "integer_lookup",
    (4,),
    lambda: layers.IntegerLookup(vocabulary=[3, 5, 7, 11]),
    lambda: layers.Embedding(6, 3),
    dtype="int64",
)
sequential("discretization", (4,), lambda: layers.Discretization([-1.0, 0.0, 0.5]))
sequential(
    "discretization_one_hot",
    (1,),
    lambda: layers.Discretization([-1.0, 0.0, 0.5], output_mode="one_hot"),
)
sequential("hashing", (4,), lambda: layers.Hashing(7), dtype="int32")


def _block(x: Any, mask: bool = False) -> Any:
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 8)(y, y, use_causal_mask=mask)
    return x + layers.Dense(16)(layers.Dense(32, activation="gelu")(layers.LayerNormalization()(x)))


function("transformer", (7, 16), _block)
function("transformer_causal", (7, 16), lambda x: _block(x, mask=True))
function("transformer_length", (None, 16), _block, sizes=(11,))
function(
    "transformer_masked",
    (7,),
    lambda x: layers.GlobalAveragePooling1D()(_block(layers.Embedding(20, 16, mask_zero=True)(x))),
    dtype="int32",
    high=4,
)
function("group_query_attention", (7, 16), lambda x: layers.GroupQueryAttention(8, 4, 2)(x, x))
function("attention_layer", (7, 16), lambda x: layers.Attention(use_scale=True)([x, x]))
function("additive_attention", (7, 16), lambda x: layers.AdditiveAttention()([x, x]))


@case("cross_attention")
def _cross() -> keras.Model:
    q, kv = keras.Input((5, 8), name="query"), keras.Input((9, 8), name="memory")
    return keras.Model(
        [q, kv], layers.MultiHeadAttention(2, 4)(q, kv, return_attention_scores=True)
    )


class PositionalEncoding(layers.Layer):
    """Sines and cosines that are computed when the layer is made."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        position = np.arange(length)[:, None] / 10000 ** (np.arange(width) / width)
        self.table = ops.convert_to_tensor(np.sin(position).astype("float32"))

    def call(self, x: Any) -> Any:
        return x + self.table[: ops.shape(x)[1]]


class LearnedPosition(layers.Layer):
    """A position embedding added to tokens."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.embedding = layers.Embedding(length, width)

    def call(self, x: Any) -> Any:
        return x + self.embedding(ops.arange(ops.shape(x)[1]))


function("positional_encoding", (7, 16), lambda x: _block(PositionalEncoding(7, 16)(x)))
function("positional_encoding_length", (None, 16), PositionalEncoding(50, 16), sizes=(11,))
function("learned_position", (7, 16), lambda x: _block(LearnedPosition(7, 16)(x)))


@case("vision_transformer")
def _vit() -> keras.Model:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 4, 4)(image)
    x = layers.Reshape((16, 16))(x)
    x = LearnedPosition(16, 16)(x)
    x = _block(_block(x))
    return keras.Model(image, layers.Dense(5)(layers.LayerNormalization()(x)[:, 0]))


kind("operators")

function("subtract_constant", (8,), lambda x: x - np.arange(8, dtype="float32"))
function(
    "subtract_tensor", (8,), lambda x: x - ops.convert_to_tensor(np.arange(8, dtype="float32"))
)
function("argmax", (8,), lambda x: ops.argmax(x, axis=-1))
function("argmin", (5, 8), lambda x: ops.argmin(x, axis=1))
function("argsort", (8,), lambda x: ops.argsort(x, axis=-1))
function("sort", (8,), lambda x: ops.sort(x, axis=-1))
function("top_k", (8,), lambda x: list(ops.top_k(x, 3)))
function("floor_divide", (8,), lambda x: ops.floor_divide(x, 0.7))
function("floor_divide_int", (8,), lambda x: ops.floor_divide(x - 150, 3), dtype="int32", high=300)
function("mod_int", (8,), lambda x: ops.mod(x - 150, 5), dtype="int32", high=300)
function("mod_int_negative", (8,), lambda x: ops.mod(x - 150, -7), dtype="int32", high=300)
function("mod_float", (8,), lambda x: ops.mod(x, 0.7))
function("int_output", (8,), lambda x: x * 2 - 7, dtype="int32", high=300)
function(
    "int_mean", (8,), lambda x: ops.mean(ops.cast(x, "float32"), axis=-1), dtype="int64", high=300
)
function("cumsum", (8,), lambda x: ops.cumsum(x, axis=-1))
function("clip_abs_sign", (8,), lambda x: ops.clip(ops.abs(x), 0.1, 1.0) * ops.sign(x))
function("where", (8,), lambda x: ops.where(x > 0, x, x * 0.1))
function("logical", (8,), lambda x: ops.logical_and(x > 0, ops.logical_not(x > 1)))
function(
    "compare_large_ints",
    (8,),
    lambda x: [
        x * 16777216 + 1 > x * 16777216,
        ops.maximum(x + 16777217, 16777216 + x),
        ops.clip(x + 16777200, 16777205, 16777217),
    ],
    dtype="int32",
)
function(
    "int64_arithmetic",
    (8,),
    lambda x: ops.sum(x * 1000003, axis=-1) + ops.max(x, axis=-1),
    dtype="int64",
    high=30000,
)
function(
    "causal_infinite_mask",
    (6, 6),
    lambda x: ops.softmax(ops.where(ops.tril(ops.ones_like(x)) > 0, x, -float("inf")), axis=-1),
)
function("one_hot", (4,), lambda x: ops.one_hot(x, 20), dtype="int32")
function("take", (8,), lambda x: ops.take(x, [3, 1, -1], axis=1))
function(
    "take_along_axis", (8,), lambda x: ops.take_along_axis(x, ops.argsort(x, axis=-1), axis=-1)
)
function("einsum", (5, 8), lambda x: ops.einsum("nij,nkj->nik", x, x))
function("tensordot", (5, 8), lambda x: ops.tensordot(x, np.ones((8, 3), "float32") * 0.3, axes=1))
function("norm", (5, 8), lambda x: ops.norm(x, axis=-1))
function("std_var", (5, 8), lambda x: ops.std(x, axis=1) + ops.var(x, axis=1))
function("logsumexp", (5, 8), lambda x: ops.logsumexp(x, axis=-1))
function(
    "prod_max_min", (5, 8), lambda x: ops.prod(x, axis=1) + ops.max(x, axis=1) - ops.min(x, axis=1)
)
function("any_all", (5, 8), lambda x: [ops.any(x > 1, axis=1), ops.all(x > -1, axis=1)])
function(
    "pad_modes",
    (5, 8),
    lambda x: ops.concatenate(
        [
            ops.pad(x, [[0, 0], [1, 2], [0, 0]], mode=m)
            for m in ("constant", "reflect", "symmetric")
        ],
        axis=1,
    ),
)
function("roll_flip", (5, 8), lambda x: ops.roll(ops.flip(x, axis=1), 2, axis=2))
function("tile_repeat", (5, 8), lambda x: ops.repeat(ops.tile(x, (1, 2, 1)), 2, axis=2))
function("split_stack", (6, 8), lambda x: ops.stack(ops.split(x, 3, axis=1), axis=2))
function("slice_steps", (6, 8), lambda x: x[:, 1:5:2, ::-1])
function("expand_squeeze", (6, 1), lambda x: ops.expand_dims(ops.squeeze(x, -1), 1))
function("swapaxes_moveaxis", (5, 6, 7), lambda x: ops.moveaxis(ops.swapaxes(x, 1, 2), -1, 1))
function("triu_tril", (6, 6), lambda x: ops.triu(x) - ops.tril(x, -1))
function("round_floor_ceil", (8,), lambda x: ops.round(x) + ops.floor(x) * 10 + ops.ceil(x) * 100)
function(
    "power_sqrt",
    (8,),
    lambda x: ops.power(ops.abs(x), 1.7) + ops.sqrt(ops.abs(x)) + ops.rsqrt(1 + x * x),
)
function(
    "trigonometry",
    (8,),
    lambda x: ops.sin(x) + ops.cos(x) + ops.tan(x * 0.3) + ops.arctan(x) + ops.sinh(x * 0.3),
)
function("arctan2", (8,), lambda x: ops.arctan2(x, ops.roll(x, 1, axis=1)))
function("log1p_expm1", (8,), lambda x: ops.log1p(ops.abs(x)) + ops.expm1(x * 0.1))
function("erf", (8,), lambda x: ops.erf(x) + ops.erfinv(ops.tanh(x) * 0.9))
function("fft", (16,), lambda x: ops.fft((x, x * 0.0))[0])
function("rfft", (16,), lambda x: list(ops.rfft(x)))
function("stft", (64,), lambda x: list(ops.stft(x, 16, 8, 16)))
function("matmul_batch", (5, 8), lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))))
function("cholesky_free_norm", (5, 8), lambda x: x / (ops.norm(x, axis=-1, keepdims=True) + 1e-6))
function("l2_normalize", (5, 8), lambda x: ops.normalize(x, axis=-1))
function("isnan_nan_to_num", (8,), lambda x: ops.nan_to_num(x / ops.relu(x)))
function("scatter", (5, 1), lambda x: ops.scatter_update(x, [[0, 1, 0]], [3.0]), fixed_batch=False)
function("searchsorted_bin", (8,), lambda x: ops.digitize(x, np.array([-1.0, 0.0, 1.0], "float32")))
function("segment_mean", (4, 3), lambda x: ops.mean(x, axis=(1, 2), keepdims=True))
function("image_resize_op", (12, 14, 3), lambda x: ops.image.resize(x, (25, 17)))
function("rgb_to_grayscale", (12, 14, 3), ops.image.rgb_to_grayscale)
function("extract_patches", (12, 12, 3), lambda x: ops.image.extract_patches(x, (3, 3)))
function(
    "depth_to_space",
    (6, 6, 8),
    layers.Lambda(lambda t: tf.nn.depth_to_space(t, 2), output_shape=(12, 12, 2)),
)
function(
    "space_to_depth",
    (6, 6, 2),
    layers.Lambda(lambda t: tf.nn.space_to_depth(t, 2), output_shape=(3, 3, 8)),
)
function(
    "scan_map",
    (5, 4),
    layers.Lambda(lambda t: tf.map_fn(lambda row: tf.cumsum(row) * 2, t), output_shape=(5, 4)),
)
function(
    "while_loop",
    (4,),
    layers.Lambda(
        lambda t: tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * 1.5 + 1), (0, t))[1],
        output_shape=(4,),
    ),
)
function(
    "cond",
    (4,),
    layers.Lambda(
        lambda t: tf.cond(tf.reduce_sum(t) > 0, lambda: t * 2, lambda: t - 1), output_shape=(4,)
    ),
)
function("lambda_mean", (5, 4), layers.Lambda(lambda t: tf.reduce_mean(t, axis=1)))
function(
    "tf_floormod",
    (8,),
    lambda x: layers.Lambda(
        lambda t: tf.math.floormod(t, 3) + t // 4, output_shape=(8,), dtype="int32"
    )(x - 150),
    dtype="int32",
    high=300,
)
function(
    "tf_truncatediv",
    (8,),
    lambda x: layers.Lambda(lambda t: tf.truncatediv(t, 4), output_shape=(8,), dtype="int32")(
        x - 150
    ),
    dtype="int32",
    high=300,
)
function(
    "tf_gather_nd",
    (5, 4),
    layers.Lambda(lambda t: tf.gather(t, [[0, 2], [1, 1]], axis=1), output_shape=(2, 2, 4)),
)
function("batch_mean", (8,), lambda x: x - ops.mean(x, axis=0, keepdims=True))
function("batch_gram", (8,), lambda x: ops.matmul(x, ops.transpose(x)))
function("identity_output", (8,), lambda x: [x, x * 2])
function("scalar_output", (8,), ops.mean)
function("constant_output", (8,), lambda x: [x * 2, ops.zeros_like(x) + 3])
function("squeeze_last", (8,), lambda x: ops.squeeze(layers.Dense(1)(x), -1))

kind("structure")


@case("dict_both")
def _dicts() -> keras.Model:
    zeta, alpha = keras.Input((4,), name="zeta_in"), keras.Input((4,), name="alpha_in")
    outputs = {
        "zeta": layers.Dense(3, name="one")(zeta),
        "alpha": layers.Dense(3, name="two")(layers.Concatenate()([zeta, alpha])),
    }
    return keras.Model({"zeta_in": zeta, "alpha_in": alpha}, outputs)


@case("dict_named_outputs", options={"outputs": ["zeta", "alpha"]})
def _dict_named() -> keras.Model:
    return _dicts()


@case("nested_outputs")
def _nested_outputs() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, {"b": [x * 2, x * 3], "a": layers.Dense(2)(x)})


@case("several_outputs")
def _several() -> keras.Model:
    x = keras.Input((8,))
    y = layers.Dense(6, activation="relu")(x)
    return keras.Model(x, [layers.Dense(3, name="label")(y), layers.Dense(1, name="value")(y)])


@case("shared_siamese")
def _siamese() -> keras.Model:
    inner = keras.Sequential(
        [keras.Input(IMAGE), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)]
    )
    a, b = keras.Input(IMAGE, name="first"), keras.Input(IMAGE, name="second")
    return keras.Model([a, b], ops.norm(inner(a) - inner(b), axis=-1))


@case("fixed_batch", fixed_batch=True)
def _fixed() -> keras.Model:
    x = keras.Input(batch_shape=(4, 8))
    return keras.Model(x, layers.Dense(3)(ops.reshape(x, (2, 2, 8))))


@case("fixed_batch_lstm", fixed_batch=True)
def _fixed_lstm() -> keras.Model:
    x = keras.Input(batch_shape=(4, 6, 5))
    return keras.Model(x, layers.LSTM(3)(x))


@case("preprocess_input")
def _preprocess() -> keras.Model:
    x = keras.Input(IMAGE)
    return keras.Model(x, layers.Conv2D(3, 3)(keras.applications.resnet.preprocess_input(x)))


@case("preprocess_input_torch")
def _preprocess_torch() -> keras.Model:
    x = keras.Input(IMAGE)
    y = keras.applications.imagenet_utils.preprocess_input(x, mode="torch")
    return keras.Model(x, layers.Conv2D(3, 3)(y))


@case("mixed_float16")
def _mixed16() -> keras.Model:
    x = keras.Input(IMAGE)
    y = layers.Conv2D(4, 3, activation="relu", dtype="mixed_float16")(x)
    y = layers.Dense(5, dtype="mixed_float16")(layers.Flatten()(y))
    return keras.Model(x, layers.Activation("softmax", dtype="float32")(y))


@case("float64")
def _float64() -> keras.Model:
    x = keras.Input((8,), dtype="float64")
    return keras.Model(x, layers.Dense(4, activation="relu", dtype="float64")(x))


@case("unet")
def _unet() -> keras.Model:
    x = keras.Input((16, 16, 1))
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(a))
    c = layers.Conv2DTranspose(4, 2, strides=2)(b)
    y = layers.Conv2D(4, 3, padding="same")(layers.Concatenate()([a, c]))
    return keras.Model(x, layers.Conv2D(1, 1, activation="sigmoid")(y))


@case("squeeze_excite")
def _squeeze_excite() -> keras.Model:
    x = keras.Input(IMAGE)
    y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = layers.Activation("swish")(layers.BatchNormalization(axis=3)(y))
    s = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(y))
    s = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="relu")(s))
    return keras.Model(
        x, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Multiply()([y, s])))
    )


@case("wide_and_deep")
def _wide() -> keras.Model:
    number = keras.Input((5,), name="number")
    group = keras.Input((1,), dtype="int32", name="group")
    e = layers.Flatten()(layers.Embedding(20, 4)(group))
    return keras.Model([number, group], layers.Dense(1)(layers.Concatenate()([number, e])))


kind("subclassed")


def built(model: keras.Model, *arguments: Any) -> keras.Model:
    """Call a model once, and return it."""
    model(*arguments)
    return model


class Subclassed(keras.Model):
    """A convolution and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = layers.Conv2D(4, 3), layers.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.head(ops.mean(self.conv(x), axis=(1, 2)))


class SubclassedTokens(keras.Model):
    """An embedding of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = layers.Embedding(20, 6), layers.Dense(2)

    def call(self, ids: Any) -> Any:
        return self.head(ops.mean(self.embedding(ids), axis=1))


class SubclassedList(keras.Model):
    """One argument, a list of two tensors; a dictionary out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = layers.Dense(3), layers.Dense(3)

    def call(self, pair: Any) -> Any:
        return {"total": self.a(pair[0]) + self.b(pair[1]), "difference": pair[0] - pair[1]}


class SubclassedDict(keras.Model):
    """One argument, a dictionary of two tensors of other types."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.dense = layers.Embedding(20, 3), layers.Dense(3)

    def call(self, features: Any) -> Any:
        return self.dense(features["number"]) + ops.mean(self.embedding(features["ids"]), axis=1)


class SubclassedArguments(keras.Model):
    """Two arguments; a tuple out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = layers.Dense(3), layers.Dense(3)

    def call(self, left: Any, right: Any, training: bool = False) -> Any:
        return self.a(left), self.b(right) * 2


class RawVariable(keras.Model):
    """A tf.Variable that Keras does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(np.arange(4, dtype="float32") + 0.5)
        self.table = tf.Variable(np.arange(20, dtype="float32").reshape(5, 4))

    def call(self, x: Any) -> Any:
        return x * self.factor + tf.gather(self.table, [1, 3])[0]


class Unhelpful(keras.Model):
    """Python control flow on a shape, tf functions, a nested tf.function."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [layers.Dense(4) for _ in range(3)]

    def call(self, x: Any) -> Any:
        for index, block in enumerate(self.blocks):
            x = block(x) + x if index % 2 else tf.nn.relu(block(x))
        return self.squared(x)

    @tf.function
    def squared(self, x: Any) -> Any:
        return tf.square(x) + tf.reduce_sum(x, axis=-1, keepdims=True)


add(
    "subclassed",
    lambda: built(Subclassed(), np.zeros((2, *IMAGE), "float32")),
    lambda n, s: tuple(normal(n, s, IMAGE)),
)
add(
    "subclassed_tokens",
    lambda: built(SubclassedTokens(), tokens(2, 0, 7)),
    lambda n, s: (tokens(n, s, 7),),
)
add(
    "subclassed_list",
    lambda: built(SubclassedList(), normal(2, 0, (3,), (3,))),
    lambda n, s: (normal(n, s, (3,), (3,)),),
)
add(
    "subclassed_dict",
    lambda: built(SubclassedDict(), {"number": normal(2, 0, (4,))[0], "ids": tokens(2, 0, 6)}),
    lambda n, s: ({"number": normal(n, s, (4,))[0], "ids": tokens(n, s, 6)},),
)
add(
    "subclassed_arguments",
    lambda: built(SubclassedArguments(), *normal(2, 0, (3,), (5,))),
    lambda n, s: tuple(normal(n, s, (3,), (5,))),
    options={"sample": tuple(normal(3, 9, (3,), (5,)))},
)
add(
    "subclassed_signature",
    lambda: built(SubclassedArguments(), *normal(2, 0, (3,), (5,))),
    lambda n, s: tuple(normal(n, s, (3,), (5,))),
    options={"signature": (keras.InputSpec(shape=(None, 3)), tf.TensorSpec((None, 5), tf.float32))},
)
add(
    "subclassed_dict_sample",
    lambda: built(SubclassedDict(), {"number": normal(2, 0, (4,))[0], "ids": tokens(2, 0, 6)}),
    lambda n, s: ({"number": normal(n, s, (4,))[0], "ids": tokens(n, s, 6)},),
    options={"sample": {"ids": tokens(3, 5, 6), "number": normal(3, 5, (4,))[0]}},
)
add(
    "raw_variable",
    lambda: built(RawVariable(), np.ones((2, 4), "float32")),
    lambda n, s: tuple(normal(n, s, (4,))),
)
add(
    "tf_function_inside",
    lambda: built(Unhelpful(), np.ones((2, 4), "float32")),
    lambda n, s: tuple(normal(n, s, (4,))),
)


@case(
    "string_lookup",
    arguments=lambda n, s: (np.random.default_rng(s).choice(["a", "b", "q"], (n, 3)),),
)
def _strings() -> keras.Model:
    x = keras.Input((3,), dtype="string")
    return keras.Model(
        x, layers.Embedding(5, 3)(layers.StringLookup(vocabulary=["a", "b", "c"])(x))
    )


@case("stateful_lstm", fixed_batch=True, random=True)
def _stateful() -> keras.Model:
    x = keras.Input(batch_shape=(3, 6, 5))
    return keras.Model(x, layers.LSTM(4, stateful=True)(x))


@case("dropout_at_inference")
def _noise() -> keras.Model:
    x = keras.Input((8,))
    return keras.Model(x, layers.Dropout(0.5)(layers.Dense(6)(x), training=True))


from tests.studies.exports import keras_strangers

keras_strangers.extend(kind, add)

kind("applications")  # at the smallest size that their code takes
_SIZES = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
for _name in sorted(name for name in dir(keras.applications) if name[0].isupper()):

    def _application(name: str = _name) -> keras.Model:
        size = _SIZES.get(
            name, 331 if name == "NASNetLarge" else 224 if name == "NASNetMobile" else 64
        )
        builder = getattr(keras.applications, name)
        return builder(weights=None, input_shape=(size, size, 3), classes=10)

    add(f"app_{_name}", _application, heavy=True)


CASES = [
    Case(entry.name, entry.kind, functools.partial(KerasModel, entry), entry.random)
    for entry in ENTRIES
]

if __name__ == "__main__":
    from tests.studies.exports.__main__ import main

    sys.argv[1:1] = ["--only", "keras"]
    main()
