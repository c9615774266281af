"""Layers of the reference with seeded weights, and cases made of them."""

from __future__ import annotations

import numpy as np

from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Layer, evaluate
from parity.network.table import Row
from parity.numerics.distance import measure_error
from parity.numerics.floor import compute_floor
from parity.processes.subjects import runs_graph, side_of

SIZES = {"conv1": (8, 3), "conv2": (8, 8)}


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def conv(inputs=8, outputs=8, *, kernel=3, stride=1, groups=1, bias=False, size=10, seed=0):
    weights = {"kernel": draw(outputs, inputs // groups, kernel, kernel, seed=seed)}
    if bias:
        weights["bias"] = draw(outputs, seed=seed)
    pad = kernel // 2
    hyper = {
        "kernel": [kernel, kernel],
        "stride": [stride, stride],
        "padding": [[pad, pad], [pad, pad]],
        "dilation": [1, 1],
        "groups": groups,
        "bias": bias,
        "activation": "linear",
    }
    kind = "depthwise_conv" if groups == inputs > 1 else "conv"
    return Layer(kind, (draw(2, inputs, size, size, seed=seed + 1).astype(float),), hyper, weights)


def batch_norm(channels=8, size=6):
    weights = {
        "gamma": draw(channels, seed=1) * 0.2 + 1.0,
        "beta": draw(channels, seed=2),
        "mean": draw(channels, seed=3) * 0.3,
        "variance": np.abs(draw(channels, seed=4)) + np.float32(0.01),
    }
    data = draw(2, channels, size, size, seed=5).astype(float)
    return Layer("batch_norm", (data,), {"epsilon": 1e-5}, weights)


def conv_transpose(inputs=4, outputs=6, *, kernel=3, stride=2, size=5):
    weights = {"kernel": draw(inputs, outputs, kernel, kernel, seed=12), "bias": draw(outputs)}
    hyper = {
        "kernel": [kernel, kernel],
        "stride": [stride, stride],
        "padding": [[1, 0], [1, 0]],
        "dilation": [1, 1],
        "groups": 1,
        "bias": True,
        "activation": "linear",
    }
    data = draw(2, inputs, size, size, seed=13).astype(float)
    return Layer("conv_transpose", (data,), hyper, weights)


def group_norm(channels=8, size=6, groups=2):
    weights = {"gamma": draw(channels, seed=1) * 0.2 + 1.0, "beta": draw(channels, seed=2)}
    data = 0.1 * draw(2, channels, size, size, seed=5).astype(float)
    return Layer("group_norm", (data,), {"epsilon": 1e-5, "groups": groups}, weights)


def dense(inputs=8, outputs=8, *, image=False, bias=True):
    data = draw(3, 2, 2, inputs // 4, seed=6) if image else draw(3, inputs, seed=6)
    weights = {"kernel": draw(outputs, inputs, seed=7)}
    if bias:
        weights["bias"] = draw(outputs, seed=8)
    return Layer("dense", (data.astype(float),), {"bias": bias, "activation": "linear"}, weights)


def pool(kind, *, size=9, kernel=3, stride=2, padding=1, **settings):
    hyper = {
        "kernel": [kernel] * 2,
        "stride": [stride] * 2,
        "padding": [[padding] * 2] * 2,
        "ceil": False,
        **settings,
    }
    return Layer(kind, (draw(2, 4, size, size, seed=9).astype(float),), hyper)


def pointwise(kind, **settings):
    return Layer(kind, (draw(2, 8, 6, 6, seed=10).astype(float),), settings)


def failing_layer(layer, actual, *, subject="keras", **more):
    """The case of a subject that gives `actual`, rounded to float32, for this layer."""
    expected = evaluate(layer)
    actual = np.asarray(actual).astype(np.float32).astype(float)
    floor = compute_floor([measure_error(actual=expected.astype(np.float32), expected=expected)])
    return FailingLayer(
        row=Row("row", "stage", layer.kind, "row", "row", expected.shape[1:]),
        subject=subject,
        framework="onnx" if runs_graph(subject) else side_of(subject),
        reference_layer=layer,
        expected=expected,
        actual=actual,
        floor=floor,
        label="Layer `row`",
        **more,
    )
