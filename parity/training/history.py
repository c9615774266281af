"""The history of a run: the figures of every epoch and framework, as JSON, CSV and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity import files
from parity.training.callbacks import EpochMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "parity.history/1"

History = Mapping[str, Sequence[EpochMetrics]]
"""The epochs of each framework, by its name."""

_STYLES = {"training": "--", "validation": "-"}


def write_json(path: Path, model: str, history: History) -> None:
    """Write the history without times, so that equal runs give equal bytes."""
    data = {
        "schema": SCHEMA,
        "model": model,
        "frameworks": {name: [e.to_json() for e in epochs] for name, epochs in history.items()},
    }
    files.write_text(path, json.dumps(data, indent=2) + "\n")


def write_csv(path: Path, history: History) -> None:
    """Write a line for each framework and epoch."""
    text = io.StringIO()
    columns = ["framework", *EpochMetrics.__dataclass_fields__]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for name, epochs in history.items():
        writer.writerows({"framework": name, **epoch.to_json()} for epoch in epochs)
    files.write_text(path, text.getvalue())


Band = Mapping[str, Sequence[tuple[float, float]]]
"""By figure of `EpochMetrics`, its least and largest value in each epoch."""

FIGURES = ("accuracy", "loss", "validation_accuracy", "validation_loss")


def measure_band(replicates: Sequence[Sequence[EpochMetrics]]) -> Band:
    """Return the range of each figure over runs of one framework, for the epochs that all have."""
    epochs = list(zip(*replicates, strict=False))
    return {
        name: [
            (min(values), max(values))
            for values in ([getattr(each, name) for each in epoch] for epoch in epochs)
        ]
        for name in FIGURES
    }


def count_inside(band: Band, epochs: Sequence[EpochMetrics]) -> tuple[int, int]:
    """Return how many points of a run's curves are inside the band, and of how many."""
    inside = [
        low <= getattr(epoch, name) <= high
        for name, ranges in band.items()
        for (low, high), epoch in zip(ranges, epochs, strict=False)
    ]
    return sum(inside), len(inside)


def write_picture(path: Path, model: str, history: History, band: Band | None = None) -> None:
    """Draw accuracy and loss, training and validation, all frameworks in one plot, as SVG.

    The band is drawn behind the curves.
    """
    import matplotlib as mpl

    figure = draw(model, history, band)
    # Without these the file has a date, and identifiers that change from run to run.
    with (
        mpl.rc_context({"svg.hashsalt": "parity", "svg.fonttype": "none"}),
        files.atomic_write(path) as temporary,
    ):
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def draw(model: str, history: History, band: Band | None = None) -> Figure:
    """Return the two panels, accuracy and loss by epoch."""
    # The figure's own class: `pyplot` would keep it, and may look for a screen.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    for axes, quantity in zip(panels, ("accuracy", "loss"), strict=True):
        for kind, shade in zip(_STYLES, (0.12, 0.25), strict=True):
            ranges = (band or {}).get(quantity if kind == "training" else f"validation_{quantity}")
            if ranges:
                first = min(epochs[0].epoch for epochs in history.values() if epochs)
                axes.fill_between(
                    range(first, first + len(ranges)),
                    [low for low, _ in ranges],
                    [high for _, high in ranges],
                    color="black",
                    alpha=shade,
                    linewidth=0,
                    label=f"band, {kind}",
                )
        for number, (name, epochs) in enumerate(history.items()):
            for kind, style in _STYLES.items():
                field = quantity if kind == "training" else f"validation_{quantity}"
                axes.plot(
                    [epoch.epoch for epoch in epochs],
                    [getattr(epoch, field) for epoch in epochs],
                    style,
                    color=f"C{number}",
                    marker="." if len(epochs) < 30 else None,
                    label=f"{name}, {kind}",
                )
        axes.set_xlabel("epoch")
        axes.set_title(f"{model}: {quantity}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
