"""Keras models in other people's manner: several kinds of layers in one, and own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.studies.exports.case import Array


def _normal(rows: int, seed: int, *shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rows, *shape)).astype(np.float32) for shape in shapes]


def _integers(rows: int, seed: int, length: int, high: int = 20) -> Array:
    return np.random.default_rng(seed).integers(0, high, (rows, length)).astype(np.int32)


@keras.saving.register_keras_serializable("strangers")
class AttentivePool(layers.Layer):
    """A weighted mean over the time that a mask keeps; it takes the mask away."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def build(self, shape: tuple[int, ...]) -> None:
        self.query = self.add_weight(shape=(shape[-1], 1), name="query")

    def call(self, x: Any, mask: Any = None) -> Any:
        scores = ops.matmul(x, self.query)
        if mask is not None:
            scores = scores + (1.0 - ops.cast(mask, x.dtype)[..., None]) * -1e9
        return ops.sum(ops.softmax(scores, axis=1) * x, axis=1)

    def compute_mask(self, x: Any, mask: Any = None) -> None:
        return None


class PatchMerging(layers.Layer):
    """Each four neighbours become one token, by strided slices."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.reduce = layers.LayerNormalization(), layers.Dense(8, use_bias=False)

    def call(self, x: Any) -> Any:
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(ops.concatenate(parts, -1)))


class RotaryAttention(layers.Layer):
    """Attention with rotary positions and grouped keys, made of einsums."""

    def __init__(self, heads: int = 4, groups: int = 2, size: int = 4) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, size
        self.q = layers.EinsumDense("btd,dhk->bthk", (None, heads, size))
        self.k = layers.EinsumDense("btd,dgk->btgk", (None, groups, size), bias_axes="gk")
        self.v = layers.EinsumDense("btd,dgk->btgk", (None, groups, size))
        self.out = layers.EinsumDense("bthk,hkd->btd", (None, 16), bias_axes="d")

    def rotate(self, x: Any) -> Any:
        length = ops.shape(x)[1]
        angles = ops.cast(ops.arange(length), "float32")[:, None] / ops.power(
            10000.0, ops.arange(0, self.size, 2, dtype="float32") / self.size
        )
        angles = ops.concatenate([angles, angles], -1)[None, :, None]
        a, b = ops.split(x, 2, axis=-1)
        return x * ops.cos(angles) + ops.concatenate([-b, a], -1) * ops.sin(angles)

    def call(self, x: Any) -> Any:
        q, k, v = self.rotate(self.q(x)), self.rotate(self.k(x)), self.v(x)
        k, v = (ops.repeat(t, self.heads // self.groups, axis=2) for t in (k, v))
        scores = ops.einsum("bthk,bshk->bhts", q, k) / self.size**0.5
        length = ops.shape(x)[1]
        seen = ops.arange(length)[:, None] >= ops.arange(length)[None]
        scores = ops.where(seen, scores, -1e9)
        return self.out(ops.einsum("bhts,bshk->bthk", ops.softmax(scores), v))


class Quantiser(layers.Layer):
    """Nearest codes of a book, by distance and argmin."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.codes = self.add_weight(
            shape=(7, shape[-1]), initializer="random_normal", name="codes"
        )

    def call(self, x: Any) -> tuple[Any, Any]:
        distance = (
            ops.sum(x**2, -1, keepdims=True)
            - 2 * ops.matmul(x, ops.transpose(self.codes))
            + ops.sum(self.codes**2, -1)
        )
        index = ops.argmin(distance, -1)
        return ops.take(self.codes, index, axis=0), index


