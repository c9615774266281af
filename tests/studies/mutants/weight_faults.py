"""Faults of the canonical weights, for every framework and for graphs."""

from __future__ import annotations

import numpy as np

from tests.studies.mutants.plan import CONV, Mutation, fault


def _kernel(change):
    def plan(place):
        name = place.weight("kernel")
        before = place.values[name]
        made = np.ascontiguousarray(change(before), dtype=np.float32)
        if made.shape != before.shape or np.array_equal(made, before):
            return None
        return Mutation((place.row.name,), {name: made})

    return plan


def flipped(place):
    """A true convolution."""
    return _spatial(lambda kernel: kernel[:, :, ::-1, ::-1])(place)


def _spatial(change):
    def plan(place):
        kernel = place.values[place.weight("kernel")]
        return None if kernel.shape[2:] == (1, 1) else _kernel(change)(place)

    return plan


def _multiplier_first(*, back):
    """The outputs of a depthwise kernel as m·C + c, where both frameworks have c·M + m."""

    def plan(place):
        channels = place.hyper.get("groups", 1)
        multiplier = place.row.shape[0] // channels
        if multiplier == 1:
            return None
        order = (multiplier, channels) if back else (channels, multiplier)
        return _kernel(lambda k: k.reshape(*order, *k.shape[1:]).swapaxes(0, 1).reshape(k.shape))(
            place
        )

    return plan


def _swap(one, other):
    def plan(place):
        names = place.weight(one), place.weight(other)
        values = [place.values[name] for name in names]
        return Mutation((place.row.name,), {names[0]: values[1], names[1]: values[0]})

    return plan


def _mean_for_variance(place):
    """Mean and variance swapped, where all means are positive.

    A variance below 0, which would make NaN, is refused before a model is given such weights.
    """
    positive = (place.values[place.weight("mean")] > 0).all()
    return _swap("mean", "variance")(place) if positive else None


def constant(role, value):
    """One weight of a layer keeps its initial value."""

    def plan(place):
        name = place.weight(role)
        if name is None:
            return None
        return Mutation((place.row.name,), {name: np.full_like(place.values[name], value)})

    return plan


def _rounded(place):
    changed = {w.name: place.values[w.name].astype(np.float16).astype(np.float32)
               for w in place.row.weights}  # fmt: skip
    return Mutation((place.row.name,), changed)


def _bfloat16(place):
    def cut(value):
        bits = value.view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
        return rounded.view(np.float32)

    return Mutation((place.row.name,), {w.name: cut(place.values[w.name])
                                        for w in place.row.weights})  # fmt: skip


def _exchanged(place):
    """The weights of two layers of the same shapes, swapped."""
    shapes = [w.shape for w in place.row.weights]
    others = [row for row in place.rows.values()
              if row.name != place.row.name and row.kind == place.row.kind and row.weights
              and [w.shape for w in row.weights] == shapes]  # fmt: skip
    if not others:
        return None
    other = others[place.rng.integers(len(others))]
    changed = {}
    for mine, theirs in zip(place.row.weights, other.weights, strict=True):
        changed[mine.name] = place.values[theirs.name]
        changed[theirs.name] = place.values[mine.name]
    return Mutation((place.row.name, other.name), changed)


def _one_weight(change):
    """One value changed, in a model or among a graph's initializers."""

    def plan(place):
        name = place.weight("kernel")
        value = place.values[name].copy()
        at = place.rng.integers(value.size)
        value.flat[at] = change(value.flat[at], value)
        return Mutation((place.row.name,), {name: value})

    return plan


def _flatten(*, weight):
    """The columns of the dense layer after a flattened image (C, H, W), in another order.

    A `weight` of "nchw" was made for (C, H, W) and meets an image flattened as (H, W, C); one of
    "nhwc" is permuted for (H, W, C) and meets one flattened as (C, H, W).
    """

    def plan(place):
        if place.row.flattened is None:
            return None
        name = place.weight("kernel")
        kernel = place.values[name]
        size = np.arange(kernel.shape[1]).reshape(place.row.flattened)
        order = size.transpose(1, 2, 0).ravel()
        made = np.ascontiguousarray(kernel[:, order if weight == "nhwc" else np.argsort(order)])
        return None if np.array_equal(made, kernel) else Mutation((place.row.name,), {name: made})

    return plan


WEIGHT_FAULTS = (
    fault("8 gamma and beta swapped", "batch_norm", "norm-weights-swapped", _swap("gamma", "beta")),
    fault("8 mean and variance swapped", "batch_norm", "norm-weights-swapped",
          _mean_for_variance),
    fault("8 gamma left out", "batch_norm", "norm-weight-missing", constant("gamma", 1.0)),
    fault("8 beta left out", "batch_norm", "norm-weight-missing", constant("beta", 0.0)),
    fault("10 kernel: height and width swapped", CONV, "kernel-layout",
          _spatial(lambda k: k.swapaxes(2, 3))),
    fault("10 kernel: HWIO taken for OIHW", "conv", "kernel-layout",
          _kernel(lambda k: k.transpose(2, 3, 1, 0).reshape(k.shape))),
    fault("10 kernel: inputs and outputs swapped", "conv", "kernel-layout",
          _kernel(lambda k: k.swapaxes(0, 1))),
    fault("11 kernel flipped", CONV, "kernel-flipped", flipped),
    fault("12 depthwise layout", "depthwise_conv", "depthwise-layout",
          _kernel(lambda k: k.transpose(2, 3, 0, 1).reshape(k.shape))),
    fault("12 depthwise layout: (M, C) taken for (C, M)", "depthwise_conv", "depthwise-layout",
          _multiplier_first(back=True)),
    fault("12 depthwise layout: (C, M) taken for (M, C)", "depthwise_conv", "depthwise-layout",
          _multiplier_first(back=False)),
    fault("18 bias missing", "dense", "bias", constant("bias", 0.0)),
    fault("21 flatten order: NHWC image, NCHW weight", "dense", "flatten-order",
          _flatten(weight="nchw")),
    fault("21 flatten order: NCHW image, NHWC weight", "dense", "flatten-order",
          _flatten(weight="nhwc")),
    fault("22 dense transposed", "dense", "dense-transposed", _kernel(np.transpose)),
    fault("23 weights of two layers swapped", (*CONV, "batch_norm", "dense"),
          "weights-of-another-layer", _exchanged),
    fault("32 weights through float16", (*CONV, "dense"), "weights-rounded", _rounded),
    fault("32 weights through bfloat16", (*CONV, "dense"), "weights-rounded", _bfloat16),
    fault("36 one weight changed", (*CONV, "dense"), "changed-weights",
          _one_weight(lambda value, all_of_it: value + 5.0 * all_of_it.std())),
    fault("too small: one weight by one ulp", (*CONV, "dense"), "changed-weights",
          _one_weight(lambda value, all_of_it: np.nextafter(value, np.float32(np.inf))),
          faint=True),
)  # fmt: skip
