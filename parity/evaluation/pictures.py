"""Pictures of an evaluation: confusion matrices, sample predictions, images whose label changes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from parity import files
from parity.errors import OutputError
from parity.evaluation import fonts
from parity.evaluation.results import ChangedImage
from parity.evaluation.scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]
"""(H, W, 1 or 3)."""

FORMATS = (".png", ".svg", ".pdf", ".jpg")

SOFTWARE = "parity"
"""What made a picture, as its metadata tell it."""

_WRITTEN_COUNTS = 20
"""The classes up to which a confusion matrix has its numbers written in."""

_COLUMNS = 5


@dataclass(frozen=True)
class SamplePrediction:
    """One image and its label in a runtime; `true` is None where it is not known."""

    pixels: Pixels
    true: str | None
    predicted: str
    probability: float


def require_format(path: Path) -> None:
    """Raise `OutputError` for a picture of a format that is not written."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: expected a name that ends in one of {', '.join(FORMATS)}")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a picture in the format of its suffix, without a date. Raises `OutputError`."""
    require_format(path)
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(render(figure, path.suffix.lower().removeprefix(".")))


def render(figure: Figure, format: str) -> bytes:
    """Return the bytes of a picture; equal pictures give equal bytes."""
    import warnings

    import matplotlib as mpl

    stream = io.BytesIO()
    formats: dict[str, dict[str, Any]] = {
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
        "png": {"Software": SOFTWARE},
    }
    metadata = formats.get(format, {})
    with mpl.rc_context({"svg.hashsalt": "parity"}), warnings.catch_warnings():
        # A missing glyph has a note of its own.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        figure.savefig(stream, format=format, dpi=100, metadata=metadata)
    return stream.getvalue()


def embed(figure: Figure) -> str:
    """Return a picture as a `data:` URL, for a page without other files."""
    return "data:image/png;base64," + base64.b64encode(render(figure, "png")).decode()


def draw_predictions(samples: Sequence[SamplePrediction]) -> Figure:
    """Draw images with true class, predicted class and probability, five a row.

    A title is green where the prediction is right, red where it is wrong, black where the true
    class is not known.
    """
    font = fonts.find_font(_texts(samples)) or fonts.DEFAULT
    figure, axes = _grid(len(samples))
    for place, sample in zip(axes, samples, strict=False):
        _show(place, sample.pixels)
        lines = [] if sample.true is None else [f"true: {sample.true}"]
        lines.append(f"predicted: {sample.predicted}")
        lines.append(f"{sample.probability:.1%}")
        color = "black"
        if sample.true is not None:
            color = "green" if sample.true == sample.predicted else "red"
        place.set_title("\n".join(lines), color=color, fontsize=9, fontfamily=font)
    return figure


def draw_changed(images: Sequence[ChangedImage], pixels: Mapping[int, Pixels]) -> Figure:
    """Draw the images whose label changes, with the label and margin of each runtime.

    A runtime that has the reference's label is marked with ✓.
    """
    texts = [name for image in images for name in (image.true, *_names(image))]
    font = fonts.find_font([*texts, "✓"]) or fonts.DEFAULT
    figure, axes = _grid(len(images), lines=3 + max(len(image.labels) for image in images))
    for place, image in zip(axes, images, strict=False):
        _show(place, pixels[image.index])
        lines = [f"true: {image.true}"]
        if image.reference is not None:
            lines.append(f"float64: {image.reference.name} ({image.reference.margin:.2g})")
        for runtime, label in image.labels.items():
            mark = " ✓" if runtime in image.right else ""
            lines.append(f"{runtime}: {label.name} ({label.margin:.2g}){mark}")
        place.set_title("\n".join(lines), fontsize=8, fontfamily=font)
    return figure


def draw_confusion(scores: Mapping[str, Scores], classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix of each runtime, side by side."""
    from matplotlib.figure import Figure

    count = len(classes)
    side = min(9.0, max(3.2, 1.6 + 0.32 * min(count, _WRITTEN_COUNTS)))
    figure = Figure(figsize=(side * len(scores), side + 0.4), layout="constrained")
    font = fonts.find_font(classes) or fonts.DEFAULT
    panels = np.atleast_1d(np.asarray(figure.subplots(1, len(scores)), dtype=object))
    for axes, (runtime, each) in zip(panels, scores.items(), strict=True):
        matrix = np.array(each.confusion)
        # Shares of the true class, so that rare classes are seen.
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"{runtime}: top-1 {each.top1:.2%}", fontsize=10)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if count > _WRITTEN_COUNTS:
            continue
        axes.set_xticks(range(count), classes, rotation=90, fontsize=8, fontfamily=font)
        axes.set_yticks(range(count), classes, fontsize=8, fontfamily=font)
        for row, column in np.argwhere(matrix > 0).tolist():
            color = "white" if shares[row, column] > 0.5 else "black"
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    return figure


def _names(image: ChangedImage) -> list[str]:
    names = [label.name for label in image.labels.values()]
    return names if image.reference is None else [*names, image.reference.name]


def _texts(samples: Sequence[SamplePrediction]) -> list[str]:
    return [text for sample in samples for text in (sample.true or "", sample.predicted)]


def _grid(count: int, *, lines: int = 3) -> tuple[Figure, list[Axes]]:
    """Return a figure with a place for each of `count` pictures and so many lines above each."""
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, max(count, 1))
    rows = -(-max(count, 1) // columns)
    # The figure's own class: `pyplot` would keep it, and may look for a screen.
    figure = Figure(figsize=(2.4 * columns, rows * (2.2 + 0.17 * lines)), layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, columns), dtype=object)).ravel()
    for place in axes:
        place.set_axis_off()
    return figure, list(axes)


def _show(axes: Axes, pixels: Pixels) -> None:
    if pixels.shape[-1] == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(pixels)
