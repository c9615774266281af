"""Faults of the canonical weights, for every framework and for graphs."""

from __future__ import annotations

import numpy as np

from tests.studies.mutants.plan import CONV, Mutation, fault


def _change_kernel(change):
    def plan(place):
        name = place.weight("kernel")
        kernel = place.values[name]
        values = np.ascontiguousarray(change(kernel), dtype=np.float32)
        if values.shape != kernel.shape or np.array_equal(values, kernel):
            return None
        return Mutation((place.row.name,), {name: values})

    return plan


def flip_kernel(place):
    """A true convolution."""
    return _change_spatial_kernel(lambda kernel: kernel[:, :, ::-1, ::-1])(place)


def _change_spatial_kernel(change):
    def plan(place):
        kernel = place.values[place.weight("kernel")]
        return None if kernel.shape[2:] == (1, 1) else _change_kernel(change)(place)

    return plan


def _swap_multiplier(*, back):
    """The outputs of a depthwise kernel as m·C + c, where both frameworks have c·M + m."""

    def plan(place):
        channels = place.hyper.get("groups", 1)
        multiplier = place.row.shape[0] // channels
        if multiplier == 1:
            return None
        order = (multiplier, channels) if back else (channels, multiplier)
        return _change_kernel(
            lambda k: k.reshape(*order, *k.shape[1:]).swapaxes(0, 1).reshape(k.shape)
        )(place)

    return plan


def _swap_weights(one, other):
    def plan(place):
        names = place.weight(one), place.weight(other)
        values = [place.values[name] for name in names]
        return Mutation((place.row.name,), {names[0]: values[1], names[1]: values[0]})

    return plan


def _swap_mean_and_variance(place):
    """Mean and variance swapped, where all means are positive.

    A variance below 0, which would make NaN, is refused before a model is given such weights.
    """
    positive = (place.values[place.weight("mean")] > 0).all()
    return _swap_weights("mean", "variance")(place) if positive else None


def set_constant(role, value):
    """One weight of a layer keeps its initial value."""

    def plan(place):
        name = place.weight(role)
        if name is None:
            return None
        return Mutation((place.row.name,), {name: np.full_like(place.values[name], value)})

    return plan


def _round_to_float16(place):
    weights = {w.name: place.values[w.name].astype(np.float16).astype(np.float32)
               for w in place.row.weights}  # fmt: skip
    return Mutation((place.row.name,), weights)


def _round_to_bfloat16(place):
    def round_values(value):
        bits = value.view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        nearest = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
        return nearest.view(np.float32)

    return Mutation((place.row.name,), {w.name: round_values(place.values[w.name])
                                        for w in place.row.weights})  # fmt: skip


def _swap_layers(place):
    """The weights of two layers of the same shapes, swapped."""
    shapes = [w.shape for w in place.row.weights]
    others = [row for row in place.rows.values()
              if row.name != place.row.name and row.kind == place.row.kind and row.weights
              and [w.shape for w in row.weights] == shapes]  # fmt: skip
    if not others:
        return None
    other = others[place.rng.integers(len(others))]
    weights = {}
    for mine, theirs in zip(place.row.weights, other.weights, strict=True):
        weights[mine.name] = place.values[theirs.name]
        weights[theirs.name] = place.values[mine.name]
    return Mutation((place.row.name, other.name), weights)


def _change_one_weight(change):
    """One value changed, in a model or among a graph's initializers."""

    def plan(place):
        name = place.weight("kernel")
        value = place.values[name].copy()
        at = place.rng.integers(value.size)
        value.flat[at] = change(value.flat[at], value)
        return Mutation((place.row.name,), {name: value})

    return plan


def _reorder_flattened(*, weight):
    """The columns of the dense layer after a flattened image (C, H, W), in another order.

    A `weight` of "nchw" was made for (C, H, W) and meets an image flattened as (H, W, C); one of
    "nhwc" is permuted for (H, W, C) and meets one flattened as (C, H, W).
    """

    def plan(place):
        if place.row.image_shape is None:
            return None
        name = place.weight("kernel")
        kernel = place.values[name]
        indices = np.arange(kernel.shape[1]).reshape(place.row.image_shape)
        order = indices.transpose(1, 2, 0).ravel()
        values = np.ascontiguousarray(kernel[:, order if weight == "nhwc" else np.argsort(order)])
        return (
            None if np.array_equal(values, kernel) else Mutation((place.row.name,), {name: values})
        )

    return plan


WEIGHT_FAULTS = (
    fault(
        "8 gamma and beta swapped",
        "batch_norm",
        "norm-weights-swapped",
        _swap_weights("gamma", "beta"),
    ),
    fault(
        "8 mean and variance swapped", "batch_norm", "norm-weights-swapped", _swap_mean_and_variance
    ),
    fault("8 gamma left out", "batch_norm", "norm-weight-missing", set_constant("gamma", 1.0)),
    fault("8 beta left out", "batch_norm", "norm-weight-missing", set_constant("beta", 0.0)),
    fault(
        "10 kernel: height and width swapped",
        CONV,
        "kernel-layout",
        _change_spatial_kernel(lambda k: k.swapaxes(2, 3)),
    ),
    fault(
        "10 kernel: HWIO taken for OIHW",
        "conv",
        "kernel-layout",
        _change_kernel(lambda k: k.transpose(2, 3, 1, 0).reshape(k.shape)),
    ),
    fault(
        "10 kernel: inputs and outputs swapped",
        "conv",
        "kernel-layout",
        _change_kernel(lambda k: k.swapaxes(0, 1)),
    ),
    fault("11 kernel flipped", CONV, "kernel-flipped", flip_kernel),
    fault(
        "12 depthwise layout",
        "depthwise_conv",
        "depthwise-layout",
        _change_kernel(lambda k: k.transpose(2, 3, 0, 1).reshape(k.shape)),
    ),
    fault(
        "12 depthwise layout: (M, C) taken for (C, M)",
        "depthwise_conv",
        "depthwise-layout",
        _swap_multiplier(back=True),
    ),
    fault(
        "12 depthwise layout: (C, M) taken for (M, C)",
        "depthwise_conv",
        "depthwise-layout",
        _swap_multiplier(back=False),
    ),
    fault("18 bias missing", "dense", "bias", set_constant("bias", 0.0)),
    fault(
        "21 flatten order: NHWC image, NCHW weight",
        "dense",
        "flatten-order",
        _reorder_flattened(weight="nchw"),
    ),
    fault(
        "21 flatten order: NCHW image, NHWC weight",
        "dense",
        "flatten-order",
        _reorder_flattened(weight="nhwc"),
    ),
    fault("22 dense transposed", "dense", "dense-transposed", _change_kernel(np.transpose)),
    fault(
        "23 weights of two layers swapped",
        (*CONV, "batch_norm", "dense"),
        "weights-of-another-layer",
        _swap_layers,
    ),
    fault("32 weights through float16", (*CONV, "dense"), "weights-rounded", _round_to_float16),
    fault("32 weights through bfloat16", (*CONV, "dense"), "weights-rounded", _round_to_bfloat16),
    fault(
        "36 one weight changed",
        (*CONV, "dense"),
        "changed-weights",
        _change_one_weight(lambda value, all_of_it: value + 5.0 * all_of_it.std()),
    ),
    fault(
        "too small: one weight by one ulp",
        (*CONV, "dense"),
        "changed-weights",
        _change_one_weight(lambda value, all_of_it: np.nextafter(value, np.float32(np.inf))),
        faint=True,
    ),
)
