"""The geometry of the page's plots: numbers and SVG paths, no markup and no colours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parity.numerics.verdict import Status, SubjectResult
from parity.report.model import ErrorMap, Report

WIDTH, LEFT, RIGHT, TOP = 1120.0, 64.0, 12.0, 14.0
CHANNELS_WIDTH = 800.0
_MAX_LABELS = 16
"""Number of points up to which each has a label below the axis; above it, each stage has one."""

_MAX_MARKS = 60
"""Number of points up to which each has a mark; above it, only the ends of failing runs have."""

BUCKETS = 8
"""Number of shades of the heat map above the shade for errors at the floor."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at a position on an axis, with its grid line."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a series; ``outcome`` is "pass", "fail" or "non-finite" (drawn at the top)."""

    x: float
    y: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot; ``index`` chooses its colour, dash and mark."""

    name: str
    index: int
    path: str
    marks: tuple[Mark, ...]
    dots: str = ""
    failing_dots: str = ""
    """Dots for the points without a mark, as paths of zero length."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot along the network; coordinates are SVG user units, y downwards."""

    title: str
    height: float
    bottom: float
    columns: tuple[float, ...]
    x_ticks: tuple[Tick, ...]
    borders: tuple[float, ...]
    y_ticks: tuple[Tick, ...]
    band: str
    floor: str
    limit: str
    series: tuple[Series, ...]


Figure = Callable[[SubjectResult], float]
"""Returns the plotted figure of a result."""


