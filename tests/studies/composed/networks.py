"""Random networks of ten families, as operations and as the PyTorch source that computes them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

FAMILIES = (
    "plain", "residual", "bottleneck", "depthwise", "dense", "squeeze_excite", "inception",
    "u_net", "convnext", "transformer", "recurrent", "bidirectional",
)  # fmt: skip

ACTIVATIONS = ("relu", "relu6", "silu", "gelu", "leaky_relu", "elu", "hardswish", "tanh", "mish")

HEADER = """import math
import zlib

import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
"""


INITIALISE = """def initialise(model):
    # Each array has a generator of its own name, so that a network without it has the others.
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(
            zlib.crc32(name.encode())))
        if name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif value.ndim > 1 and value.shape[-1] * value.shape[1] > 1:
            value.copy_(noise * (2.0 / value[0].numel()) ** 0.5)
        elif name.endswith("weight") or name.startswith("layer_scale"):
            value.copy_(1.0 + 0.2 * noise)
        elif value.ndim == 1:
            value.copy_(0.2 * noise)
    return model
"""


@dataclass(frozen=True)
class Op:
    """One operation: `out = kind(*inputs)`; `name` is the attribute of a layer with weights.

    `code` and `made`, if any, are written in place of the usual call and constructor.
    """

    kind: str
    out: str
    inputs: tuple[str, ...]
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    made: str = ""

    def with_settings(self, **settings: Any) -> Op:
        return replace(self, settings={**self.settings, **settings})


@dataclass(frozen=True)
class Network:
    """A family's network of one seed; `shape` is that of its example input."""

    family: str
    seed: int
    ops: tuple[Op, ...]
    shape: tuple[int, ...]
    tokens: int = 0
    """The number of ids of the input, 0 for an input of numbers."""

    def replace_op(self, index: int, *ops: Op) -> Network:
        return replace(self, ops=(*self.ops[:index], *ops, *self.ops[index + 1 :]))

    def render(self) -> str:
        """Return the source of a file whose `net()` returns the model and its example input."""
        lines = [HEADER.rstrip()]
        for op in self.ops:
            if op.name:
                lines.append(f"        self.{op.name} = {op.made or make(op)}")
        lines += ["", "    def forward(self, x):"]
        lines += [f"        {op.out} = {op.code or call(op)}" for op in self.ops]
        lines += [
            f"        return {self.ops[-1].out}",
            "",
            "",
            "def net():",
            "    torch.manual_seed(0)",
        ]
        if self.tokens:
            lines.append(f"    x = torch.randint(0, {self.tokens}, {self.shape})")
        else:
            lines.append(f"    x = torch.randn({self.shape})")
        return "\n".join([*lines, "    return initialise(Net()), x", "", "", INITIALISE])

    def line_of(self, index: int) -> int:
        """Return the line, from 1, on which an operation is called."""
        layers = sum(bool(op.name) for op in self.ops)
        return HEADER.count("\n") + layers + 2 + index + 1


def make(op: Op) -> str:
    """Return the constructor of a layer with weights."""
    s = dict(op.settings)
    if op.kind == "conv":
        sizes = f"{s.pop('ins')}, {s.pop('outs')}, {s.pop('kernel')}"
        return f"nn.Conv2d({sizes}{_keywords(s)})"
    if op.kind == "linear":
        return f"nn.Linear({s.pop('ins')}, {s.pop('outs')}{_keywords(s)})"
    if op.kind == "batch_norm":
        return f"nn.BatchNorm2d({s.pop('width')}{_keywords(s)})"
    if op.kind == "layer_norm":
        return f"nn.LayerNorm({s.pop('width')}{_keywords(s)})"
    if op.kind == "group_norm":
        return f"nn.GroupNorm({s.pop('groups')}, {s.pop('width')}{_keywords(s)})"
    if op.kind == "layer_scale":
        return f"nn.Parameter(torch.full(({s['width']}, 1, 1), 0.5))"
    if op.kind == "embedding":
        return f"nn.Embedding({s['count']}, {s['width']})"
    if op.kind == "attention":
        return f"nn.MultiheadAttention({s['width']}, {s['heads']}, batch_first=True)"
    if op.kind in ("lstm", "gru"):
        both = ", bidirectional=True" if s.get("both") else ""
        return f"nn.{op.kind.upper()}({s['width']}, {s['units']}, batch_first=True{both})"
    raise ValueError(op.kind)