class MinimalCell(layers.Layer):
    """A recurrent cell of its own: a minimal gated unit with two states."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units
        self.state_size = (units, units)
        self.gate = layers.Dense(units, activation="sigmoid")
        self.candidate = layers.Dense(units, activation="tanh")

    def call(self, x: Any, states: Any) -> Any:
        h, total = states
        gate = self.gate(ops.concatenate([x, h], -1))
        h = (1 - gate) * h + gate * self.candidate(ops.concatenate([x, gate * h], -1))
        return h, [h, total + h]


class CrossFeatures(layers.Layer):
    """A deep and cross network's layer, low rank."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.u = self.add_weight(shape=(shape[-1], 2), name="u")
        self.v = self.add_weight(shape=(2, shape[-1]), name="v")
        self.b = self.add_weight(shape=(shape[-1],), initializer="zeros", name="b")

    def call(self, x: Any) -> Any:
        y = x
        for _ in range(2):
            y = x * (ops.matmul(ops.matmul(y, self.u), self.v) + self.b) + y
        return y


class TiedAutoencoder(keras.Model):
    """The decoder has the encoder's kernel, transposed; a token model's outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = layers.Embedding(20, 8, mask_zero=True)
        self.norm = layers.LayerNormalization()
        self.bias = self.add_weight(shape=(20,), initializer="zeros", name="bias")

    def call(self, tokens: Any, training: bool = False) -> dict[str, Any]:
        x = self.norm(self.embedding(tokens))
        mask = ops.cast(tokens != 0, "float32")[..., None]
        mean = ops.sum(x * mask, 1) / ops.maximum(ops.sum(mask, 1), 1.0)
        logits = ops.matmul(x, ops.transpose(self.embedding.embeddings)) + self.bias
        return {"logits": logits, "sentence": mean, "best": ops.argmax(logits, -1)}


class TwoTower(keras.Model):
    """Two dictionaries of features, a normalised product of both towers."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = layers.Embedding(20, 4)
        self.user = keras.Sequential([layers.Dense(8, activation="gelu"), layers.Dense(4)])
        self.item = layers.Dense(4)

    def call(self, features: dict[str, Any]) -> dict[str, Any]:
        user = ops.concatenate(
            [ops.mean(self.ids(features["history"]), 1), features["numbers"]], -1
        )
        user = ops.normalize(self.user(user), axis=-1)
        item = ops.normalize(self.item(features["item"]), axis=-1)
        return {"score": ops.sum(user * item, -1), "user": user}


class Capsules(layers.Layer):
    """Dynamic routing, three rounds."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(shape=(shape[1], 3, shape[2], 4), name="kernel")

    @staticmethod
    def squash(x: Any) -> Any:
        size = ops.sum(ops.square(x), -1, keepdims=True)
        return size / (1 + size) * x / ops.sqrt(size + 1e-7)

    def call(self, x: Any) -> Any:
        votes = ops.einsum("bid,ijde->bije", x, self.kernel)
        logits = ops.zeros_like(votes[..., 0])
        for _ in range(3):
            found = self.squash(ops.sum(ops.softmax(logits, 2)[..., None] * votes, 1))
            logits = logits + ops.einsum("bije,bje->bij", votes, found)
        return ops.norm(found, axis=-1)


class Mixture(layers.Layer):
    """Experts in one kernel, the two best by top_k, their weights put back by one-hot."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.gate = self.add_weight(shape=(shape[-1], 4), name="gate")
        self.experts = self.add_weight(shape=(4, shape[-1], 5), name="experts")

    def call(self, x: Any) -> Any:
        values, index = ops.top_k(ops.matmul(x, self.gate), 2)
        weights = ops.sum(ops.one_hot(index, 4) * ops.softmax(values)[..., None], axis=-2)
        return ops.einsum("bi,eio,be->bo", x, self.experts, weights)


class AnchorDecoder(layers.Layer):
    """Boxes from a map, anchors as a constant, clipped to the image."""

    def call(self, x: Any) -> tuple[Any, Any]:
        h, w = x.shape[1:3]
        x = ops.reshape(x, (-1, h, w, 2, 5))
        ys, xs = ops.meshgrid(ops.arange(h), ops.arange(w), indexing="ij")
        grid = ops.cast(ops.stack([xs, ys], -1), "float32")[None, :, :, None]
        anchors = ops.convert_to_tensor([[2.0, 2.0], [4.0, 1.0]])
        centre = ops.sigmoid(x[..., :2]) + grid
        half = ops.exp(ops.minimum(x[..., 2:4], 4.0)) * anchors / 2
        boxes = ops.clip(ops.concatenate([centre - half, centre + half], -1), 0.0, 8.0)
        return ops.reshape(boxes, (-1, h * w * 2, 4)), ops.reshape(
            ops.sigmoid(x[..., 4]), (-1, h * w * 2)
        )


