"""The faults: where each can be put, what it changes there, and the causes that may name it.

A fault is put at one row of a layer table. It changes canonical weights (`weight_faults`), or asks
a child of `tests.studies.mutants.runtimes` to change its model: those are here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.network.table import parse_torch_point
from tests.studies.mutants.pair_faults import PAIR_FAULTS, add_bias
from tests.studies.mutants.plan import CODE, CONV, Mutation, code, fault
from tests.studies.mutants.run_faults import RUN_FAULTS
from tests.studies.mutants.small_faults import SMALL_FAULTS
from tests.studies.mutants.weight_faults import WEIGHT_FAULTS


def _set_epsilon(value):
    return code("epsilon", value=value)


def _set_padding(asymmetric):
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


def _move_stride(place):
    """A block strides in the convolution before, or after, the right one."""
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


def _has_groups(place):
    return place.hyper.get("groups", 1) > 1 and place.row.kind == "conv"


def _change_groups(change):
    def plan(place):
        groups = place.hyper.get("groups", 1)
        return code(change, groups=groups)(place) if _has_groups(place) else None

    return plan


def _read_whole_input(place):
    """Every group's convolution reads all of the input."""
    if not _has_groups(place):
        return None
    path, _, name = place.row.torch.rpartition(".")
    change = {"layer": path, "change": "whole-groups", "name": name}
    return Mutation((place.row.name,), changes=(change,), changes_description=True, fails=True,
                    copies_weights=True)  # fmt: skip


def _add_projection(place):
    """A projection with its batch-norm where the block's input is added as it is."""
    block = [row for row in place.rows.values() if row.block == place.row.block]
    if "block" not in place.row.block or any("downsample" in row.name for row in block):
        return None
    change = {"layer": _block_of(place.row), "change": "projected", "channels": place.row.shape[0],
              "seed": int(place.rng.integers(2**31))}  # fmt: skip
    return Mutation((place.row.name,), changes=(change,), changes_description=True)


def _replace_projection(place):
    """A block that changes the shape cuts and pads its input, as the first of the papers did."""
    if not place.row.name.endswith("downsample.conv"):
        return None
    change = {"layer": place.row.torch.rpartition(".downsample")[0], "change": "unprojected",
              "channels": place.row.shape[0], "stride": place.hyper["stride"][0]}  # fmt: skip
    return Mutation((place.row.name,), changes=(change,), changes_description=True, fails=True,
                    copies_weights=True)  # fmt: skip


def _block_of(row):
    return parse_torch_point(row.torch).module.rpartition(".")[0]


def _at_stem(plan):
    """Only at the convolution that reads the image."""
    return lambda place: plan(place) if next(iter(place.rows)) in _around(place) else None


def _around(place):
    first = [row.name for row in place.rows.values() if row.kind == "conv"][:1]
    return list(place.rows)[:1] if place.row.name in first else []


def _add_relu(*, before_relu):
    """A ReLU more; with `before_relu`, one follows anyway: it shows in one tensor only.

    This tensor is, bit for bit, what a ReLU in place leaves of a tensor that was kept by reference;
    no layer says that it works in place, and so it is not that.
    """

    def plan(place):
        following = place.following
        if (following is not None and following.kind == "relu") != before_relu:
            return None
        mutation = code("relu-after")(place)
        return replace(mutation, depth="layer") if before_relu else mutation

    return plan


def _permute_output(change):
    """Only of more than one value: else nothing changes."""
    return lambda place: code(change)(place) if place.row.shape[:1] > (1,) else None


def _set_one_nan(place):
    """One value of the first item is NaN, which a max-pool after it may drop."""
    index = [int(place.rng.integers(size)) for size in place.row.shape]
    mutation = code("nan-after", index=index, shape=place.row.shape)(place)
    return replace(mutation, depth="layer")


def _set_ceil_mode(place):
    """Only where the windows leave a rest: elsewhere nothing changes."""
    size = place.preceding.shape[1]
    (top, bottom), _ = place.hyper["padding"]
    rest = (size + top + bottom - place.hyper["kernel"][0]) % place.hyper["stride"][0]
    return code("ceil", value=True)(place) if rest else None


def _roll_pixels(place):
    """Of two lines, moving by one is turning upside down, which has a name."""
    return code("rolled-after")(place) if place.row.shape[1] > 2 else None


def _pad_pool_with_zeros(place):
    """−∞ gives way to 0, which is the same where a ReLU comes before."""
    if place.preceding.kind == "relu" or not any(map(any, place.hyper["padding"])):
        return None
    return code("padding", padding=place.hyper["padding"], value=0.0)(place)