def call(op: Op) -> str:
    """Return the expression of an operation."""
    first, s = op.inputs[0], op.settings
    if op.kind in ("lstm", "gru"):
        return f"self.{op.name}({first})[0]"
    if op.kind == "attention":
        return f"self.{op.name}({first}, {first}, {first}, need_weights=False)[0]"
    if op.kind == "layer_scale":
        return f"{first} * self.{op.name}"
    if op.name:
        return f"self.{op.name}({first})"
    simple: Mapping[str, Callable[[], str]] = {
        "max_pool": lambda: (
            f"functional.max_pool2d({first}, {s['kernel']}{_keywords(s, 'kernel')})"
        ),
        "avg_pool": lambda: (
            f"functional.avg_pool2d({first}, {s['kernel']}{_keywords(s, 'kernel')})"
        ),
        "mean": lambda: f"{first}.mean({s['axes']})",
        "mean_keep": lambda: f"{first}.mean((2, 3), keepdim=True)",
        "add": lambda: f"{first} + {op.inputs[1]}",
        "multiply": lambda: f"{first} * {op.inputs[1]}",
        "concat": lambda: f"torch.cat([{', '.join(op.inputs)}], dim={s.get('axis', 1)})",
        "upsample": lambda: f"functional.interpolate({first}{_keywords(s)})",
        "factor": lambda: f"{first} * {s['value']}",
        "alias": lambda: first,
        "last": lambda: f"{first}[:, -1]",
        "sigmoid": lambda: f"torch.sigmoid({first})",
    }
    if op.kind in simple:
        return simple[op.kind]()
    return f"functional.{op.kind}({first}{_keywords(s)})"


def _keywords(settings: Mapping[str, Any], *left: str) -> str:
    return "".join(f", {name}={value!r}" for name, value in settings.items() if name not in left)


class _Builder:
    def __init__(self, rng: random.Random) -> None:
        self.rng, self.ops, self.counts = rng, list[Op](), dict[str, int]()

    def add(self, kind: str, inputs: Sequence[str], out: str = "x", *, layer: bool = False,
            **settings: Any) -> str:  # fmt: skip
        name = ""
        if layer:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            name = f"{kind}{self.counts[kind]}"
        self.ops.append(Op(kind, out, tuple(inputs), name, settings))
        return out

    def conv(self, ins: int, outs: int, kernel: int = 3, out: str = "x", of: str = "x",
             **settings: Any) -> None:  # fmt: skip
        if kernel > 1 and "padding" not in settings:
            settings["padding"] = kernel // 2
        self.add("conv", [of], out, layer=True, ins=ins, outs=outs, kernel=kernel, **settings)

    def norm(self, width: int, of: str = "x") -> None:
        if self.rng.random() < 0.75:
            self.add("batch_norm", [of], of, layer=True, width=width, eps=1e-5)
        else:
            self.add("group_norm", [of], of, layer=True, groups=4, width=width, eps=1e-5)

    def act(self, of: str = "x") -> None:
        kind = self.rng.choice(ACTIVATIONS)
        settings = {"negative_slope": 0.1} if kind == "leaky_relu" else {}
        self.add(kind, [of], of, **settings)


def build(family: str, seed: int) -> Network:
    """Return a network of a family; the same for the same seed."""
    rng = random.Random(f"{family}{seed}")
    b = _Builder(rng)
    if family in ("transformer", "recurrent", "bidirectional"):
        return _build_sequence(b, family, seed)
    width = rng.choice((8, 12))
    size = 16
    b.conv(3, width, rng.choice((3, 5)), stride=rng.choice((1, 2)))
    b.norm(width)
    b.act()
    for _ in range(rng.choice((1, 2))):
        width = _add_block(b, family, width)
    if rng.random() < 0.5 and family != "u_net":
        b.add(rng.choice(("max_pool", "avg_pool")), ["x"], kernel=2)
    b.add("mean", ["x"], axes=(2, 3))
    b.add("linear", ["x"], layer=True, ins=width, outs=16)
    b.act()
    b.add("linear", ["x"], layer=True, ins=16, outs=10)
    return Network(family, seed, tuple(b.ops), (2, 3, size, size))


