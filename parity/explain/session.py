"""What `--explain` adds to a comparison: the causes of what differs, in float32 or in float64."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.comparison import investigate
from parity.comparison.captures import Reference
from parity.comparison.flow import Flow
from parity.comparison.investigate import SEMANTICS_SLACK, Layers
from parity.comparison.request import runtime_of, side_of
from parity.errors import ParityError
from parity.explain import causes, rerun, study, telling
from parity.explain.findings import Wrong
from parity.explain.proof.case import Shape
from parity.network import structure
from parity.numerics.verdict import StageResult, SubjectResult
from parity.report.model import Cause


def runs(flow: Flow, stages: Sequence[StageResult]) -> tuple[Cause, ...]:
    """The causes that lie in how a subject was run: its session, its precision, its device."""
    return rerun.causes(flow, stages, causes.reruns)


Settled = frozenset[tuple[str, str]]
"""Subjects and rows whose error needs no further cause."""

Proved = frozenset[tuple[str, str, str]]
"""What the numbers prove: the runtime, the row and the cause."""


@dataclass(frozen=True)
class Shaped:
    """A cause that the structure proves, and the layers that are right without it.

    `mended` has their errors before and after, by row; `labels` what a row is in the user's code.
    """

    shape: Shape
    mended: Mapping[str, tuple[float, float]]
    labels: Mapping[str, str]


def structural(flow: Flow, layers: Layers | None) -> tuple[tuple[Shaped, ...], Settled]:
    """What the structure proves, whether or not the models could be run.

    Also the layers that are right once the layers too many give their input back.
    """
    if flow.table.exception() is not None or not flow.descriptions:
        return (), frozenset()
    found = structure.check(
        flow.table.result(), flow.descriptions, reference=flow.request.reference_side
    )
    told, settled = [], set()
    for shape in causes.shapes(found):
        mended = {} if layers is None else _without(flow, layers, shape)
        settled |= {(shape.subject, row) for row in mended}
        told.append(Shaped(shape, mended, _labels(flow, shape)))
    return tuple(told), frozenset(settled)


def told(shaped: Sequence[Shaped], proved: Proved) -> tuple[Cause, ...]:
    """The causes of the structure, without the layers for which the numbers have `proved` them."""
    causes = []
    for item in shaped:
        shape = item.shape
        left = tuple(r for r in shape.layers if (shape.subject, r, shape.cause) not in proved)
        if not item.mended and len(left) < len(shape.layers):
            shape = replace(shape, layers=left, evidence={"layers": float(len(left))})
        if shape.layers:
            causes.append(_told(shape, item.mended, item.labels.get(shape.layers[0], "")))
    return tuple(causes)


def _labels(flow: Flow, shape: Shape) -> dict[str, str]:
    """What each of a cause's rows is in the user's own code: Conv2D `conv1_conv`."""
    layers = flow.descriptions.get(shape.subject, {}).get("layers", ())
    return {
        layer["row"]: f"{layer['class'] or layer['kind']} `{layer['name']}`: "
        for layer in layers
        if layer["row"] in shape.layers
    }


def _told(shape: Shape, mended: Mapping[str, tuple[float, float]], label: str) -> Cause:
    first, last = shape.layers[0], shape.layers[-1]
    more = f" ({len(shape.layers)} layers, to {last})" if len(shape.layers) > 1 else ""
    message = f"{shape.cause}{more}: {shape.text}"
    evidence = dict(shape.evidence)
    if mended:
        before, after = (max(values) for values in zip(*mended.values(), strict=True))
        evidence |= {"x_floor_before": before, "x_floor_after": after}
        message += (
            f". Without them {len(mended)} layers by themselves, from {next(iter(mended))} on, "
            f"fall from {before:.2g}x the floor to {after:.2g}x"
        )
    else:
        message += " (told by the structure; nothing was run without it)"
    message += f". Remedy: {label}{shape.remedy}"
    return Cause(first, shape.subject, shape.cause, evidence, message)


def _without(flow: Flow, layers: Layers, shape: Shape) -> dict[str, tuple[float, float]]:
    """The wrong layers that are right without the layers too many: their errors before and after.

    Only PyTorch's modules can be told to give their input back.
    """
    # The structure is that of a side, whose subject may have a place of its own: `torch@cpu`.
    name = next((n for n in flow.subjects if runtime_of(n) == shape.subject), shape.subject)
    wrong = {layer.row: layer.subjects[name] for who, layer in layers.wrong() if who == name}
    if not shape.bypass or not wrong or runtime_of(name) != "torch":
        return {}
    cuts = investigate.layers_of(flow, layers.inside, others=True)
    reference = layers.reference
    try:
        made = flow.captures.subject(
            name,
            [cut.row.name for cut in cuts],
            "bypassed",
            feed=reference.capture,
            bypass=list(shape.bypass),
        )
    except ParityError:
        # A module that cannot give its input back leaves it at what the structure tells.
        return {}
    results = investigate.compare(
        flow, reference.capture, reference.isolated_floors, {name: made.path}, cuts
    )
    after = {result.row: result.subjects[name] for result in results}
    return {
        row: (_worse(before), _worse(after[row]))
        for row, before in wrong.items()
        if after[row].status.passes and math.isfinite(_worse(before))
    }


def _worse(result: SubjectResult) -> float:
    return max(result.x_floor, result.x_floor_max)


def numeric(
    flow: Flow, layers: Layers, stages: Sequence[StageResult], settled: Settled = frozenset()
) -> tuple[tuple[Cause, ...], Proved]:
    """The causes of the layers that differ in the precision that was compared, and all they prove.

    `stages` are the cuts of the unfed runs; what is `settled` is left alone.
    """
    flow.progress("parity", "explaining")
    wrong = [_wrong(flow, name, layer, flow.precisions[name]) for name, layer in layers.wrong()]
    with study.opened(
        flow,
        layers.reference.capture,
        layers.captures,
        limit=flow.request.limit,
        stages=stages,
    ) as opened:
        open_ones = [w for w in wrong if w is not None and not _is_settled(w, settled, opened)]
        found = opened.explain(open_ones)
        proved = {
            (runtime_of(item.wrong.subject), item.wrong.row.name, candidate.cause)
            for item in found
            if item.explanation is not None and item.explanation.found is not None
            for candidate in item.explanation.found.candidates
        }
        return telling.told(found), frozenset(proved)


def _is_settled(wrong: Wrong, settled: Settled, opened: study.Study) -> bool:
    """Whether a layer has its cause; a graph that computes what its model does shares that one."""
    row = wrong.row.name
    if (wrong.subject, row) in settled:
        return True
    if (side_of(wrong.subject), row) not in settled:
        return False
    if runtime_of(wrong.subject) != "onnx":
        return True
    return opened.same(wrong.subject, wrong.row, wrong.floor)


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
    found: list[Cause] = []
    for name in flow.subjects:
        if suspects and runtime_of(name) != "onnx" and name != flow.request.reference_side:
            flow.progress("parity", f"explaining {name} in float64")
            found += _in_float64(flow, name, suspects)
    return tuple(found)


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
    results = investigate.compare(
        flow,
        reference.capture,
        reference.isolated_floors,
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
        return telling.told(opened.explain([item for item in wrong if item is not None]))


def _wrong(flow: Flow, subject: str, layer: StageResult, precision: str) -> Wrong | None:
    if layer.floor is None:
        return None
    row = flow.table.result().by_name(layer.row)
    floor = layer.floor.scaled(precision)
    return Wrong(subject, row, floor, _worse(layer.subjects[subject]))
