"""The geometry of the drawing of two models side by side: rows, and the edges beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from parity.numerics.verdict import Status, SubjectResult
from parity.report.model import PairedLayer, Report

ROW_HEIGHT = 24
"""Height of a row, in CSS pixels."""

EDGES_WIDTH = 48
_MAX_LANES = 7
_LANE_WIDTH = 6


@dataclass(frozen=True, slots=True)
class SideRow:
    """A layer of the reference beside its partner; either may be missing."""

    reference: str
    other: str
    kind: str
    shape: tuple[int, ...]
    confidence: str
    result: SubjectResult | None
    """The error at its output, where that is a comparison point."""
    state: str
    """"pass", "fail", or "" where nothing was measured; "lone" for a layer without partner."""


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The reference and one other model, drawn as two columns of layers.

    `edges` are the SVG paths, left and right, of what does not read the layer before it.
    """

    name: str
    rows: tuple[SideRow, ...]
    edges: tuple[str, str]
    paired: int
    alone: tuple[int, int]
    """Layers without a partner: of the reference, and of the other model."""
    is_open: bool

    @property
    def height(self) -> int:
        return ROW_HEIGHT * len(self.rows)


def draw_side_by_side(report: Report) -> tuple[SideBySide, ...]:
    """Return a drawing for each model that was paired with the reference, a differing one open."""
    names = dict.fromkeys(
        name for layer in report.layers for name in layer.places if name != report.reference
    )
    differing = {name for each in report.divergences for name in each.subjects}
    opened = next((name for name in names if name in differing), next(iter(names), ""))
    return tuple(_draw(report, name, is_open=name == opened) for name in names)


def _draw(report: Report, name: str, *, is_open: bool) -> SideBySide:
    reference = report.reference
    results = {stage.name: stage.subjects.get(name) for stage in report.stages}
    chosen = [
        at
        for at, layer in enumerate(report.layers)
        if reference in layer.places or name in layer.places
    ]
    rows = [
        _build_row(layer, reference, name, results.get(layer.point) if layer.point else None)
        for layer in (report.layers[at] for at in chosen)
    ]
    place = {at: row for row, at in enumerate(chosen)}
    edges = [
        _draw_edges(
            _find_edges([report.layers[at] for at in chosen], place, model), is_left=is_left
        )
        for model, is_left in ((reference, True), (name, False))
    ]
    return SideBySide(
        name=name,
        rows=tuple(rows),
        edges=(edges[0], edges[1]),
        paired=sum(bool(row.reference and row.other) for row in rows),
        alone=(sum(not row.other for row in rows), sum(not row.reference for row in rows)),
        is_open=is_open,
    )


def _build_row(
    layer: PairedLayer, reference: str, name: str, result: SubjectResult | None
) -> SideRow:
    own, other = layer.places.get(reference, ""), layer.places.get(name, "")
    state = ""
    if not own or not other:
        state = "lone"
    elif result is not None and result.status is not Status.MISSING:
        state = "pass" if result.status.passes else "fail"
    return SideRow(
        reference=own,
        other=other,
        kind=layer.kind,
        shape=layer.shape,
        confidence=layer.confidence.get(name, "") if own and other else "",
        result=None if result is None or result.status is Status.MISSING else result,
        state=state,
    )


def _find_edges(
    layers: Sequence[PairedLayer], place: dict[int, int], model: str
) -> list[tuple[int, int]]:
    """Return the rows that an edge connects, for each that skips a layer of the same model."""
    edges, before = [], -1
    for row, layer in enumerate(layers):
        if model not in layer.places:
            continue
        read = [place[at] for at in layer.inputs.get(model, ()) if at in place]
        edges += [(at, row) for at in read if at < before]
        before = row
    return edges


def _draw_edges(edges: Iterable[tuple[int, int]], *, is_left: bool) -> str:
    """Return an SVG path: one bracket an edge, those that overlap in lanes beside one another."""
    ends: list[int] = []
    parts = []
    for start, end in sorted(edges, key=lambda edge: (edge[0], -edge[1])):
        lane = next((at for at, last in enumerate(ends) if last <= start), len(ends))
        if lane == len(ends):
            ends.append(end)
        else:
            ends[lane] = end
        depth = _LANE_WIDTH * (1 + lane % _MAX_LANES)
        near = EDGES_WIDTH if is_left else 0
        far = near - depth if is_left else near + depth
        top, bottom = ((at + 0.5) * ROW_HEIGHT for at in (start, end))
        parts.append(f"M{near} {top:g}H{far}V{bottom:g}H{near}")
    return "".join(parts)