FAULTS = (
    fault(
        "1 SAME padding at stride 2",
        (*CONV, "max_pool"),
        "same-padding",
        _set_padding([[0, 1], [0, 1]]),
    ),
    fault(
        "1 padding at one end only", (*CONV, "max_pool"), "padding", _set_padding([[2, 0], [2, 0]])
    ),
    fault(
        "2 max-pool padded with 0",
        "max_pool",
        "pool-padded-with-zeros",
        _pad_pool_with_zeros,
        ("torch",),
    ),
    fault(
        "3 average counts its padding",
        "avg_pool",
        "average-counts-padding",
        code("count-padding", value=True),
        ("torch",),
    ),
    fault("4 ceil_mode", "max_pool", "ceil-mode", _set_ceil_mode, ("torch",)),
    fault("5 epsilon 1e-3", "batch_norm", "batch-norm-epsilon", _set_epsilon(1e-3), CODE),
    fault(
        "5 epsilon 1.001e-5", "batch_norm", "batch-norm-epsilon", _set_epsilon(1.001e-5), ("keras",)
    ),
    fault("9 training mode", "batch_norm", "training-mode", code("batch-statistics"), CODE),
    fault("9 dropout", ("relu", "dense"), "dropout", code("dropout", rate=0.25), CODE),
    fault(
        "13 groups in another order",
        "conv",
        "group-order",
        _change_groups("interleaved-groups"),
        CODE,
    ),
    fault(
        "14 every group reads the last slice",
        "conv",
        "groups-read-one-slice",
        _change_groups("one-slice"),
        CODE,
    ),
    fault(
        "15 groups read the whole input",
        "conv",
        "groups-read-whole-input",
        _read_whole_input,
        ("torch",),
    ),
    fault(
        "17 projection too many", "add", "projection-in-every-block", _add_projection, ("torch",)
    ),
    fault("17 projection missing", "conv", "projection-missing", _replace_projection, ("torch",)),
    fault("16 stride moved", "conv", "stride", _move_stride, CODE),
    fault("18 bias added", "conv", "bias", add_bias, CODE),
    fault("19 activation missing", "relu", "activation-missing", code("identity"), CODE),
    fault(
        "19 ReLU added", ("conv", "batch_norm"), "activation-extra", _add_relu(before_relu=False)
    ),
    fault(
        "19 ReLU doubled",
        ("conv", "batch_norm", "dense"),
        "activation-extra",
        _add_relu(before_relu=True),
    ),
    fault(
        "19 activation doubled",
        ("leaky_relu", "gelu"),
        "activation-extra|leaky-relu-slope",
        code("doubled"),
        CODE,
    ),
    fault("19 sigmoid added", ("conv", "batch_norm"), "activation-extra", code("sigmoid-after")),
    fault("19 SiLU for ReLU", "relu", "activation-other", code("silu"), CODE),
    fault("19 leaky ReLU for ReLU", "relu", "activation-other", code("leaky"), CODE),
    fault("20 softmax in the model", "dense", "softmax", code("softmax-after")),
    fault(
        "24 channels of the image reversed",
        "conv",
        "channel-order",
        _at_stem(code("reversed-before")),
        CODE,
    ),
    fault("27 GELU by tanh", "gelu", "gelu-form", code("gelu-tanh"), CODE),
    fault(
        "28 slope of leaky ReLU", "leaky_relu", "leaky-relu-slope", code("slope", value=0.3), CODE
    ),
    fault(
        "6 cases: classes reversed",
        "dense",
        "output-permuted",
        _permute_output("reversed-after"),
        CODE,
    ),
    fault("6 cases: channels reversed", "conv", "output-permuted", code("reversed-after"), CODE),
    fault(
        "6 cases: height and width swapped", "conv", "output-permuted", code("turned-after"), CODE
    ),
    *WEIGHT_FAULTS,
    *RUN_FAULTS,
    *PAIR_FAULTS,
    *SMALL_FAULTS,
    fault("6 cases: one NaN", ("conv", "batch_norm", "dense"), "not-explained", _set_one_nan, CODE),
    fault(
        "6 cases: NaN against finite",
        ("conv", "batch_norm", "dense"),
        "not-explained",
        code("all-nan-after"),
        CODE,
    ),
    fault(
        "6 cases: wrong vectors",
        "dense",
        "output-permuted",
        _permute_output("rolled-channels-after"),
        CODE,
    ),
    fault("6 cases: wrong 1-D output", "flatten", "not-explained", code("squeezed-after"), CODE),
    fault(
        "6 cases: output flattened to 1-D",
        "dense",
        "not-explained",
        _permute_output("flattened-after"),
        CODE,
    ),
    fault("no cause covers: shifted by a pixel", "conv", "not-explained", _roll_pixels, CODE),
    fault(
        "no cause covers: raised to 1.01",
        "relu",
        "not-explained",
        code("squeezed-after"),
        ("keras",),
    ),
)
