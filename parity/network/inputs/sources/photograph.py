"""One photograph, cropped as torchvision and timm crop ImageNet's, and preprocessed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from parity.errors import InputError
from parity.network.inputs import preprocessing
from parity.network.inputs._input import Array, Input, Shape, check_input_size, make_input
from parity.network.inputs.picture import MAX_PIXELS, SUFFIXES, decode
from parity.network.inputs.preprocessing import Preprocessing

NAME = "photo"

AS_STATED = "as the model states"
"""How the report calls a preprocessing that no name was given for."""

TAKES_PREPROCESSING = True


def accepts(source: Any) -> bool:
    """Return whether `source` is None, the default photograph, or names a picture."""
    if source is None:
        return True
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def load(
    source: Any,
    shape: Shape,
    *,
    batch: int | None,
    seed: int,
    preprocess: str | Preprocessing = preprocessing.DEFAULT,
) -> Input:
    """Return the photograph's centre crop, then `batch` - 1 seeded random crops of it."""
    path = _default_photograph() if source is None else Path(source)
    check_input_size((batch or 1, *shape))
    array = read_photograph(path, shape, batch or 1, seed, preprocess)
    return make_input(NAME, array, describe(path.name, preprocess))


def describe(name: str, preprocess: str | Preprocessing) -> str:
    """Return the source of an input for the report, with a preprocessing that was asked for."""
    if isinstance(preprocess, Preprocessing):
        return f"{name} ({AS_STATED})"
    return name if preprocess == preprocessing.DEFAULT else f"{name} ({preprocess})"


def _default_photograph() -> Path:
    # Importing Matplotlib takes half a second; its folder is all that is needed.
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise InputError("the default photograph is Matplotlib's: install matplotlib or give one")
    return Path(found.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


def read_photograph(
    path: Path,
    shape: Shape,
    batch: int,
    seed: int,
    preprocess: str | Preprocessing = preprocessing.DEFAULT,
) -> Array:
    """Return `batch` crops of one picture, (batch, C, H, W), the centre crop first."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(
            f"{path.name}: a photograph has 1 or 3 channels, the model takes {channels}: give "
            f"--input random or an .npy file of shape (N, {channels}, {height}, {width})"
        )
    picture = decode(path, "RGB" if channels == 3 else "L", upright=True)
    chosen = preprocessing.find(preprocess)
    if chosen.crop is None:
        crops = [picture.resize((width, height), Image.Resampling.BILINEAR)]
    else:
        crops = [_centre_crop(picture, height, width, chosen.crop, name=path.name)]
    random = np.random.default_rng(seed)
    crops += [_random_crop(picture, height, width, random) for _ in range(batch - 1)]
    pixels = np.stack([np.asarray(crop).reshape(height, width, channels) for crop in crops])
    scaled = chosen.apply(pixels)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _centre_crop(
    picture: Image.Image, height: int, width: int, share: float, *, name: str
) -> Image.Image:
    """Resize so that the crop is `share` of the picture, and cut its centre, as torchvision."""
    covered = round(width / share), round(height / share)
    scale = max(covered[0] / picture.width, covered[1] / picture.height)
    # The side that decides has its length exactly; torchvision cuts the other one's fraction off.
    size = [max(need, int(side * scale)) for need, side in zip(covered, picture.size, strict=True)]
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{name}: {picture.width}×{picture.height} is too long and thin: crop it")
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    resized = picture.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + width, top + height))


def _random_crop(
    picture: Image.Image, height: int, width: int, random: np.random.Generator
) -> Image.Image:
    """Cut a window of the crop's proportions, 60 to 100 % of what fits; mirrored half the time."""
    fitting = min(picture.width / width, picture.height / height)
    scale = fitting * random.uniform(0.6, 1)
    size = width * scale, height * scale
    left = random.uniform(0, 1) * max(0.0, picture.width - size[0])
    top = random.uniform(0, 1) * max(0.0, picture.height - size[1])
    box = (left, top, min(left + size[0], picture.width), min(top + size[1], picture.height))
    crop = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return ImageOps.mirror(crop) if random.random() < 0.5 else crop
