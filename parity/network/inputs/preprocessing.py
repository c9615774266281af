"""What is done to a photograph's pixels before a model sees them: `--preprocess`.

The picture is resized so that the centre crop is 224/256 of it, for all that have a name; a model
that was trained here takes the whole picture. Then each pixel, 0 to 255, is divided, shifted and
scaled, with its channels in the model's order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.errors import UsageError
from parity.text import suggest

DEFAULT = "imagenet"

# The share of the resized picture that the centre crop keeps, as torchvision's and timm's.
CROP_SHARE = 224 / 256

ZOO = "keras:"
"""The prefix of a model of keras.applications, whose `preprocess_input` is meant."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """(pixel / `divisor` - `mean`) / `deviation`, by channel; `reverse`: B, G, R.

    `crop` is the share of the resized picture that the centre crop keeps; None: the whole picture
    is resized to the model's size, whatever its proportions.
    """

    divisor: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reverse: bool = False
    crop: float | None = CROP_SHARE

    def to_json(self) -> dict[str, Any]:
        """Return it as the metadata of an ONNX file states it."""
        return {
            "crop": self.crop,
            "divisor": self.divisor,
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "channels": "BGR" if self.reverse else "RGB",
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the one that `to_json` describes.

        Raises ValueError, KeyError or TypeError for other data.
        """
        crop, channels = data["crop"], data["channels"]
        red, green, blue = map(float, data["mean"])
        deviation = tuple(map(float, data["deviation"]))
        divisor = float(data["divisor"])
        if channels not in ("RGB", "BGR"):
            raise ValueError(f"channels are RGB or BGR, found {channels!r}")
        # As float32, in which they are used.
        factors = [float(np.float32(each)) for each in (*deviation, divisor)]
        if len(deviation) != 3 or not all(0 < each < math.inf for each in factors):
            raise ValueError("the divisor and three deviations are above 0")
        if not all(math.isfinite(np.float32(each)) for each in (red, green, blue)):
            raise ValueError("the mean has three finite numbers")
        if crop is not None and not 0 < float(crop) <= 1:
            raise ValueError(f"the crop is a share of 1, found {crop!r}")
        return cls(
            divisor,
            (red, green, blue),
            (deviation[0], deviation[1], deviation[2]),
            channels == "BGR",
            None if crop is None else float(crop),
        )

    def describe(self) -> str:
        """Return it for a note: the crop, the order of the channels, the formula."""
        crop = "the whole picture"
        if self.crop is not None:
            crop = f"a centre crop of {self.crop:.4g} of the resized picture"
        mean, deviation = (
            "/".join(f"{each:g}" for each in dict.fromkeys(values))
            for values in (self.mean, self.deviation)
        )
        scaled = "x" if self.divisor == 1 else f"x/{self.divisor:g}"
        shifted = scaled if not any(self.mean) else f"{scaled} - {mean}"
        formula = shifted if set(self.deviation) == {1.0} else f"({shifted})/({deviation})"
        return f"{crop}, {'BGR' if self.reverse else 'RGB'}, {formula}"

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return pixels (N, H, W, C) of 0 to 255 as a model takes them, in the same axes.

        C is 3, or 1 for grey, which gets the mean of the channels' figures.
        """
        grey = pixels.shape[-1] == 1
        mean = np.array(np.mean(self.mean) if grey else self.mean, np.float32)
        deviation = np.array(np.mean(self.deviation) if grey else self.deviation, np.float32)
        ordered = pixels[..., ::-1] if self.reverse else pixels
        scaled = (ordered.astype(np.float32) / np.float32(self.divisor) - mean) / deviation
        return np.asarray(scaled, np.float32)


# ImageNet's mean and standard deviation of R, G, B in [0, 1], as torchvision and timm use them.
IMAGENET = Preprocessing(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NONE = Preprocessing()
# The three modes of keras.applications.imagenet_utils; its means for "caffe" are of B, G, R.
_CAFFE = Preprocessing(mean=(103.939, 116.779, 123.68), reverse=True)
_TF = Preprocessing(127.5, (1.0, 1.0, 1.0))

_NAMED: Mapping[str, Preprocessing] = {
    DEFAULT: IMAGENET,
    "scale": Preprocessing(255.0),
    "none": _NONE,
}

# By module of keras.applications. Models that preprocess inside take the pixels as they are.
_OF_KERAS: Mapping[str, Preprocessing] = {
    name: preprocessing
    for names, preprocessing in (
        ("resnet vgg16 vgg19", _CAFFE),
        ("inception_resnet_v2 inception_v3 mobilenet mobilenet_v2 nasnet resnet_v2 xception", _TF),
        ("densenet", IMAGENET),
        ("convnext efficientnet efficientnet_v2 mobilenet_v3", _NONE),
    )
    for name in names.split()
}


def find(name: str | Preprocessing) -> Preprocessing:
    """Return a preprocessing by its name: imagenet, scale, none, or keras:MODEL; one is itself.

    Raises `UsageError` for an unknown one.
    """
    if isinstance(name, Preprocessing):
        return name
    if name in _NAMED:
        return _NAMED[name]
    known = [*_NAMED, *(f"{ZOO}{module}" for module in _OF_KERAS)]
    if name.startswith(ZOO):
        module = _find_module(name.removeprefix(ZOO))
        if module is not None:
            return _OF_KERAS[module]
    remedy = suggest(name, known, otherwise=f"known: {', '.join(known)}")
    raise UsageError(f"--preprocess: unknown '{name}'{remedy}")


def find_zoo_model(name: str) -> Preprocessing | None:
    """Return the preprocessing of a model of keras.applications, `keras:NAME`; None of another."""
    module = _find_module(name.removeprefix(ZOO).partition(",")[0])
    return None if module is None or not name.startswith(ZOO) else _OF_KERAS[module]


def _find_module(model: str) -> str | None:
    """Return the module of keras.applications that a model, such as ResNet50V2, belongs to."""
    plain = model.lower().replace("_", "")
    names = {module.replace("_", ""): module for module in _OF_KERAS}
    if re.fullmatch(r"resnet\d*v2", plain):
        return "resnet_v2"
    # The longest name that begins it: efficientnetv2b0 is no efficientnet.
    for short in sorted(names, key=len, reverse=True):
        if plain.startswith(short):
            return names[short]
    return None
