"""The Keras twin of the vision transformers, its layers named by the paths of timm's modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers, ops

if TYPE_CHECKING:
    from parity.network.models.vit.spec import VisionTransformerSpec

EPSILON = 1e-6

_EMBEDDING = {"initializer": keras.initializers.RandomNormal(stddev=0.02)}


@keras.saving.register_keras_serializable(package="parity")
class ClassToken(layers.Layer):
    """Puts a learned token before the others: (N, T, width) to (N, T + 1, width)."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="cls_token", **_EMBEDDING)

    def call(self, x: Any) -> Any:
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1)


@keras.saving.register_keras_serializable(package="parity")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector to each token."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.embedding = self.add_weight(shape=(1, *shape[1:]), name="pos_embed", **_EMBEDDING)

    def call(self, x: Any) -> Any:
        return x + self.embedding


def attention(x: Any, width: int, heads: int, name: str) -> Any:
    """Multi-head self-attention with one product for query, key and value."""
    tokens, size = x.shape[1], width // heads
    packed = layers.Dense(3 * width, name=f"{name}.qkv")(x)
    packed = ops.transpose(ops.reshape(packed, (-1, tokens, 3, heads, size)), (2, 0, 3, 1, 4))
    query, key, value = packed[0], packed[1], packed[2]
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * size**-0.5
    x = ops.matmul(ops.softmax(scores, axis=-1), value)
    x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, tokens, width))
    return layers.Dense(width, name=f"{name}.proj")(x)


def mlp(x: Any, width: int, name: str) -> Any:
    """Two layers, the hidden one four times as wide."""
    x = layers.Dense(4 * width, name=f"{name}.fc1")(x)
    x = layers.Activation(keras.activations.gelu, name=f"{name}.act")(x)
    return layers.Dense(width, name=f"{name}.fc2")(x)


def block(x: Any, width: int, heads: int, name: str) -> Any:
    """Attention and an MLP, each behind a layer norm and beside a shortcut."""
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}.norm1")(x)
    x = layers.Add(name=f"{name}.add1")([x, attention(y, width, heads, f"{name}.attn")])
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}.norm2")(x)
    return layers.Add(name=f"{name}.add2")([x, mlp(y, width, f"{name}.mlp")])


def build(spec: VisionTransformerSpec) -> keras.Model:
    """Return the functional model for `spec`, (N, H, W, C) to logits."""
    image = keras.Input((*spec.image_size, spec.channels), name="input")
    x = layers.Conv2D(
        spec.width, spec.patch, strides=spec.patch, padding="valid", name="patch_embed.proj"
    )(image)
    x = layers.Reshape((-1, spec.width), name="patch_embed.flatten")(x)
    x = PositionEmbedding(name="pos_embed")(ClassToken(name="cls_token")(x))
    for number in range(spec.depth):
        x = block(x, spec.width, spec.heads, f"blocks.{number}")
    x = layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)
    return keras.Model(image, layers.Dense(spec.classes, name="head")(x[:, 0]), name=spec.name)
