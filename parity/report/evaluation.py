"""An evaluation as files: JSON, one self-contained HTML page, a table of predictions, pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity import files
from parity.errors import OutputError
from parity.evaluation import pictures
from parity.evaluation.judging import describe_label
from parity.evaluation.pictures import Pixels, SamplePrediction
from parity.evaluation.results import SCHEMA, Evaluation, SplitResult
from parity.report import templates
from parity.training.data.labelled import SPLITS

if TYPE_CHECKING:
    from parity.evaluation.passes import Outputs
    from parity.training.data.batches import BatchReader

SAMPLES = 5
"""The sample predictions of a split that are drawn."""

MOST_DRAWN = 25
"""The images with changed labels that are drawn; all are listed."""

THUMBNAIL = (160, 160)
"""(height, width) of a drawn image, in pixels, where the model's own is larger."""


_MARKS = {
    "evaluation.json": f'"schema": "{SCHEMA}"'.encode(),
    "evaluation.html": b"<title>parity evaluate: ",
    "predictions.csv": b"split,image,true",
}
_PICTURE_MARK = b"Software\0" + pictures.SOFTWARE.encode()
_PICTURES = ("confusion", "predictions", "changed")
_START = 4096
"""Bytes of a file in which its mark is."""


def require_replaceable(folder: Path) -> None:
    """Raise `OutputError` if an evaluation written to `folder` would replace a file of the user."""
    marks = dict(_MARKS) | dict.fromkeys(_name_pictures(), _PICTURE_MARK)
    for name, mark in marks.items():
        path = folder / name
        if os.path.lexists(path) and not _has_mark(path, mark):
            raise OutputError(
                f"{path}: would be replaced, but is not of an evaluation that parity wrote; move "
                "it or name another folder"
            )


def _name_pictures() -> list[str]:
    """Return the names that pictures of an evaluation can have."""
    prefixes = ("", *(f"{split}-" for split in SPLITS))
    return [f"{prefix}{label}.png" for prefix in prefixes for label in _PICTURES]


def _has_mark(path: Path, mark: bytes) -> bool:
    if path.is_symlink():
        return False
    try:
        with files.open_regular(path) as file:
            return mark in file.read(_START)
    except OSError:
        return False


def to_text(evaluation: Evaluation) -> str:
    """Return the JSON document."""
    return json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False) + "\n"


def write(
    evaluation: Evaluation,
    readers: Mapping[str, BatchReader],
    outputs: Mapping[str, Outputs],
    *,
    seed: int,
    page: Path | None,
    folder: Path | None,
) -> None:
    """Write the page to `page`; to `folder` also JSON, a table of predictions and the pictures.

    Raises `OutputError` for a file that cannot be written, and where `require_replaceable` does.
    """
    drawn = draw(evaluation, readers, outputs, seed=seed)
    text = render_page(evaluation, drawn)
    if folder is not None:
        # Before the page, which may be in it.
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be a folder: {error.strerror or error}") from error
    if page is not None:
        files.write_text(page, text)
    if folder is None:
        return
    # Something may have been put there since the command began.
    require_replaceable(folder)
    files.write_text(folder / "evaluation.json", to_text(evaluation))
    files.write_text(folder / "evaluation.html", text)
    files.write_text(folder / "predictions.csv", _predictions(evaluation, readers, outputs))
    written = set()
    for name, figures in drawn.items():
        prefix = "" if len(drawn) == 1 else f"{name}-"
        for label, figure in figures.items():
            file = f"{prefix}{label}.png"
            pictures.write_figure(figure, folder / file)
            written.add(file)
    # A picture of an earlier evaluation would be taken for one of this.
    for file in _name_pictures():
        if file not in written and _has_mark(folder / file, _PICTURE_MARK):
            (folder / file).unlink()


