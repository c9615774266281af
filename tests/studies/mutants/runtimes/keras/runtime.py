"""Keras with faults: call methods that are replaced, settings that are changed."""

from __future__ import annotations

import types

import keras
import numpy as np
import tensorflow as tf

from parity.runtimes.keras import runtime as plain


class Runtime(plain.Runtime):
    """A model whose layers can be made to misbehave, in every precision that it is built in."""

    changes = ()

    def mutate(self, *, changes):
        self.changes = changes
        _apply(self.model, self.changes)

    def restore(self):
        self.changes = ()
        for layer in self.model.layers:
            for name, value in layer.__dict__.pop("_mutant", {}).items():
                object.__setattr__(layer, name, value)
            layer.__dict__.pop("call", None)

    def _rebuild(self):
        model = super()._rebuild()
        _apply(model, self.changes)
        return model


def _apply(model, changes):
    for change in changes:
        CHANGES[change["change"]](model.get_layer(change["layer"]), change, model)


def set_attribute(layer, name, value):
    layer.__dict__.setdefault("_mutant", {})[name] = getattr(layer, name)
    object.__setattr__(layer, name, value)


def wrap(layer, *, before=None, after=None, instead=None):
    def call(self, x, **options):
        x = x if before is None else before(x)
        y = type(self).call(self, x, **options) if instead is None else instead(self, x)
        return y if after is None else after(y)

    layer.__dict__["call"] = types.MethodType(call, layer)


def same_padding(layer, change, model):
    pad = change.get("pad")
    if pad:
        set_attribute(model.get_layer(pad), "padding", tuple(map(tuple, change["padding"])))


def one_slice(layer, change, model):
    groups = change["groups"]

    def before(x):
        width = x.shape[-1] // groups
        return keras.ops.tile(x[..., -width:], (1, 1, 1, groups))

    wrap(layer, before=before)


def interleave_groups(layer, change, model):
    groups = change["groups"]

    def before(x):
        split = keras.ops.reshape(x, (*x.shape[:3], groups, x.shape[3] // groups))
        return keras.ops.reshape(keras.ops.swapaxes(split, 3, 4), x.shape)

    wrap(layer, before=before)


def use_batch_statistics(layer, change, model):
    def instead(self, x):
        axes = tuple(range(len(x.shape) - 1))
        mean, variance = keras.ops.moments(x, axes)
        scale = self.gamma / keras.ops.sqrt(variance + self.epsilon)
        return (x - mean) * scale + self.beta

    wrap(layer, instead=instead)


def add_bias(layer, change, model):
    wrap(layer, after=lambda y: y + keras.ops.cast(change["values"], y.dtype))


def change_setting(name):
    def apply(layer, change, model):
        value = change["value"]
        set_attribute(layer, name, tuple(value) if isinstance(value, list) else value)

    return apply


def apply_after(function):
    return lambda layer, change, model: wrap(layer, after=function)


def replace_by(function):
    return lambda layer, change, model: wrap(layer, instead=lambda self, x: function(x))


def add_dropout(layer, change, model):
    wrap(layer, after=lambda y: keras.random.dropout(y, change["rate"]))


def round_to_tf32(x):
    """Operands of TF32: 11 significant bits, ties to even."""
    bits = tf.bitcast(tf.cast(x, tf.float32), tf.uint32)
    even = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(13, tf.uint32)),
                                  tf.constant(1, tf.uint32))  # fmt: skip
    cut = tf.bitwise.bitwise_and(bits + tf.constant(0xFFF, tf.uint32) + even,
                                 tf.constant(0xFFFFE000, tf.uint32))  # fmt: skip
    return tf.cast(tf.bitcast(cut, tf.float32), x.dtype)


def set_nan(layer, change, model):
    """NaN at one place of the first item; `index` and `shape` have the channels first."""
    mask = np.zeros(change["shape"], bool)
    mask[tuple(change["index"])] = True
    mask = np.moveaxis(mask, 0, -1)[None]

    def after(y):
        first = ops.reshape(ops.arange(ops.shape(y)[0]) == 0, (-1, *(1,) * (len(y.shape) - 1)))
        return ops.where(ops.logical_and(first, mask), float("nan"), y)

    wrap(layer, after=after)


def scale_output(layer, change, model):
    wrap(layer, after=lambda y: y * ops.cast(change["value"], y.dtype))


def apply_twice(layer, change, model):
    def twice(self, x):
        return type(self).call(self, type(self).call(self, x))

    wrap(layer, instead=twice)


ops = keras.ops
CHANGES = {
    "nan-after": set_nan,
    "all-nan-after": apply_after(lambda y: y * float("nan")),
    "rolled-channels-after": apply_after(lambda y: ops.roll(y, 1, -1)),
    "flattened-after": apply_after(lambda y: ops.reshape(y, (-1,))),
    "scaled-after": scale_output,
    "doubled": apply_twice,
    "relu-before": lambda layer, change, model: wrap(layer, before=ops.relu),
    "padding": same_padding,
    "epsilon": change_setting("epsilon"),
    "stride": change_setting("strides"),
    "dilation": change_setting("dilation_rate"),
    "slope": change_setting("negative_slope"),
    "one-slice": one_slice,
    "interleaved-groups": interleave_groups,
    "batch-statistics": use_batch_statistics,
    "bias": add_bias,
    "dropout": add_dropout,
    "relu-after": apply_after(ops.relu),
    "softmax-after": apply_after(lambda y: ops.softmax(y, -1)),
    "sigmoid-after": apply_after(ops.sigmoid),
    "reversed-after": apply_after(lambda y: ops.flip(y, -1)),
    "turned-after": apply_after(lambda y: ops.swapaxes(y, 1, 2)),
    "rolled-after": apply_after(lambda y: ops.roll(y, 1, 1)),
    "squeezed-after": apply_after(lambda y: ops.sign(y) * ops.abs(y) ** 1.01),
    "tf32-before": lambda layer, change, model: wrap(layer, before=round_to_tf32),
    "reversed-before": lambda layer, change, model: wrap(layer, before=lambda x: ops.flip(x, -1)),
    "identity": replace_by(lambda x: x),
    "silu": replace_by(ops.silu),
    "leaky": replace_by(lambda x: ops.leaky_relu(x, 0.01)),
    "gelu-tanh": replace_by(lambda x: ops.gelu(x, approximate=True)),
}
