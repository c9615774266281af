"""What is done to a photograph's pixels before a model sees them: `--preprocess`.

The centre crop is the same for all: the picture is resized so that the crop is 224/256 of it. Then
each pixel, 0 to 255, is divided, shifted and scaled, with its channels in the model's order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.errors import UsageError
from parity.text import suggest

DEFAULT = "imagenet"

ZOO = "keras:"
"""The prefix of a model of keras.applications, whose `preprocess_input` is meant."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """(pixel / `divisor` - `mean`) / `deviation`, by channel; `reverse`: B, G, R."""

    divisor: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reverse: bool = False

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


def find(name: str) -> Preprocessing:
    """Return a preprocessing by its name: imagenet, scale, none, or keras:MODEL.

    Raises `UsageError` for an unknown one.
    """
    if name in _NAMED:
        return _NAMED[name]
    known = [*_NAMED, *(f"{ZOO}{module}" for module in _OF_KERAS)]
    if name.startswith(ZOO):
        module = _find_module(name.removeprefix(ZOO))
        if module is not None:
            return _OF_KERAS[module]
    remedy = suggest(name, known, otherwise=f"known: {', '.join(known)}")
    raise UsageError(f"--preprocess: unknown '{name}'{remedy}")


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
