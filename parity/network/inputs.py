"""What is fed to the models: photographs, folders, arrays, seeded noise, the calibration batch.

Every input is one float32 array (N, C, H, W), preprocessed once, so that no two subjects can differ
by how they read a picture.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import math
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from parity.errors import InputError

Array = NDArray[np.float32]
Shape = tuple[int, int, int]
"""What the model takes, without the batch axis: (C, H, W)."""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_PIXELS = 100_000_000
MAX_BYTES = 4 * 2**30
MAX_FOLDER = 256
PASS = 16
"""How many photographs of a folder are compared at a time, at most."""

# ImageNet's, as torchvision and timm use them: mean and standard deviation of R, G, B in [0, 1],
# and the share of the resized picture that the centre crop keeps.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
CROP_SHARE = 224 / 256

# Pillow converts these to 8-bit RGB or grey as one expects; it would clip 16-bit pixels.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# Whatever damaged files make Pillow's decoders, and NumPy's readers of arrays, raise.
_DECODING = (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, struct.error)
_READING = (ValueError, EOFError, OverflowError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Input:
    """One batch, (N, C, H, W) in C order, and where it came from."""

    kind: Literal["photo", "folder", "array", "random"]
    array: Array
    sha256: str
    source: str

    def to_json(self) -> dict[str, Any]:
        """Plain data for the report: everything but the numbers."""
        shape = list(self.array.shape)
        return {"kind": self.kind, "shape": shape, "sha256": self.sha256, "source": self.source}


def load(
    source: str | Path | Array | None, shape: Shape, *, batch: int | None = None, seed: int = 0
) -> Input:
    """Make the input for a model that takes `shape`, (C, H, W).

    `source` is a photograph, a folder of them, an .npy or .npz file or an array of float32, used
    as it is; `"random"`, seeded unit noise; or None, the photograph in Matplotlib's sample data.
    `batch` is how many items to take (a folder and an array have their own number, 1 elsewhere).
    A photograph taken several times is its centre crop, then seeded random crops, half of them
    mirrored. Raises `InputError`.
    """
    if batch is not None and batch < 1:
        raise InputError(f"the batch must be at least 1, found {batch}")
    if isinstance(source, np.ndarray):
        return _input("array", _array(source, shape, batch, where="array"), "array in memory")
    if source == "random":
        full = (batch or 1, *shape)
        _require_room(full)
        noise = np.random.default_rng(seed).standard_normal(full, np.float32)
        return _input("random", noise, f"unit noise, seed {seed}")
    path = _default_photo() if source is None else Path(source)
    if path.is_dir():
        return _input("folder", _folder(path, shape, batch), path.resolve().name)
    if path.suffix.lower() in (".npy", ".npz"):
        return _input("array", _read_array(path, shape, batch), path.name)
    _require_room((batch or 1, *shape))
    return _input("photo", _photo(path, shape, batch or 1, seed), path.name)


def stress(shape: Shape) -> dict[str, Array]:
    """Inputs that ordinary pictures do not resemble, (1, C, H, W) each, by name.

    Zeros leave only biases; an impulse shows each kernel's place, a checkerboard the highest
    frequency; large and negative values reach what saturates or clips.
    """
    channels, height, width = shape
    board = np.indices((height, width)).sum(axis=0) % 2
    ramp = np.linspace(-1.0, 1.0, height * width).reshape(height, width)
    impulse = np.zeros((height, width))
    impulse[height // 2, width // 2] = 1.0
    planes = {
        "zeros": np.zeros((height, width)),
        "ones": np.ones((height, width)),
        "large": 1e4 * ramp,
        "negative": -1.0 - np.abs(ramp),
        "impulse": impulse,
        "checkerboard": 2.0 * board - 1.0,
    }
    return {
        name: np.ascontiguousarray(np.broadcast_to(plane, (1, channels, height, width)), np.float32)
        for name, plane in planes.items()
    }


def passes(count: int) -> list[slice]:
    """The items of each pass over `count` of them: as few passes as can be, of one size.

    A last pass of two items would have few numbers, which are right, or wrong, by luck.
    """
    number = -(-count // PASS)
    ends = [count * index // number for index in range(number + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def calibration_batch(shape: Shape, *, seed: int) -> NDArray[np.float64]:
    """Seeded pink noise, (N, C, H, W), unit variance a channel: what batch-norm is calibrated on.

    Its amplitude falls as 1/f, as that of natural images does (Field, "Relations between the
    statistics of natural images and the response properties of cortical cells", 1987). N, between
    2 and 8, leaves some 64 positions a channel at a stride of 32. Values are multiples of 2⁻¹², so
    another build of NumPy, whose transforms round otherwise, makes the same batch.
    """
    channels, height, width = shape
    positions = max(1, height // 32) * max(1, width // 32)
    count = min(8, max(2, -(-64 // positions)))
    white = np.random.default_rng(seed).standard_normal((count, channels, height, width))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    # The mean of an image varies as much as its lowest frequency does.
    frequency[0, 0] = 1 / max(height, width)
    pink = np.fft.irfft2(np.fft.rfft2(white) / frequency, s=(height, width))
    pink -= pink.mean(axis=(0, 2, 3), keepdims=True)
    pink /= pink.std(axis=(0, 2, 3), keepdims=True)
    return np.asarray(np.rint(pink * 4096) / 4096, dtype=np.float64)


def _input(kind: Literal["photo", "folder", "array", "random"], array: Array, source: str) -> Input:
    array = np.ascontiguousarray(array)
    checksum = hashlib.sha256(repr(array.shape).encode())
    checksum.update(array.data)
    return Input(kind, array, checksum.hexdigest(), source)


def _require_room(shape: tuple[int, ...]) -> None:
    if (size := 4 * math.prod(shape)) > MAX_BYTES:
        raise InputError(
            f"an input of {shape} takes {size / 2**30:.1f} GiB, at most {MAX_BYTES >> 30} GiB are "
            "held: lower --batch"
        )


def _default_photo() -> Path:
    # Importing Matplotlib takes half a second; its folder is all that is needed.
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise InputError("the default photograph is Matplotlib's: install matplotlib or give one")
    return Path(found.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


def _folder(folder: Path, shape: Shape, batch: int | None) -> Array:
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error
    if not paths:
        raise InputError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    if batch is not None and batch > len(paths):
        raise InputError(f"{folder}: holds {len(paths)} images, fewer than the batch of {batch}")
    if batch is None and len(paths) > MAX_FOLDER:
        raise InputError(
            f"{folder}: holds {len(paths)} images, more than {MAX_FOLDER}: say with --batch how "
            "many of the first to take"
        )
    paths = paths[:batch]
    _require_room((len(paths), *shape))
    return np.concatenate([_photo(path, shape, 1, 0) for path in paths])


def _photo(path: Path, shape: Shape, batch: int, seed: int) -> Array:
    """Decode and preprocess one picture: (batch, C, H, W), the centre crop first."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(
            f"{path.name}: a photograph has 1 or 3 channels, the model takes {channels}: give "
            f"--input random or an .npy file of shape (N, {channels}, {height}, {width})"
        )
    picture = _decode(path, "RGB" if channels == 3 else "L")
    crops = [_centre_crop(picture, height, width, name=path.name)]
    random = np.random.default_rng(seed)
    crops += [_random_crop(picture, height, width, random) for _ in range(batch - 1)]
    pixels = np.stack([np.asarray(crop).reshape(height, width, channels) for crop in crops])
    mean = np.array(MEAN if channels == 3 else np.mean(MEAN), np.float32)
    deviation = np.array(DEVIATION if channels == 3 else np.mean(DEVIATION), np.float32)
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / deviation
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _decode(path: Path, mode: Literal["RGB", "L"]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a picture of up to twice its limit; ours is stricter.
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                _require_decodable(picture, path)
                return ImageOps.exif_transpose(picture).convert(mode)
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: is no image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except _DECODING as error:
        reason = getattr(error, "strerror", None)
        if reason:
            raise InputError(f"{path}: cannot be read: {reason}") from error
        text = " ".join(str(error).split())
        raise InputError(f"{path}: the image is damaged or truncated: {text}") from error


def _require_decodable(picture: Image.Image, path: Path) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(
            f"{path}: {picture.width}×{picture.height} are more than {MAX_PIXELS:,} pixels: make "
            "it smaller"
        )
    if picture.mode not in _MODES:
        raise InputError(f"{path}: pixels of mode {picture.mode!r}: save it with 8 bits a channel")


def _centre_crop(picture: Image.Image, height: int, width: int, *, name: str) -> Image.Image:
    """Resize so that the picture covers 256/224 of the crop, and cut its centre, as torchvision."""
    covered = round(width / CROP_SHARE), round(height / CROP_SHARE)
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


def _read_array(path: Path, shape: Shape, batch: int | None) -> Array:
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                return _array(_read_member(archive, path, shape), shape, batch, where=str(path))
        with path.open("rb") as file:
            _require_array(*_npy_header(file), shape, where=str(path))
        # Mapped, so that a header that claims more than the file holds cannot claim memory.
        mapped = np.lib.format.open_memmap(path, mode="r")
        return _array(mapped, shape, batch, where=str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _READING as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path}: is no sound {path.suffix} file: {text}") from error


def _read_member(archive: zipfile.ZipFile, path: Path, shape: Shape) -> NDArray[Any]:
    members = archive.infolist()
    if len(members) != 1:
        names = ", ".join(member.filename.removesuffix(".npy") for member in members[:5])
        raise InputError(f"{path}: expected one array, found {len(members)} ({names})")
    if members[0].file_size > MAX_BYTES:
        raise InputError(f"{path}: holds {members[0].file_size >> 30} GiB: save fewer items")
    with archive.open(members[0]) as member:
        found, dtype = _npy_header(member)
        _require_array(found, dtype, shape, where=str(path))
        if math.prod(found) * dtype.itemsize > members[0].file_size:
            raise InputError(f"{path}: {members[0].filename} is shorter than its header says")
    with archive.open(members[0]) as member:
        return np.asarray(np.lib.format.read_array(member, allow_pickle=False))


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version >= (2, 0):
        read = np.lib.format.read_array_header_2_0
    found, _, dtype = read(file)
    return found, dtype


def _array(array: NDArray[Any], shape: Shape, batch: int | None, *, where: str) -> Array:
    """The first `batch` items of a checked array, (N, C, H, W); a single item may lack its N."""
    _require_array(array.shape, array.dtype, shape, where=where)
    items = array[None] if array.ndim == 3 else array
    if batch is not None and batch > len(items):
        raise InputError(f"{where}: holds {len(items)} items, fewer than the batch of {batch}")
    items = items[:batch]
    _require_room(items.shape)
    items = np.array(items, np.float32, order="C")
    if not np.isfinite(items).all():
        first = tuple(map(int, np.argwhere(~np.isfinite(items))[0]))
        raise InputError(f"{where}: NaN or Inf, first {items[first]} at {first}")
    return items


def _require_array(
    found: tuple[int, ...], dtype: np.dtype[Any], shape: Shape, *, where: str
) -> None:
    if dtype.hasobject:
        raise InputError(f"{where}: holds pickled objects, which are not read: save float32")
    if dtype.kind != "f" or dtype.itemsize != 4:
        raise InputError(
            f"{where}: expected float32, found {dtype}: convert it, so that every subject is given "
            "the same numbers"
        )
    if found[-3:] == shape and len(found) in (3, 4) and (len(found) == 3 or found[0] > 0):
        return
    channels, height, width = shape
    hint = ""
    if found[-3:] == (height, width, channels) and len(found) == 4:
        hint = "; channels are last: array.transpose(0, 3, 1, 2)"
    raise InputError(f"{where}: expected (N, {channels}, {height}, {width}), found {found}{hint}")
