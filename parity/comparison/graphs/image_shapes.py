"""The shape of the images that a classifier takes: stated by the model, or found by trying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.comparison.graphs.inputs import DEFAULT_IMAGE, DeclaredInput, format_shape
from parity.errors import InputError, UsageError
from parity.processes.child import Child
from parity.text import one_line

OpenShape = tuple[int | None, int | None, int | None]
"""(C, H, W), None for what may have any length or is not known."""

USUAL_SIZES = (
    DEFAULT_IMAGE, 28, 32, 64, 96, 128, 48, 50, 100, 150, 160, 192, 200, 256, 299, 300, 320, 384,
    448, 512,
)  # fmt: skip
"""The sizes, in pixels, that are tried on a model that states none; the first is the default."""


@dataclass(frozen=True)
class DataImages:
    """The images that a model will be given: channels, and the size (H, W) if all have one."""

    channels: int
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class FoundShape:
    """The first of the shapes that were tried, as (C, H, W), on which a model runs.

    `is_only` is whether it runs on no other one that was tried.
    """

    shape: tuple[int, int, int]
    is_only: bool


def read_stated_shape(name: str, runtime: str, specs: Sequence[DeclaredInput]) -> OpenShape:
    """Return the (C, H, W) that a model states, None for what it leaves open.

    Raises `UsageError` for a model that does not take one batch of images.
    """
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs) or "nothing"
        raise UsageError(f"{name}: takes {names}; expected one input, the images")
    shape = specs[0].shape
    if shape is None:
        return None, None, None
    if len(shape) != 4:
        raise UsageError(f"{name}: its input is {format_shape(shape)}; expected a batch of images")
    _, *sizes = shape
    # An ONNX file has the order of the framework that it was exported from.
    is_last = sizes[2] in (1, 3) and sizes[0] not in (1, 3)
    if runtime == "keras" or (runtime == "onnx" and is_last):
        return sizes[2], sizes[0], sizes[1]
    return sizes[0], sizes[1], sizes[2]


def fill_shape(wanted: OpenShape, stated: OpenShape) -> OpenShape:
    """Return the shape that is wanted, with what a model states where nothing is wanted."""
    channels, height, width = (
        own if own is not None else other for own, other in zip(wanted, stated, strict=True)
    )
    return channels, height, width


def find_image_shape(name: str, child: Child, wanted: OpenShape, data: DataImages) -> FoundShape:
    """Return the shape of images on which the model of a child runs.

    What is open is tried: channels, those of the data first; sizes, that of the data, and the
    usual ones. A framework whose models cannot be tried takes the first. Raises `InputError` if the
    model runs on none of them, with the options to type.
    """
    channels, *size = wanted
    counts = (data.channels, 3, 1) if channels is None else (channels,)
    squares = [(usual, usual) for usual in USUAL_SIZES]
    sizes = [
        (size[0] or h, size[1] or w) for h, w in (*([data.size] if data.size else ()), *squares)
    ]
    shapes = list(dict.fromkeys((count, *each) for each in sizes for count in counts))
    answer = child.call("try_image_shapes", shapes=[list(shape) for shape in shapes], enough=2)
    if not answer["shapes"]:
        tried = format_shape(shapes[0])
        more = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        raise InputError(
            f"{name}: does not run on images of {tried}{more}: "
            f"{one_line(answer['error'], longest=300)}; --image-size and --channels change them"
        )
    first, *others = answer["shapes"]
    return FoundShape((first[0], first[1], first[2]), is_only=not others)
