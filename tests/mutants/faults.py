"""The faults: where each can be put, what it changes there, and the causes that may name it.

A fault is put at one row of a layer table. It changes canonical weights, which work in every
framework and in graphs, or asks a child of `tests.mutants.runtimes` to change its model.
"""

from __future__ import annotations

import numpy as np

from parity.table import torch_point
from tests.mutants.plan import CODE, Mutation, code, fault
from tests.mutants.run_faults import RUN_FAULTS


def _kernel(change):
    def plan(place):
        name = place.weight("kernel")
        before = place.values[name]
        made = np.ascontiguousarray(change(before), dtype=np.float32)
        if made.shape != before.shape or np.array_equal(made, before):
            return None
        return Mutation((place.row.name,), {name: made})

    return plan


def _spatial(change):
    def plan(place):
        kernel = place.values[place.weight("kernel")]
        return None if kernel.shape[2:] == (1, 1) else _kernel(change)(place)

    return plan


def _swap(one, other):
    def plan(place):
        names = place.weight(one), place.weight(other)
        values = [place.values[name] for name in names]
        # A variance below 0 makes NaN, which is another fault.
        if "variance" in (one, other) and (values[0] <= 0).any():
            return None
        return Mutation((place.row.name,), {names[0]: values[1], names[1]: values[0]})

    return plan


def _constant(role, value):
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


def _one_weight(place):
    """One value changed, in a model or among a graph's initializers."""
    name = place.weight("kernel")
    value = place.values[name].copy()
    value.flat[place.rng.integers(value.size)] += 5.0 * value.std()
    return Mutation((place.row.name,), {name: value})


def _epsilon(value):
    return code("epsilon", value=value)


def _bias(place):
    values = (0.2 * place.rng.standard_normal(place.row.shape[0])).tolist()
    return code("bias", values=values)(place)


def _padding(asymmetric):
    """SAME's (0, 1), or the mirrored (2, 0), in place of (1, 1)."""

    def plan(place):
        hyper = place.hyper
        if hyper.get("kernel") != [3, 3] or hyper.get("stride") != [2, 2]:
            return None
        if list(map(list, hyper["padding"])) != [[1, 1], [1, 1]]:
            return None
        if place.subject == "onnx-torch":
            (top, bottom), (left, right) = asymmetric
            attributes = {"pads": [top, left, bottom, right], "auto_pad": "NOTSET"}
            change = {"layer": place.layer, "change": "attributes", "attributes": attributes}
            return Mutation((place.row.name,), changes=(change,))
        if place.subject == "keras" and place.row.pad is None:
            return None
        value = -np.inf if place.row.kind == "max_pool" else 0.0
        if place.subject == "torch" and place.row.kind == "max_pool":
            return code("padding", padding=asymmetric, value=float(value))(place)
        return code("padding", padding=asymmetric, pad=place.row.pad)(place)

    return plan


def _stride_moved(place):
    """A block strides in the convolution before, or behind, the one that should."""
    if place.hyper.get("stride") != [2, 2] or place.hyper.get("kernel") != [3, 3]:
        return None
    block = [row for row in place.rows.values() if row.kind == "conv"
             and row.block == place.row.block and "downsample" not in row.name]  # fmt: skip
    others = [row for row in block if row.name != place.row.name]
    if len(others) not in (1, 2) or "block" not in place.row.block:
        return None
    # In a bottleneck the 1x1 before it, as in the first of the papers; else the second 3x3.
    other = others[0]
    layer = (lambda row: row.keras) if place.subject == "keras" else (lambda row: row.torch)
    changes = (
        {"layer": layer(place.row), "change": "stride", "value": [1, 1]},
        {"layer": layer(other), "change": "stride", "value": [2, 2]},
    )
    return Mutation((place.row.name, other.name), changes=changes)


def _dilated(place):
    """Dilation 2 with the padding that keeps the shape: two settings at once."""
    if place.hyper.get("kernel") != [3, 3] or (place.subject == "keras" and place.row.pad is None):
        return None
    first = {"layer": place.layer, "change": "dilation", "value": [2, 2]}
    if place.subject == "keras":
        second = {"layer": place.layer, "change": "padding", "padding": [[2, 2], [2, 2]],
                  "pad": place.row.pad}  # fmt: skip
    else:
        second = {"layer": place.layer, "change": "padding-setting", "value": [2, 2]}
    return Mutation((place.row.name,), changes=(first, second))


def _biased_and_rectified(place):
    """Two faults in one layer."""
    values = (0.2 * place.rng.standard_normal(place.row.shape[0])).tolist()
    bias = {"layer": place.layer, "change": "bias", "values": values}
    name, kernel = place.weight("kernel"), place.values[place.weight("kernel")]
    if kernel.ndim != 4 or kernel.shape[2:] == (1, 1):
        return None
    flipped = np.ascontiguousarray(kernel[:, :, ::-1, ::-1])
    return Mutation((place.row.name,), {name: flipped}, (bias,))


