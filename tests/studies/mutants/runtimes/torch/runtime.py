"""PyTorch with faults: forward methods that are replaced, settings that are changed."""

from __future__ import annotations

import types

import torch
from torch import nn
from torch.nn import functional

from parity.network.table import parse_torch_point
from parity.runtimes.torch import runtime as plain
from tests.studies.mutants.runtimes.stale_captures import StaleCaptures


class Runtime(StaleCaptures, plain.Runtime):
    """A module whose layers can be made to misbehave."""

    def mutate(self, *, changes):
        for change in self.set_stale(changes):
            point = parse_torch_point(change["layer"]) if change["layer"] else None
            # What stands in no block is the model's own.
            module = self.model if point is None else self.model.get_submodule(point.module)
            CHANGES[change["change"]](module, point and point.call, change)

    def restore(self):
        self.stale = {}
        for module in list(self.model.modules()):
            for name, value in module.__dict__.pop("_mutant", {}).items():
                setattr(module, name, value)
            module.__dict__.pop("forward", None)
            module.__dict__.pop("_calls", None)


def set_attribute(module, name, value):
    module.__dict__.setdefault("_mutant", {})[name] = getattr(module, name)
    setattr(module, name, value)


def wrap(module, *, before=None, after=None, instead=None, call=None, calls=1):
    """Replace `forward`; a copy of the module is given a `forward` bound to the copy."""

    def forward(self, x):
        index = self.__dict__.get("_calls", 0) % calls
        self.__dict__["_calls"] = index + 1
        if call is not None and index != call:
            return type(self).forward(self, x)
        x = x if before is None else before(x)
        y = type(self).forward(self, x) if instead is None else instead(self, x)
        return y if after is None else after(y)

    module.__dict__["forward"] = types.MethodType(forward, module)


def same_padding(module, call, change):
    (top, bottom), (left, original) = change["padding"]
    value = change.get("value", 0.0)
    set_attribute(module, "padding", (0, 0))
    wrap(module, before=lambda x: functional.pad(x, (left, original, top, bottom), value=value))


def whole_groups(block, call, change):
    """One convolution without groups is all of them side by side, each reading everything."""
    original = getattr(block, change["name"])
    replacement = nn.Conv2d(
        original.in_channels,
        original.out_channels,
        original.kernel_size,
        original.stride,
        original.padding,
        original.dilation,
        bias=original.bias is not None,
    )
    set_attribute(block, change["name"], replacement)


def add_projection(block, call, change):
    replacement = nn.Sequential(
        nn.Conv2d(change["channels"], change["channels"], 1, bias=False),
        nn.BatchNorm2d(change["channels"]),
    )
    generator = torch.Generator().manual_seed(change["seed"])
    with torch.no_grad():
        for value in replacement.parameters():
            value.normal_(std=change["channels"] ** -0.5, generator=generator)
    set_attribute(block, "downsample", replacement.eval())


class CropShortcut(nn.Module):
    """A shortcut without weights: every so many pixels, and zeros for the channels it lacks."""

    def __init__(self, channels, stride):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x):
        missing = self.channels - x.shape[1]
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, missing))


def replace_projection(block, call, change):
    set_attribute(block, "downsample", CropShortcut(change["channels"], change["stride"]))


def one_slice(module, call, change):
    groups = change["groups"]
    wrap(module, before=lambda x: x.chunk(groups, 1)[groups - 1].repeat(1, groups, 1, 1))


def interleave_groups(module, call, change):
    groups = change["groups"]
    wrap(module, before=lambda x: x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2))


def use_batch_statistics(module, call, change):
    def instead(self, x):
        return functional.batch_norm(
            x, None, None, self.weight, self.bias, training=True, eps=self.eps
        )

    wrap(module, instead=instead)


def add_bias(module, call, change):
    def after(y):
        bias = torch.tensor(change["values"], dtype=y.dtype)
        return y + bias.reshape(1, -1, *(1,) * (y.ndim - 2))

    wrap(module, after=after)


def change_setting(name):
    def apply(module, call, change):
        value = change["value"]
        set_attribute(module, name, tuple(value) if isinstance(value, list) else value)

    return apply


def apply_after(function):
    return lambda module, call, change: wrap(module, after=function)


def add_dropout(module, call, change):
    wrap(
        module,
        after=lambda y: functional.dropout(y, change["rate"], training=True),
        call=call,
        calls=change["calls"],
    )


def replace_by(function):
    def apply(module, call, change):
        wrap(module, instead=lambda self, x: function(x), call=call, calls=change["calls"])

    return apply


def round_to_tf32(x):
    """Operands of TF32: 11 significant bits, ties to even."""
    bits = x.float().contiguous().view(torch.int32)
    cut = (bits + 0xFFF + ((bits >> 13) & 1)) & -0x2000
    return cut.view(torch.float32).to(x.dtype)


def set_nan(module, call, change):
    """NaN at one place of the first item."""

    def after(y):
        y = y.clone()
        y[(0, *change["index"])] = float("nan")
        return y

    wrap(module, after=after)


def scale_output(module, call, change):
    # A factor of the tensor's own precision: PyTorch would take a float in a wider one.
    wrap(module, after=lambda y: y * torch.tensor(change["value"], dtype=y.dtype))


def apply_twice(module, call, change):
    def twice(self, x):
        return type(self).forward(self, type(self).forward(self, x))

    wrap(module, instead=twice)


CHANGES = {
    "nan-after": set_nan,
    "all-nan-after": apply_after(lambda y: y * float("nan")),
    "rolled-channels-after": apply_after(lambda y: y.roll(1, 1)),
    "flattened-after": apply_after(lambda y: y.flatten()),
    "scaled-after": scale_output,
    "doubled": apply_twice,
    "relu-before": lambda module, call, change: wrap(module, before=torch.relu),
    "in-place": change_setting("inplace"),
    "padding": same_padding,
    "epsilon": change_setting("eps"),
    "stride": change_setting("stride"),
    "dilation": change_setting("dilation"),
    "padding-setting": change_setting("padding"),
    "ceil": change_setting("ceil_mode"),
    "count-padding": change_setting("count_include_pad"),
    "slope": change_setting("negative_slope"),
    "whole-groups": whole_groups,
    "projected": add_projection,
    "unprojected": replace_projection,
    "one-slice": one_slice,
    "interleaved-groups": interleave_groups,
    "batch-statistics": use_batch_statistics,
    "bias": add_bias,
    "dropout": add_dropout,
    "relu-after": apply_after(torch.relu),
    "softmax-after": apply_after(lambda y: torch.softmax(y, 1)),
    "sigmoid-after": apply_after(torch.sigmoid),
    "reversed-after": apply_after(lambda y: y.flip(1)),
    "turned-after": apply_after(lambda y: y.transpose(2, 3)),
    "rolled-after": apply_after(lambda y: y.roll(1, 2)),
    "squeezed-after": apply_after(lambda y: y.sign() * y.abs() ** 1.01),
    "tf32-before": lambda module, call, change: wrap(module, before=round_to_tf32),
    "reversed-before": lambda module, call, change: wrap(module, before=lambda x: x.flip(1)),
    "gelu-tanh": lambda module, call, change: set_attribute(module, "approximate", "tanh"),
    "identity": replace_by(lambda x: x),
    "silu": replace_by(functional.silu),
    "leaky": replace_by(lambda x: functional.leaky_relu(x, 0.01)),
}