def draw(
    evaluation: Evaluation,
    readers: Mapping[str, BatchReader],
    outputs: Mapping[str, Outputs],
    *,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return the figures of each split: `confusion`, `predictions`, and `changed` if any is."""
    drawn: dict[str, dict[str, Any]] = {}
    for split in evaluation.splits:
        if not split.scores:
            continue
        reader, found = readers[split.name], outputs[split.name]
        figures: dict[str, Any] = {
            "confusion": pictures.draw_confusion(split.scores, evaluation.classes),
            "predictions": pictures.draw_predictions(
                sample_predictions(reader, found, evaluation.classes, count=SAMPLES, seed=seed)
            ),
        }
        if split.changed:
            shown = split.changed[:MOST_DRAWN]
            pixels = {image.index: read_thumbnail(reader, image.index) for image in shown}
            figures["changed"] = pictures.draw_changed(shown, pixels)
        drawn[split.name] = figures
    return drawn


def sample_predictions(
    reader: BatchReader, outputs: Outputs, classes: Sequence[str], *, count: int, seed: int
) -> list[SamplePrediction]:
    """Return seeded sample images with their prediction in the first runtime."""
    images = reader.images
    every = len(images.labels)
    chosen = sorted(random.Random(seed).sample(range(every), min(count, every)))
    found = next(iter(outputs.by_subject.values()))
    samples = []
    for index in chosen:
        label = describe_label(found[index], classes)
        pixels = read_thumbnail(reader, index)
        true = classes[images.labels[index]]
        samples.append(SamplePrediction(pixels, true, label.name, label.probability))
    return samples


def read_thumbnail(reader: BatchReader, index: int) -> Pixels:
    """Return the pixels of one image at the model's size, or smaller."""
    height, width = reader.preprocessing.image_size
    scale = min(1.0, THUMBNAIL[0] / height, THUMBNAIL[1] / width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return reader.images.read(index, size, reader.preprocessing.channels)


def render_page(evaluation: Evaluation, drawn: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the HTML page with these figures, by split: no external resources, text escaped."""
    embedded = {
        split: {label: pictures.embed(figure) for label, figure in figures.items()}
        for split, figures in drawn.items()
    }
    return embed_page(evaluation, embedded)


def embed_page(evaluation: Evaluation, embedded: Mapping[str, Mapping[str, str]]) -> str:
    """Return the HTML page with pictures as `data:` addresses, by split and label."""
    return templates.build_environment().get_template("evaluation.html").render(
        evaluation=evaluation,
        embedded=embedded,
        most_drawn=MOST_DRAWN,
        describe_picture=_describe_picture,
        style=templates.read_resource("report.css"),
    )  # fmt: skip


def _describe_picture(label: str, split: str) -> str:
    """Return the text for who does not see a figure."""
    texts = {
        "confusion": "Images by true and predicted class, for each runtime",
        "predictions": "Sample images with their true and predicted classes",
        "changed": "The images whose label changes; the table above lists them",
    }
    return f"{texts[label]} ({split})"


def _predictions(
    evaluation: Evaluation, readers: Mapping[str, BatchReader], outputs: Mapping[str, Outputs]
) -> str:
    """Return a line for each image: its name, its class, and each runtime's label."""
    text = io.StringIO()
    runtimes = list(dict.fromkeys(name for s in evaluation.splits for name in s.scores))
    columns = ["split", "image", "true"]
    columns += [column for name in runtimes for column in (name, f"{name} probability")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for split in evaluation.splits:
        writer.writerows(_rows(split, readers[split.name], outputs[split.name], runtimes,
                               evaluation.classes))  # fmt: skip
    return text.getvalue()


def _rows(
    split: SplitResult,
    reader: BatchReader,
    outputs: Outputs,
    runtimes: Sequence[str],
    classes: Sequence[str],
) -> list[list[str]]:
    rows = []
    for index, true in enumerate(reader.images.labels):
        row = [split.name, reader.images.describe(index), classes[true]]
        for name in runtimes:
            found = outputs.by_subject.get(name)
            if found is None:
                row += ["", ""]
                continue
            label = describe_label(found[index], classes)
            row += [label.name, f"{label.probability:.6f}"]
        rows.append(row)
    return rows