def _grouped(place):
    return place.hyper.get("groups", 1) > 1 and place.row.kind == "conv"


def _groups(change):
    def plan(place):
        groups = place.hyper.get("groups", 1)
        return code(change, groups=groups)(place) if _grouped(place) else None

    return plan


def _whole_groups(place):
    """Every group's convolution reads all of the input."""
    if not _grouped(place):
        return None
    path, _, name = place.row.torch.rpartition(".")
    change = {"layer": path, "change": "whole-groups", "name": name}
    return Mutation((place.row.name,), changes=(change,), described=True, fails=True, copied=True)


def _projected(place):
    """A projection with its batch-norm where the block's input is added as it is."""
    block = [row for row in place.rows.values() if row.block == place.row.block]
    if "block" not in place.row.block or any("downsample" in row.name for row in block):
        return None
    change = {"layer": _block_of(place.row), "change": "projected", "channels": place.row.shape[0],
              "seed": int(place.rng.integers(2**31))}  # fmt: skip
    return Mutation((place.row.name,), changes=(change,), described=True)


def _unprojected(place):
    """A block that changes the shape cuts and pads its input, as the first of the papers did."""
    if not place.row.name.endswith("downsample.conv"):
        return None
    change = {"layer": place.row.torch.rpartition(".downsample")[0], "change": "unprojected",
              "channels": place.row.shape[0], "stride": place.hyper["stride"][0]}  # fmt: skip
    return Mutation((place.row.name,), changes=(change,), described=True, fails=True, copied=True)


def _block_of(row):
    return torch_point(row.torch).module.rpartition(".")[0]


def _stem(plan):
    """Only at the convolution that reads the image."""
    return lambda place: plan(place) if next(iter(place.rows)) in _around(place) else None


def _around(place):
    first = [row.name for row in place.rows.values() if row.kind == "conv"][:1]
    return list(place.rows)[:1] if place.row.name in first else []


def _unless_relu_follows(plan):
    """A second ReLU on the same values changes nothing at all."""

    def guarded(place):
        order = list(place.rows.values())
        behind = order[order.index(place.row) + 1 :][:1]
        return None if behind and behind[0].kind in ("relu", "add") else plan(place)

    return guarded


def _ceiling(place):
    """Only where the windows leave a rest: elsewhere nothing changes."""
    order = list(place.rows.values())
    size = order[order.index(place.row) - 1].shape[1]
    (top, bottom), _ = place.hyper["padding"]
    rest = (size + top + bottom - place.hyper["kernel"][0]) % place.hyper["stride"][0]
    return code("ceil", value=True)(place) if rest else None


def _rolled(place):
    """Of two lines, moving by one is turning upside down, which has a name."""
    return code("rolled-after")(place) if place.row.shape[1] > 2 else None


def _zero_pool(place):
    """−∞ gives way to 0, which is the same where a ReLU comes before."""
    order = list(place.rows.values())
    before = order[order.index(place.row) - 1]
    if before.kind == "relu" or not any(map(any, place.hyper["padding"])):
        return None
    return code("padding", padding=place.hyper["padding"], value=0.0)(place)


def _flatten(place):
    if place.row.flattened is None:
        return None
    kernel = place.values[place.weight("kernel")]
    channels, height, width = place.row.flattened
    order = np.arange(kernel.shape[1]).reshape(channels, height, width)
    moved = np.ascontiguousarray(kernel[:, order.transpose(1, 2, 0).ravel()])
    # A weight whose inputs are in the other order, against an image that is not.
    back = np.empty_like(kernel)
    back[:, order.transpose(1, 2, 0).ravel()] = kernel
    assert moved.shape == back.shape
    return Mutation((place.row.name,), {place.weight("kernel"): back})


CONV = ("conv", "depthwise_conv")
SPATIAL = (*CONV, "batch_norm", "max_pool", "avg_pool", "relu")


