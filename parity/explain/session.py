"""What `--explain` adds to a comparison: the causes of what differs, in float32 or in float64."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from parity import investigate, structure
from parity.captures import Reference
from parity.errors import ParityError
from parity.explain import study
from parity.explain.study import Wrong
from parity.flow import Flow
from parity.investigate import SEMANTICS_SLACK, Layers
from parity.report.model import Cause
from parity.request import runtime_of
from parity.verdict import StageResult


def numeric(flow: Flow, layers: Layers) -> tuple[Cause, ...]:
    """The causes of the layers that differ in the precision that was compared."""
    flow.progress("parity", "explaining")
    wrong = [_wrong(flow, name, layer, flow.precisions[name]) for name, layer in layers.wrong()]
    with study.opened(
        flow, layers.reference.capture, layers.captures, limit=flow.request.limit
    ) as opened:
        return study.told(opened.explain([item for item in wrong if item is not None]))


def semantic(flow: Flow, layers: Layers | None = None) -> tuple[Cause, ...]:
    """The causes of differences that float32 does not show: layers by themselves, in float64.

    Those of `layers` that are wrong in float32 have been seen to.
    """
    differences = structure.check(
        flow.table.result(), flow.descriptions, reference=flow.request.reference_side
    )
    rows = {row.name: row.stage for row in flow.table.result().rows}
    seen = set() if layers is None else {layer.row for _, layer in layers.wrong()}
    suspects = frozenset(
        item.row
        for item in differences
        if item.row in rows and item.row not in seen and not item.consequence
    )
    causes: list[Cause] = []
    for name in flow.subjects:
        if suspects and runtime_of(name) != "onnx" and name != flow.request.reference_side:
            flow.progress("parity", f"explaining {name} in float64")
            causes += _in_float64(flow, name, suspects)
    return tuple(causes)


def _in_float64(flow: Flow, name: str, suspects: Collection[str]) -> tuple[Cause, ...]:
    """The causes of the rows `suspects`; others may hold a constant that was rounded to float32."""
    inside = {row.stage for row in flow.table.result().rows if row.name in suspects}
    cuts = investigate.layers_of(flow, inside, others=True)
    rows = [cut.row.name for cut in cuts]
    reference: Reference = flow.captures.reference(
        rows, "explain-float64", isolate=True, accumulate=False
    )
    try:
        made = flow.captures.in_float64(
            name, rows, "explain-float64", flow.table.result(), feed=reference.capture
        )
    except ParityError:
        # That it cannot be run in float64 is told where semantics are.
        return ()
    captures: Mapping[str, Path] = {name: made.path}
    floors = investigate.isolated_floors(flow, reference, cuts)
    results = investigate.compare(
        flow,
        reference.capture,
        floors,
        captures,
        cuts,
        precisions={name: "float64"},
        slack=SEMANTICS_SLACK,
    )
    layers = Layers(frozenset(inside), reference, captures, results)
    wrong = [
        _wrong(flow, subject, layer, "float64")
        for subject, layer in layers.wrong()
        if layer.row in suspects
    ]
    limit = flow.request.limit * SEMANTICS_SLACK
    with study.opened(flow, reference.capture, captures, limit=limit) as opened:
        return study.told(opened.explain([item for item in wrong if item is not None]))


def _wrong(flow: Flow, subject: str, layer: StageResult, precision: str) -> Wrong | None:
    if layer.floor is None:
        return None
    result = layer.subjects[subject]
    row = flow.table.result().by_name(layer.row)
    x_floor = max(result.x_floor, result.x_floor_max)
    return Wrong(subject, row, layer.floor.scaled(precision), x_floor)