def _new(make: Callable[[], layers.Layer]) -> Callable[[Any], Any]:
    """Return a function that calls a new layer."""

    def body(x: Any) -> Any:
        return make()(x)

    return body


def _functional(
    shape: tuple[int | None, ...], body: Callable[[Any], Any], dtype: str = "float32"
) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        x = keras.Input(shape, dtype=dtype)
        return keras.Model(x, body(x))

    return build


def _called(make: Callable[[], keras.Model], *arguments: Any) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        model = make()
        model(*arguments)
        return model

    return build


def _keyword(x: Any) -> Any:
    for filters, stride in ((8, 2), (8, 1)):
        y = layers.DepthwiseConv1D(5, strides=stride, padding="same", depth_multiplier=2)(x)
        y = layers.BatchNormalization(scale=False)(layers.Conv1D(filters, 1)(y))
        x = layers.ReLU(max_value=6)(y) if stride == 2 else layers.Add()([x, y])
    return layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling1D()(x))


def _masked_encoder(x: Any) -> Any:
    y = layers.Embedding(20, 8, mask_zero=True)(x)
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="sum")(y)
    return layers.Dense(2)(AttentivePool()(layers.LayerNormalization()(y)))


def _normalised_table(x: Any) -> Any:
    number, group = x[:, :4], ops.cast(ops.clip(ops.abs(x[:, 4:]) * 5, 0, 9), "int32")
    norm = layers.Normalization(mean=[0.1, 0.2, -0.3, 0.4], variance=[1.0, 2.0, 0.5, 0.1])
    y = ops.concatenate([norm(number), ops.reshape(layers.Embedding(10, 3)(group), (-1, 6))], -1)
    return layers.Dense(1)(CrossFeatures()(y))


def _encoder_states() -> keras.Model:
    x = keras.Input((5, 3))
    h, c = keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, h1, c1 = layers.LSTM(4, return_sequences=True, return_state=True)(x, initial_state=[h, c])
    z, h2 = layers.GRU(4, return_sequences=True, return_state=True)(y, initial_state=h1)
    return keras.Model([x, h, c], {"sequence": z, "states": [h1, c1, h2]})


def _reused() -> keras.Model:
    x = keras.Input((12, 12, 3))
    inner = keras.Sequential(
        [layers.SeparableConv2D(3, 3, padding="same"), layers.PReLU(shared_axes=[1, 2])]
    )
    y = inner(inner(x)) + x
    return keras.Model(x, [layers.GlobalMaxPooling2D(keepdims=True)(y), layers.Flatten()(y)])


def _unit_upsampler(x: Any) -> Any:
    y = layers.Conv2D(12, 3, padding="same", activation="leaky_relu")(x)
    y = ops.reshape(y, (-1, 6, 6, 2, 2, 3))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 12, 12, 3))
    return ops.clip(y + layers.UpSampling2D(interpolation="bilinear")(x), -1.0, 1.0)


def _spectral(x: Any) -> Any:
    frames = ops.extract_sequences(x, 16, 8) * ops.convert_to_tensor(np.hanning(16), "float32")
    real, imaginary = ops.rfft(frames, 16)
    power = real**2 + imaginary**2
    mel = ops.matmul(power, np.abs(np.random.default_rng(0).standard_normal((9, 5))).astype("f"))
    return ops.log10(ops.maximum(mel, 1e-6))


def _temporal(x: Any) -> Any:
    for dilation in (1, 2, 4):
        y = layers.Conv1D(12, 2, dilation_rate=dilation, padding="causal")(x)
        filtered, gate = ops.split(y, 2, axis=-1)
        x = layers.Conv1D(6, 1)(ops.tanh(filtered) * ops.sigmoid(gate)) + (
            x if x.shape[-1] == 6 else layers.Conv1D(6, 1)(x)
        )
    return x