FAULTS = (
    fault("1 SAME padding at stride 2", (*CONV, "max_pool"), "same-padding",
          _padding([[0, 1], [0, 1]])),
    fault("1 padding at one end only", (*CONV, "max_pool"), "padding", _padding([[2, 0], [2, 0]])),
    fault("2 max-pool padded with 0", "max_pool", "pool-padded-with-zeros", _zero_pool, ("torch",)),
    fault("3 average counts its padding", "avg_pool", "average-counts-padding",
          code("count-padding", value=True), ("torch",)),
    fault("4 ceil_mode", "max_pool", "ceil-mode", _ceiling, ("torch",)),
    fault("5 epsilon 1e-3", "batch_norm", "batch-norm-epsilon", _epsilon(1e-3), CODE),
    fault("5 epsilon 1.001e-5", "batch_norm", "batch-norm-epsilon", _epsilon(1.001e-5), ("keras",)),
    fault("8 gamma and beta swapped", "batch_norm", "norm-weights-swapped", _swap("gamma", "beta")),
    fault("8 mean and variance swapped", "batch_norm", "norm-weights-swapped",
          _swap("mean", "variance")),
    fault("8 gamma left out", "batch_norm", "norm-weight-missing", _constant("gamma", 1.0)),
    fault("8 beta left out", "batch_norm", "norm-weight-missing", _constant("beta", 0.0)),
    fault("9 training mode", "batch_norm", "training-mode", code("of-the-batch"), CODE),
    fault("9 dropout", "relu", "dropout", code("dropout", rate=0.25), ("keras",)),
    fault("10 kernel: height and width swapped", CONV, "kernel-layout",
          _spatial(lambda k: k.swapaxes(2, 3))),
    fault("10 kernel: HWIO taken for OIHW", "conv", "kernel-layout",
          _kernel(lambda k: k.transpose(2, 3, 1, 0).reshape(k.shape))),
    fault("10 kernel: inputs and outputs swapped", "conv", "kernel-layout",
          _kernel(lambda k: k.swapaxes(0, 1))),
    fault("11 kernel flipped", CONV, "kernel-flipped", _spatial(lambda k: k[:, :, ::-1, ::-1])),
    fault("12 depthwise layout", "depthwise_conv", "depthwise-layout",
          _kernel(lambda k: k.transpose(2, 3, 0, 1).reshape(k.shape))),
    fault("13 groups in another order", "conv", "group-order", _groups("dealt-groups"), CODE),
    fault("14 every group reads the last slice", "conv", "groups-read-one-slice",
          _groups("one-slice"), CODE),
    fault("15 groups read the whole input", "conv", "groups-read-whole-input", _whole_groups,
          ("torch",)),
    fault("17 projection too many", "add", "projection-in-every-block", _projected, ("torch",)),
    fault("17 projection missing", "conv", "projection-missing", _unprojected, ("torch",)),
    fault("16 stride moved", "conv", "stride", _stride_moved, CODE),
    fault("18 bias added", "conv", "bias", _bias, CODE),
    fault("18 bias missing", "dense", "bias", _constant("bias", 0.0)),
    fault("19 activation missing", "relu", "activation-missing", code("identity"), CODE),
    fault("19 ReLU added", ("conv", "batch_norm"), "activation-extra",
          _unless_relu_follows(code("relu-after"))),
    fault("19 sigmoid added", ("conv", "batch_norm"), "activation-extra", code("sigmoid-after")),
    fault("19 SiLU for ReLU", "relu", "activation-other", code("silu"), CODE),
    fault("19 leaky ReLU for ReLU", "relu", "activation-other", code("leaky"), CODE),
    fault("20 softmax in the model", "dense", "softmax", code("softmax-after")),
    fault("21 flatten order", "dense", "flatten-order", _flatten),
    fault("22 dense transposed", "dense", "dense-transposed", _kernel(np.transpose)),
    fault("23 weights of two layers swapped", (*CONV, "batch_norm", "dense"),
          "weights-of-another-layer", _exchanged),
    fault("24 channels of the image reversed", "conv", "channel-order",
          _stem(code("reversed-before")), CODE),
    fault("27 GELU by tanh", "gelu", "gelu-form", code("gelu-tanh"), ("keras",)),
    fault("28 slope of leaky ReLU", "leaky_relu", "leaky-relu-slope",
          code("slope", value=0.3), CODE),
    fault("32 weights through float16", (*CONV, "dense"), "weights-rounded", _rounded),
    fault("32 weights through bfloat16", (*CONV, "dense"), "weights-rounded", _bfloat16),
    fault("6 cases: classes reversed", "dense", "output-permuted", code("reversed-after"), CODE),
    fault("6 cases: channels reversed", "conv", "output-permuted", code("reversed-after"), CODE),
    fault("6 cases: height and width swapped", "conv", "output-permuted",
          code("turned-after"), CODE),
    fault("36 one weight changed", (*CONV, "dense"), "changed-weights", _one_weight),
    *RUN_FAULTS,
    fault("pair: dilation and padding", "conv", "dilation+padding|padding+dilation", _dilated,
          CODE),
    fault("pair: flipped kernel and a bias", "conv", "kernel-flipped+bias|bias+kernel-flipped",
          _biased_and_rectified, CODE),
    fault("no cause covers: shifted by a pixel", "conv", "not-explained", _rolled,
          CODE),
    fault("no cause covers: raised to 1.01", "relu", "not-explained", code("squeezed-after"),
          ("keras",)),
)  # fmt: skip
