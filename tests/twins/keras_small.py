"""A small Keras model with one layer of each kind that matters, and its faults.

Its twin is `tests.twins.torch_small`; both draw the same weights, so that they agree as they are.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

SIZE, CLASSES = 32, 5


def weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return seeded values in PyTorch's layout, the same for both twins."""
    scale = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def build(
    *,
    first: type[layers.Conv2D] = layers.Conv2D,
    relu: type[layers.ReLU] = layers.ReLU,
    add: type[layers.Add] = layers.Add,
    pool: type[layers.Layer] = layers.GlobalAveragePooling2D,
    head: type[layers.Dense] = layers.Dense,
    extra: bool = False,
    reordered: bool = False,
    size: int | None = SIZE,
) -> keras.Model:
    """Return the model with some layers replaced; `extra` has an activation that the table lacks.

    `reordered` has the batch-norm behind the ReLU.
    """
    image = keras.Input((size, size, 3), name="image")
    x = first(8, 3, padding="same", use_bias=False, name="entry")(image)
    norm = layers.BatchNormalization(epsilon=1e-5, name="entry_norm")
    entry_relu = layers.ReLU(name="entry_relu")
    x = norm(entry_relu(x)) if reordered else entry_relu(norm(x))
    skip = x
    x = layers.Conv2D(8, 3, padding="same", groups=4, name="body")(x)
    x = relu(name="body_relu")(x)
    x = add(name="body_add")([x, skip])
    if extra:
        x = layers.Activation("tanh", name="surprise")(x)
    x = pool(name="pool")(x)
    model = keras.Model(image, head(CLASSES, name="head")(x))
    _fill(model)
    return model


def _fill(model: keras.Model) -> None:
    entry, body, head = (model.get_layer(name) for name in ("entry", "body", "head"))
    entry.kernel.assign(weights((8, 3, 3, 3), 1).transpose(2, 3, 1, 0))
    body.kernel.assign(weights((8, 2, 3, 3), 2).transpose(2, 3, 1, 0))
    body.bias.assign(weights((8,), 3))
    head.kernel.assign(weights((CLASSES, 8), 4).T)
    head.bias.assign(weights((CLASSES,), 5))
    norm = model.get_layer("entry_norm")
    for index, name in enumerate(("gamma", "beta", "moving_mean")):
        getattr(norm, name).assign(weights((8,), 6 + index))
    norm.moving_variance.assign(np.abs(weights((8,), 9)) + 0.5)


class _Swapped(layers.Conv2D):
    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.transpose(super().call(inputs), (0, 2, 1, 3))


class _ReversedChannels(layers.Conv2D):
    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.flip(super().call(inputs), axis=-1)


class _Rippled(layers.ReLU):
    """An error that no cause covers: the slope changes with the value."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        plain = super().call(inputs)
        return plain + 0.05 * keras.ops.sin(7.0 * plain) * plain


class _OneNan(layers.ReLU):
    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        spot = np.zeros((1, *inputs.shape[1:]), np.float32)
        spot[0, 3, 5, 2] = np.nan
        return super().call(inputs) + keras.ops.cast(spot, inputs.dtype)


class _Capped(layers.ReLU):
    """Right as long as nothing is larger than 1."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.minimum(super().call(inputs), 1.0)


class _Nudged(layers.ReLU):
    """One value off by 2e-6: a few roundings of large values, many of small ones."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        spot = np.zeros((1, *inputs.shape[1:]), np.float32)
        spot[0, 3, 5, 2] = 2e-6
        return super().call(inputs) + keras.ops.cast(spot, inputs.dtype)


class _AllNan(layers.Dense):
    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return super().call(inputs) * float("nan")


class _ReversedClasses(layers.Dense):
    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.flip(super().call(inputs), axis=-1)


class _WrongMean(layers.GlobalAveragePooling2D):
    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return super().call(inputs) * 1.01


class _Noisy(layers.GlobalAveragePooling2D):
    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return super().call(keras.random.dropout(inputs, 0.3))


class _Forgetful(layers.Add):
    def call(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        return super().call([inputs[0], 0.0 * inputs[1]])


def any_size() -> keras.Model:
    """Height and width are left open."""
    return build(size=None)


def reversed_classes() -> keras.Model:
    return build(head=_ReversedClasses)


def reversed_channels() -> keras.Model:
    return build(first=_ReversedChannels)


def height_and_width_swapped() -> keras.Model:
    return build(first=_Swapped)


def rippled() -> keras.Model:
    """A fault that no cause covers."""
    return build(relu=_Rippled)


def noisy() -> keras.Model:
    """A dropout that is always on, between two rows of the table."""
    return build(pool=_Noisy)


def rewired() -> keras.Model:
    """Two layers are in another order, and the shortcut is left out of the sum."""
    return build(add=_Forgetful, reordered=True)


def one_nan() -> keras.Model:
    return build(relu=_OneNan)


def capped() -> keras.Model:
    return build(relu=_Capped)


def nudged() -> keras.Model:
    return build(relu=_Nudged)


def wrong_vector() -> keras.Model:
    return build(pool=_WrongMean)


def all_nan() -> keras.Model:
    return build(head=_AllNan)


def extra_layer() -> keras.Model:
    return build(extra=True)


def one_weight() -> keras.Model:
    """One weight of the grouped convolution moved by a tenth."""
    model = build()
    kernel = model.get_layer("body").kernel.numpy()
    kernel[1, 2, 0, 5] += 0.1
    model.get_layer("body").kernel.assign(kernel)
    return model


def nan_weight() -> keras.Model:
    """One weight is NaN."""
    model = build()
    kernel = model.get_layer("body").kernel.numpy()
    kernel[1, 2, 0, 5] = np.nan
    model.get_layer("body").kernel.assign(kernel)
    return model


def not_a_model() -> str:
    return "I am no model"


def raises() -> keras.Model:
    raise ValueError("no such\nfile of mine")