def _volume(x: Any) -> Any:
    y = layers.Conv3D(4, 3, padding="same", strides=(1, 2, 2))(x)
    y = layers.GroupNormalization(2)(y)
    y = layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True)(y)
    return layers.TimeDistributed(layers.GlobalAveragePooling2D())(y)


def _multi_head(x: Any) -> Any:
    mask = layers.Lambda(lambda t: t[..., 0] > -0.5, output_shape=(6,))(x)
    y, scores = layers.MultiHeadAttention(2, 4, value_dim=3, output_shape=5)(
        x, x, attention_mask=mask[:, None], return_attention_scores=True
    )
    return y, scores


def _position(x: Any) -> Any:
    h, w = x.shape[1:3]
    ys = np.linspace(-1, 1, h, dtype="f")[None, :, None, None]
    xs = np.linspace(-1, 1, w, dtype="f")[None, None, :, None]
    zero = ops.zeros_like(x[..., :1])
    y = layers.Conv2D(2, 3, padding="same")(ops.concatenate([x, zero + ys, zero + xs], -1))
    p = ops.reshape(ops.softmax(ops.reshape(y, (-1, h * w, 2)), 1), (-1, h, w, 2))
    return ops.stack([ops.sum(p * xs, (1, 2)), ops.sum(p * ys, (1, 2))], -1)


def _similarity(x: Any) -> Any:
    y = layers.UnitNormalization()(layers.Dense(6)(x))
    gram = ops.matmul(y, ops.transpose(y, (0, 2, 1)))
    best, index = ops.max(gram, -1), ops.argsort(-gram, -1)[..., :3]
    return best, index, ops.take_along_axis(gram, index, -1)


def _integers_only(x: Any) -> Any:
    changes = ops.cast(ops.not_equal(x[:, 1:], x[:, :-1]), "int32")
    run = ops.cumsum(ops.pad(changes, ((0, 0), (1, 0))), 1)
    same = ops.sum(ops.cast(ops.equal(run[:, None], run[..., None]), "int32"), -1)
    shifted = ops.bitwise_xor(ops.left_shift(x, 2), ops.right_shift(x, 1))
    return run, same, shifted, ops.mod(x, 5) - 3


def _windows(x: Any) -> Any:
    y = ops.roll(x, (-2, -2), (1, 2))
    y = ops.transpose(ops.reshape(y, (-1, 2, 4, 2, 4, 6)), (0, 1, 3, 2, 4, 5))
    y = layers.MultiHeadAttention(2, 3)(*[ops.reshape(y, (-1, 16, 6))] * 2)
    y = ops.transpose(ops.reshape(y, (-1, 2, 2, 4, 4, 6)), (0, 1, 3, 2, 4, 5))
    return PatchMerging()(x + ops.roll(ops.reshape(y, (-1, 8, 8, 6)), (2, 2), (1, 2)))


def _lookup() -> keras.Model:
    x = keras.Input((3,), dtype="int32")
    bucket = layers.Discretization([5.0, 10.0])(ops.cast(x, "float32"))
    known = layers.IntegerLookup(vocabulary=[3, 7, 11], num_oov_indices=2)(x)
    crossed = layers.CategoryEncoding(18, output_mode="multi_hot")(known + bucket * 5)
    return keras.Model(x, layers.Dense(3)(crossed))


class Polar(layers.Layer):
    """TensorFlow's own operators: complex numbers in polar form, a gather by an index tensor."""

    def call(self, x: Any) -> Any:
        z = tf.complex(x[..., ::2], x[..., 1::2])
        angle = tf.math.atan2(tf.math.imag(z), tf.math.real(z))
        return tf.concat([tf.abs(z), angle, tf.gather(x, tf.range(7, -1, -1), axis=-1)], -1)