def _add_block(b: _Builder, family: str, width: int) -> int:
    b.add("alias", ["x"], "y")
    if family == "plain":
        b.conv(width, 16)
        b.norm(16)
        b.act()
        return 16
    if family in ("residual", "bottleneck"):
        inner = width if family == "residual" else 4
        if family == "bottleneck":
            b.conv(width, inner, 1)
            b.norm(inner)
            b.act()
        b.conv(inner, inner)
        b.norm(inner)
        b.act()
        b.conv(inner, width, 1 if family == "bottleneck" else 3)
        b.norm(width)
        b.add("add", ["x", "y"])
        b.act()
    elif family == "depthwise":
        b.conv(width, width, groups=width)
        b.norm(width)
        b.act()
        b.conv(width, width, 1)
        b.add("add", ["y", "x"])
    elif family == "dense":
        b.conv(width, 8)
        b.act()
        b.add("concat", ["y", "x"])
        return width + 8
    elif family == "squeeze_excite":
        b.conv(width, width)
        b.act()
        b.add("mean_keep", ["x"], "s")
        b.conv(width, 4, 1, "s", "s")
        b.act("s")
        b.conv(4, width, 1, "s", "s")
        b.add("sigmoid", ["s"], "s")
        b.add("multiply", ["x", "s"])
    elif family == "inception":
        b.conv(width, 8, 1, "a", "y")
        b.act("a")
        b.conv(width, 8, 3, "c", "y")
        b.act("c")
        b.add("concat", ["a", "c"])
        return 16
    elif family == "u_net":
        b.add("max_pool", ["x"], kernel=2)
        b.conv(width, width)
        b.act()
        mode = b.rng.choice(("nearest", "bilinear"))
        b.add("upsample", ["x"], scale_factor=2, mode=mode)
        b.add("concat", ["y", "x"])
        return 2 * width
    elif family == "convnext":
        b.conv(width, width, 5, groups=width)
        b.add("group_norm", ["x"], layer=True, groups=1, width=width, eps=1e-5)
        b.conv(width, 2 * width, 1)
        b.add("gelu", ["x"])
        b.conv(2 * width, width, 1)
        b.add("layer_scale", ["x"], layer=True, width=width)
        b.add("add", ["y", "x"])
    return width


def _build_sequence(b: _Builder, family: str, seed: int) -> Network:
    width = 16
    tokens = 40 if b.rng.random() < 0.5 else 0
    if tokens:
        b.add("embedding", ["x"], layer=True, count=tokens, width=width)
    else:
        b.add("linear", ["x"], layer=True, ins=6, outs=width)
    if family == "transformer":
        for _ in range(b.rng.choice((1, 2))):
            b.add("layer_norm", ["x"], "y", layer=True, width=width, eps=1e-5)
            b.add("attention", ["y"], "y", layer=True, width=width, heads=4)
            b.add("add", ["x", "y"])
            b.add("layer_norm", ["x"], "y", layer=True, width=width, eps=1e-5)
            b.add("linear", ["y"], "y", layer=True, ins=width, outs=32)
            b.add("gelu", ["y"], "y")
            b.add("linear", ["y"], "y", layer=True, ins=32, outs=width)
            b.add("add", ["x", "y"])
        b.add("mean", ["x"], axes=(1,))
    else:
        units = 12
        both = family == "bidirectional"
        b.add(b.rng.choice(("lstm", "gru")), ["x"], layer=True, width=width, units=units, both=both)
        width = 2 * units if both else units
        if b.rng.random() < 0.5:
            b.add("last", ["x"])
        else:
            b.add("mean", ["x"], axes=(1,))
    b.add("linear", ["x"], layer=True, ins=width, outs=16)
    b.act()
    b.add("linear", ["x"], layer=True, ins=16, outs=10)
    shape = (3, 7) if tokens else (3, 7, 6)
    return Network(family, seed, tuple(b.ops), shape, tokens)
