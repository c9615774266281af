"""A package of ten releases with one planted change, as wheels that are written here."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "netpkg"
VERSIONS = tuple(f"0.{number}" for number in range(1, 11))

SOURCE = '''"""A small network, release {version}."""

import torch
from torch import nn
from torch.nn import functional as F

__version__ = "{version}"


class Block(nn.Module):
    def __init__(self, width, dilation=1, eps=1e-5, slope=0.1):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=eps)
        self.act = nn.LeakyReLU(slope)

    def forward(self, x):
        return self.act(self.norm(self.conv(x)) + x)


class Net(nn.Module):
    """Two blocks, a pool, a normalised head; {note}."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, padding_mode="zeros")
        self.stem_act = nn.ReLU()
        self.body1 = Block(16, dilation=1, eps=1e-5, slope=0.1)
        self.body2 = Block(16, dilation=1, eps=1.0e-5, slope=0.10)
        self.down = nn.AvgPool2d(3, 2, padding=1, count_include_pad=True)
        self.groups = nn.GroupNorm(4, 16, eps=1e-5)
        self.wide = nn.Conv2d(16, 32, 1)
        self.wide_act = nn.GELU(approximate="none")
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.mix = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.mix_act = nn.ELU(alpha=1.0)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.LayerNorm(32, eps=1e-5)
        self.hidden = nn.Linear(32, 24)
        self.gate = nn.SiLU()
        self.head = nn.Linear(24, 10)
        self.reset()

    @torch.no_grad()
    def reset(self):
        generator = torch.Generator().manual_seed(0)
        for name, tensor in self.state_dict().items():
            if tensor.ndim > 1:
                size = tensor[0].numel()
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / size**0.5)
            elif tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
                if name.endswith(("bias", "mean")):
                    tensor.sub_(1.0)
        # nothing is changed afterwards

    def forward(self, x):
        x = self.stem_act(self.stem(x))
        x = self.body2(self.body1(x))
        x = self.groups(self.down(x))
        x = self.wide_act(self.wide(x))
        x = self.mix_act(self.mix(self.up(x)))
        x = self.norm(self.pool(x).flatten(1))
        return self.head(self.gate(self.hidden(x)))
'''

NETWORK = f'''"""A network of the package {PACKAGE}, as its user calls it."""

import torch
import {PACKAGE}


def build():
    generator = torch.Generator().manual_seed(1)
    return {PACKAGE}.Net(), torch.rand(2, 3, 32, 32, generator=generator)
'''


@dataclass(frozen=True)
class Plant:
    """A change of the source, the layer that it is in, and a word that its cause must have."""

    name: str
    old: str
    new: str
    layer: str
    word: str


def _scale(layer: str, parameter: str, factor: float) -> tuple[str, str]:
    line = "        # nothing is changed afterwards\n"
    return line, f"        self.{layer}.{parameter}.mul_({factor})\n"


PLANTS = (
    Plant("epsilon of the first norm", "eps=1e-5, slope=0.1)\n        self.body2",
          "eps=1e-2, slope=0.1)\n        self.body2", "body1.norm", "psilon"),
    Plant("epsilon of the second norm", "eps=1.0e-5", "eps=1e-3", "body2.norm", "psilon"),
    Plant("epsilon of the group norm", "GroupNorm(4, 16, eps=1e-5)", "GroupNorm(4, 16, eps=1e-2)",
          "groups", "psilon"),
    Plant("epsilon of the layer norm", "LayerNorm(32, eps=1e-5)", "LayerNorm(32, eps=1e-3)",
          "norm", "psilon"),
    Plant("groups of the group norm", "GroupNorm(4, 16", "GroupNorm(2, 16", "groups", "group"),
    Plant("slope of the first block", "eps=1e-5, slope=0.1)\n        self.body2",
          "eps=1e-5, slope=0.2)\n        self.body2", "body1.act", "0.2"),
    Plant("slope of the second block", "slope=0.10", "slope=0.01", "body2.act", "0.01"),
    Plant("dilation of the first block", "Block(16, dilation=1, eps=1e-5",
          "Block(16, dilation=2, eps=1e-5", "body1.conv", "dilation"),
    Plant("dilation of the second block", "Block(16, dilation=1, eps=1.0e-5",
          "Block(16, dilation=2, eps=1.0e-5", "body2.conv", "dilation"),
    Plant("padding of the stem", 'padding_mode="zeros"', 'padding_mode="reflect"', "stem", "pad"),
    Plant("padding of the pool", "count_include_pad=True", "count_include_pad=False", "down",
          "pad"),
    Plant("kind of the pool", "nn.AvgPool2d(3, 2, padding=1, count_include_pad=True)",
          "nn.MaxPool2d(3, 2, padding=1)", "down", "max"),
    Plant("form of GELU", 'approximate="none"', 'approximate="tanh"', "wide_act", "tanh"),
    Plant("activation of the stem", "self.stem_act = nn.ReLU()", "self.stem_act = nn.GELU()",
          "stem_act", "elu"),
    Plant("alpha of ELU", "alpha=1.0", "alpha=0.5", "mix_act", "0.5"),
    Plant("activation of the head", "nn.SiLU()", "nn.ReLU()", "gate", "elu"),
    Plant("corners of the resize", "align_corners=False", "align_corners=True", "up", "corner"),
    Plant("weights of the stem", *_scale("stem", "weight", 1.01), "stem", "weight"),
    Plant("weights of the second block", *_scale("body2.conv", "weight", 1.01), "body2.conv",
          "weight"),
    Plant("bias of the head", *_scale("head", "bias", 1.05), "head", "bias"),
)  # fmt: skip
"""Twenty changes, each in one layer."""


def write_source(version: str, plant: Plant, first_bad: str) -> str:
    """Return the module of a release; from `first_bad` on it has the change."""
    number = VERSIONS.index(version)
    # Each release changes something that no result depends on.
    text = SOURCE.replace("{version}", version).replace("{note}", f"note {number}")
    if number >= VERSIONS.index(first_bad):
        assert text.count(plant.old) == 1, plant.name
        text = text.replace(plant.old, plant.new)
    return text


def write_wheel(folder: Path, version: str, source: str) -> Path:
    """Write a pure-Python wheel of one module; return its path."""
    info = f"{PACKAGE}-{version}.dist-info"
    contents = {
        f"{PACKAGE}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n",
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = []
    for name, text in contents.items():
        digest = hashlib.sha256(text.encode()).digest()
        encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        record.append(f"{name},sha256={encoded},{len(text.encode())}")
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{PACKAGE}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in contents.items():
            wheel.writestr(name, text)
    return path


def write_releases(folder: Path, plant: Plant, first_bad: str) -> Path:
    """Write all releases and the user's file; return the file."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    for version in VERSIONS:
        write_wheel(wheels, version, write_source(version, plant, first_bad))
    network = folder / "network.py"
    network.write_text(NETWORK)
    return network