class Selective(layers.Layer):
    """A state-space recurrence over time, written with ops.scan's likeness: a loop in Python."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.project = layers.Dense(6 + 4 + 4)
        self.project.build(shape)
        self.decay = self.add_weight(shape=(6, 4), initializer="ones", name="decay")

    def call(self, x: Any) -> Any:
        delta, b, c = ops.split(self.project(x), [6, 10], axis=-1)
        delta = ops.softplus(delta)
        state = 0.0
        found = []
        for step in range(x.shape[1]):
            gain = (delta[:, step] * x[:, step])[..., None] * b[:, step, None]
            state = ops.exp(-delta[:, step][..., None] * self.decay) * state + gain
            found.append(ops.sum(state * c[:, step, None], -1))
        return ops.stack(found, 1)


def _mixed_sizes() -> keras.Model:
    a, b = keras.Input((None, None, 3), name="image"), keras.Input((4,), name="style")
    scale = layers.Dense(6)(b)[:, None, None]
    y = layers.Conv2D(6, 3, strides=2, padding="same")(a)
    y = layers.GroupNormalization(-1, center=False, scale=False)(y) * (1 + scale)
    y = layers.Conv2DTranspose(3, 4, strides=2, padding="same")(ops.silu(y))
    return keras.Model([a, b], y)


def _fixed() -> keras.Model:
    x = keras.Input(batch_shape=(2, 6, 5))
    y, state = layers.GRU(4, return_sequences=True, return_state=True)(x)
    return keras.Model(x, [ops.reshape(y, (12, 4)), state])


def extend(kind: Callable[[str], None], add: Callable[..., None]) -> None:
    """Add every model of this file with `keras_models.add`."""
    kind("stranger")
    for name, shape, body in (
        ("keyword_spotting", (16, 4), _keyword),
        ("normalised_table", (6,), _normalised_table),
        ("pixel_upsampler", (6, 6, 3), _unit_upsampler),
        ("spectrogram", (64,), _spectral),
        ("gated_temporal", (12, 3), _temporal),
        ("volume", (3, 8, 8, 2), _volume),
        ("masked_scores", (6, 8), _multi_head),
        ("soft_position", (7, 9, 3), _position),
        ("similarity", (5, 4), _similarity),
        ("windows", (8, 8, 6), _windows),
        ("capsules", (5, 6), _new(Capsules)),
        ("routed_experts", (8,), _new(Mixture)),
        ("boxes", (8, 8, 10), _new(AnchorDecoder)),
        ("quantiser", (9, 4), _new(Quantiser)),
        ("rotary_groups", (6, 16), _new(RotaryAttention)),
        ("rotary_groups_length", (None, 16), _new(RotaryAttention)),
        ("own_cell", (5, 3), _new(lambda: layers.RNN(MinimalCell(4), return_sequences=True))),
        (
            "own_cell_states",
            (5, 3),
            _new(lambda: layers.RNN([layers.LSTMCell(3), MinimalCell(4)], return_state=True)),
        ),
        ("polar", (8,), _new(Polar)),
        ("selective", (5, 6), _new(Selective)),
    ):
        add(f"stranger_{name}", _functional(shape, body))
    add(
        "stranger_masked_encoder",
        _functional((7,), _masked_encoder, "int32"),
        lambda n, s: (_integers(n, s, 7, 6),),
    )
    add("stranger_integers", _functional((7,), _integers_only, "int32"), options={"opset": 18})
    add("stranger_lookup", _lookup)
    add("stranger_states", _encoder_states)
    add("stranger_reused", _reused)
    add("stranger_mixed_sizes", _mixed_sizes, sizes=(10, 14))
    add("stranger_fixed", _fixed, fixed_batch=True)
    add(
        "stranger_tied_autoencoder",
        _called(TiedAutoencoder, _integers(2, 0, 6)),
        lambda n, s: (_integers(n, s, 6),),
    )

    def features(rows: int, seed: int) -> tuple[dict[str, Array]]:
        numbers, item = _normal(rows, seed, (3,), (5,))
        return ({"history": _integers(rows, seed, 4), "numbers": numbers, "item": item},)

    add("stranger_two_towers", _called(TwoTower, *features(2, 0)), features)