class Scale:
    """A logarithmic axis over the whole decades around the values, low values at the bottom."""

    def __init__(self, values: Sequence[float], *, top: float, bottom: float) -> None:
        usable = [value for value in values if 0.0 < value < math.inf] or [1.0]
        self.low = math.floor(math.log10(min(usable)) + 1e-9)
        self.high = max(math.ceil(math.log10(max(usable)) - 1e-9), self.low + 1)
        self.top, self.bottom = top, bottom

    def __call__(self, value: float) -> float:
        """Return the y of a value; zero maps to the axis, infinity to the top."""
        if value == math.inf:
            return self.top
        exponent = math.log10(value) if value > 0.0 else self.low
        share = (exponent - self.low) / (self.high - self.low)
        return round(self.bottom - min(max(share, 0.0), 1.0) * (self.bottom - self.top), 1)

    def ticks(self, *, suffix: str = "") -> tuple[Tick, ...]:
        """Return at most eight ticks, at whole decades."""
        step = -(-(self.high - self.low) // 7)
        exponents = range(self.low, self.high + 1, step)
        return tuple(Tick(self(10.0**power), _format_decade(power) + suffix) for power in exponents)


def _format_decade(power: int) -> str:
    return f"{10.0**power:g}" if -2 <= power <= 3 else f"1e{power}"


def plot_along_network(
    report: Report, figure: Figure, floors: Sequence[float], *, title: str, suffix: str = ""
) -> Plot:
    """Plot a figure of every subject at every comparison point, with floors and limits.

    ``floors`` has one entry for each point, NaN if it has no floor.
    """
    results = {
        name: [stage.subjects.get(name) for stage in report.stages] for name in report.subjects
    }
    values = [figure(r) for line in results.values() for r in line if r is not None]
    limits = [floor * report.limit for floor in floors]
    columns, x_ticks, borders, low = _layout_columns(report, LEFT, WIDTH - RIGHT)
    height = 340.0
    bottom = height - low
    known = [value for value in (*floors, *limits) if value == value]
    scale = Scale([*values, *known], top=TOP, bottom=bottom)
    series = tuple(
        _build_series(
            name, index, [None if r is None else (figure(r), r) for r in line], columns, scale
        )
        for index, (name, line) in enumerate(results.items())
    )
    return Plot(
        title=title,
        height=height,
        bottom=bottom,
        columns=columns,
        x_ticks=x_ticks,
        borders=borders,
        y_ticks=scale.ticks(suffix=suffix),
        band=_build_band_path(limits, columns, scale),
        floor=_build_line_path(zip(columns, floors, strict=True), scale),
        limit=_build_line_path(zip(columns, limits, strict=True), scale),
        series=series,
    )


def plot_isolated_errors(report: Report, name: str, index: int, figure: Figure) -> Plot:
    """Plot one subject's accumulated and isolated errors, in floors."""
    lines = [
        [stage.subjects.get(name) for stage in report.stages],
        [stage.isolated.get(name) for stage in report.stages],
    ]
    # One scale for all subjects: their panels are side by side.
    values = [
        figure(result)
        for stage in report.stages
        for results in (stage.subjects, stage.isolated)
        for result in results.values()
    ]
    columns, x_ticks, borders, low = _layout_columns(report, LEFT, WIDTH / 2 - RIGHT, max_labels=8)
    height = 230.0
    bottom = height - low
    scale = Scale([*values, 1.0, report.limit], top=TOP, bottom=bottom)
    series = [
        _build_series(
            label,
            index,
            [None if r is None else (figure(r), r) for r in line],
            columns,
            scale,
        )
        for label, line in zip(("accumulated", "isolated"), lines, strict=True)
    ]
    limits = [report.limit] * len(columns)
    return Plot(
        title=name,
        height=height,
        bottom=bottom,
        columns=columns,
        x_ticks=x_ticks,
        borders=borders,
        y_ticks=scale.ticks(suffix="×"),
        band=_build_band_path(limits, columns, scale),
        floor=_build_line_path([(x, 1.0) for x in columns], scale),
        limit=_build_line_path(zip(columns, limits, strict=True), scale),
        series=tuple(series),
    )


def _layout_columns(
    report: Report, left: float, right: float, *, max_labels: int = _MAX_LABELS
) -> tuple[tuple[float, ...], tuple[Tick, ...], tuple[float, ...], float]:
    """Return each point's x, the labels, the stage borders and the height below the axis."""
    count = len(report.stages)
    step = (right - left) / max(count, 1)
    columns = tuple(round(left + (at + 0.5) * step, 1) for at in range(count))
    if count <= max_labels:
        labels = [Tick(x, stage.name) for x, stage in zip(columns, report.stages, strict=True)]
        # Labels that would overlap are slanted, and need more height.
        is_slanted = any(len(tick.label) * 6.6 > step for tick in labels)
        return columns, tuple(labels), (), 74.0 if is_slanted else 30.0
    ticks, borders, start = [], [], 0
    for name, group in itertools.groupby(stage.stage for stage in report.stages):
        end = start + len(list(group))
        # A stage that is too narrow for its name has a border alone.
        if len(name) * 6.2 < (end - start) * step or end - start > count // 12:
            ticks.append(Tick(round(left + (start + end) / 2 * step, 1), name))
        if start:
            borders.append(round(left + start * step, 1))
        start = end
    return columns, tuple(ticks), tuple(borders), 30.0


def _build_series(
    name: str,
    index: int,
    points: Sequence[tuple[float, SubjectResult] | None],
    columns: Sequence[float],
    scale: Scale,
) -> Series:
    outcomes = [_classify(point) for point in points]
    values = [math.nan if point is None else point[0] for point in points]
    marks, dots = [], {"pass": [""], "fail": [""]}
    neighbours = zip(["", *outcomes], outcomes, [*outcomes[1:], ""], strict=False)
    for x, value, (before, outcome, after) in zip(columns, values, neighbours, strict=True):
        is_end = outcome != "pass" and not before == outcome == after
        if outcome and (is_end or len(columns) <= _MAX_MARKS):
            marks.append(Mark(x, scale(value), outcome))
        elif outcome in dots:
            dots[outcome].append(f"M{x:g} {scale(value):g}h0")
    line = _build_line_path(zip(columns, values, strict=True), scale)
    return Series(name, index, line, tuple(marks), "".join(dots["pass"]), "".join(dots["fail"]))


def _classify(point: tuple[float, SubjectResult] | None) -> str:
    if point is None or point[1].status is Status.MISSING:
        return ""
    if not math.isfinite(point[0]):
        return "non-finite"
    return "pass" if point[1].status.passes else "fail"


def _build_line_path(
    points: Sequence[tuple[float, float]] | zip[tuple[float, float]], scale: Scale
) -> str:
    """Return the path through the points, with a gap where a value is not finite."""
    parts, is_drawing = [], False
    for x, value in points:
        if math.isfinite(value):
            parts.append(f"{'L' if is_drawing else 'M'}{x:g} {scale(value):g}")
        is_drawing = math.isfinite(value)
    return "".join(parts)


def _build_band_path(limits: Sequence[float], columns: Sequence[float], scale: Scale) -> str:
    """Return the path around the area below the limit."""
    known = [(x, limit) for x, limit in zip(columns, limits, strict=True) if limit == limit]
    if not known:
        return ""
    upper = "".join(f"L{x:g} {scale(limit):g}" for x, limit in known)
    return f"M{known[0][0]:g} {scale.bottom:g}{upper}L{known[-1][0]:g} {scale.bottom:g}Z"


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A heat map, one unit for each position, one path for each shade, smallest errors first."""

    width: int
    height: int
    shades: tuple[str, ...]
    non_finite: str
    edges: tuple[float, ...]
    """The smallest error of each shade; the first shade ends at ``edges[1]``."""


def build_heat_map(profile: ErrorMap) -> HeatMap:
    """Shade the positions by the logarithm of their error, from the floor to the largest error.

    If all errors are above the floor, or all are at it, the scale begins at the smallest error, so
    that the pattern is visible.
    """
    cells = [error for line in profile.spatial for error in line]
    finite = [error for error in cells if error < math.inf]
    largest = max(finite, default=0.0)
    least = min((error for error in finite if error > 0.0), default=largest or 1.0)
    low = max(profile.floor_max, least)
    if largest <= 2 * low:
        low = least
    ratio = max(largest / low, 1.0 + 1e-9)
    edges = (0.0, *(low * ratio ** (at / BUCKETS) for at in range(BUCKETS)))
    paths: list[list[str]] = [[] for _ in range(BUCKETS + 1)]
    non_finite: list[str] = []
    for y, line in enumerate(profile.spatial):
        shades = [_select_shade(error, low, ratio) for error in line]
        start = 0
        for shade, run in itertools.groupby(shades):
            length = len(list(run))
            path = f"M{start} {y}h{length}v1h-{length}z"
            (non_finite if shade is None else paths[shade]).append(path)
            start += length
    height, width = len(profile.spatial), len(profile.spatial[0])
    return HeatMap(
        width, height, tuple("".join(each) for each in paths), "".join(non_finite), edges
    )


def _select_shade(error: float, low: float, ratio: float) -> int | None:
    if error == math.inf:
        return None
    if error <= low:
        return 0
    return min(BUCKETS, 1 + int(BUCKETS * math.log(error / low) / math.log(ratio)))


@dataclass(frozen=True, slots=True)
class ChannelBars:
    """A bar for each channel; those above the limit are a separate path."""

    height: float
    bottom: float
    within_limit: str
    above_limit: str
    floor: float
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    bar: float


def build_channel_bars(profile: ErrorMap, limit: float) -> ChannelBars:
    """Draw the channels' errors; many channels share bars, by the largest of neighbours."""
    count = len(profile.channels)
    errors, left, right = list(profile.channels), LEFT, CHANNELS_WIDTH - RIGHT
    group = -(-count // 720)
    bars = [max(errors[at : at + group]) for at in range(0, count, group)]
    step = (right - left) / len(bars)
    height, bottom = 300.0, 272.0
    scale = Scale([*bars, profile.floor_max, profile.floor_max * limit], top=TOP, bottom=bottom)
    paths: dict[bool, list[str]] = {True: [], False: []}
    for at, error in enumerate(bars):
        line = f"M{left + (at + 0.5) * step:.1f} {bottom:g}V{scale(error):g}"
        paths[error > profile.floor_max * limit].append(line)
    # The tensor can have more channels than the pooled profile.
    total = profile.shape[1] if len(profile.shape) > 1 else count
    labels = sorted({round(share * (total - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    each = (right - left) / total
    return ChannelBars(
        height=height,
        bottom=bottom,
        within_limit="".join(paths[False]),
        above_limit="".join(paths[True]),
        floor=scale(profile.floor_max),
        y_ticks=scale.ticks(),
        x_ticks=tuple(Tick(round(left + (at + 0.5) * each, 1), str(at)) for at in labels),
        bar=round(min(max(step * 0.72, 0.6), 14.0), 2),
    )
