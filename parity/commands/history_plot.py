"""The plot of `parity history`: every subject's figure by version, as SVG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity import files
from parity.defaults import LIMIT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from parity.commands.history import History, Series

_LEAST = 0.01
"""Where a figure of 0 is drawn, since the axis is logarithmic."""

_MOST_LEGENDS = 20


def write_plot(path: str | Path, history: History) -> None:
    """Write the plot as SVG; equal histories give equal bytes. Raises `OutputError`."""
    import matplotlib as mpl

    # Without these the file has a date, and identifiers that change from run to run. A `$` in a
    # name begins no formula.
    with (
        mpl.rc_context(
            {"svg.hashsalt": "parity", "svg.fonttype": "none", "text.parse_math": False}
        ),
        files.atomic_write(path) as temporary,
    ):
        _draw(history).savefig(temporary, format="svg", metadata={"Date": None})


def _draw(history: History) -> Figure:
    """Return a figure with a line for each case and subject, and a mark for each regression."""
    # The figure's own class: `pyplot` would keep it, and may look for a screen.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    count = len(history.versions)
    figure = Figure(figsize=(max(8.0, min(24.0, 0.5 * count)), 5.0), layout="constrained")
    axes: Any = figure.subplots()
    for number, series in enumerate(history.series):
        label = f"{series.case}: {series.subject}" if number < _MOST_LEGENDS else "_"
        for part, (xs, ys) in enumerate(_split_at_breaks(series)):
            # A label that begins with "_" is in no legend.
            axes.plot(xs, ys, marker=".", color=f"C{number % 10}", label="_" if part else label)
        marked = [each.version for each in series.regressions]
        axes.plot(
            marked,
            [max(series.figures[at] or 0.0, _LEAST) for at in marked],
            "v",
            color="red",
            markersize=10,
            markerfacecolor="none",
        )
    axes.axhline(LIMIT, color="black", linestyle="--", linewidth=1)
    axes.axhline(1.0, color="grey", linestyle=":", linewidth=1)
    axes.set_yscale("log")
    # The formatter of logarithmic axes writes formulas.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda figure, _: f"{figure:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda figure, _: f"{figure:g}"))
    axes.set_ylabel("× the rounding floor")
    labels = [
        f"{each.label}\n{each.date[:10]}" if each.date else each.label for each in history.versions
    ]
    axes.set_xticks(range(count), labels, rotation=45, ha="right", fontsize="small")
    axes.set_title("largest errors by version; ▽: more than twice the one before")
    axes.grid(alpha=0.3)
    if history.series:
        figure.legend(fontsize="small", loc="outside right upper")
    return figure


def _split_at_breaks(series: Series) -> list[tuple[list[int], list[float]]]:
    """Return the lines to draw, as (versions, figures): a new one where something else began."""
    lines: list[tuple[list[int], list[float]]] = [([], [])]
    for version, figure in enumerate(series.figures):
        if version in (series.breaks or {}):
            lines.append(([], []))
        if figure is not None:
            lines[-1][0].append(version)
            lines[-1][1].append(max(figure, _LEAST) if math.isfinite(figure) else math.nan)
    return lines
