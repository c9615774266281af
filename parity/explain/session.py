"""What `--explain` adds to a comparison: the causes of what differs, in float32 or in float64."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.comparison.isolation import IsolatedLayers, layer_points
from parity.comparison.judging import judge
from parity.comparison.request import runtime_of, side_of
from parity.comparison.runner import Runner
from parity.comparison.semantics import SLACK, float64_criteria
from parity.comparison.state import Comparison, Criteria, State
from parity.errors import ParityError
from parity.explain import causes, study, telling
from parity.explain.cause import Cause
from parity.explain.findings import Wrong
from parity.explain.proof.case import Shape
from parity.explain.rerun import explain_by_rerun
from parity.network import structure
from parity.numerics.verdict import StageResult, SubjectResult
from parity.processes import registry
from parity.processes.subjects import runs_graph


def explain_runs(
    state: State, comparison: Comparison, runner: Runner, stages: Sequence[StageResult]
) -> tuple[Cause, ...]:
    """The causes that lie in how a subject was run: its session, its precision, its device."""
    return explain_by_rerun(state, comparison, runner, stages, causes.reruns)


Explained = frozenset[tuple[str, str]]
"""Subjects and rows whose error needs no further cause."""

NumericProofs = frozenset[tuple[str, str, str]]
"""What the numbers prove: the runtime, the row and the cause."""


@dataclass(frozen=True)
class StructuralCause:
    """A cause that the structure proves, and the layers that are right without it.

    `repaired` has their errors before and after, by row; `labels` what a row is in the user's code.
    """

    shape: Shape
    repaired: Mapping[str, tuple[float, float]]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class StructuralCauses:
    """What the structure proves; `explained` are the layers that are right without it."""

    found: tuple[StructuralCause, ...] = ()
    explained: Explained = frozenset()

    def describe(self, by_numbers: NumericProofs) -> tuple[Cause, ...]:
        """The causes, without the layers for which the numbers have proved them."""
        described = []
        for item in self.found:
            shape = item.shape
            left = tuple(
                r for r in shape.layers if (shape.subject, r, shape.cause) not in by_numbers
            )
            if not item.repaired and len(left) < len(shape.layers):
                shape = replace(shape, layers=left, evidence={"layers": float(len(left))})
            if shape.layers:
                label = item.labels.get(shape.layers[0], "")
                described.append(_describe(shape, item.repaired, label))
        return tuple(described)


def explain_structure(
    state: State, comparison: Comparison, runner: Runner, layers: IsolatedLayers | None
) -> StructuralCauses:
    """Find what the structure proves.

    Also the layers that are right once the layers too many give their input back.
    """
    if not state.descriptions:
        return StructuralCauses()
    differences = structure.find_differences(
        comparison.table, state.descriptions, reference=state.request.reference_side
    )
    found, explained = [], set()
    for shape in causes.shapes(differences):
        repaired = {} if layers is None else _bypass(comparison, runner, layers, shape)
        explained |= {(shape.subject, row) for row in repaired}
        found.append(StructuralCause(shape, repaired, _labels(state, shape)))
    return StructuralCauses(tuple(found), frozenset(explained))


def _labels(state: State, shape: Shape) -> dict[str, str]:
    """What each of a cause's rows is in the user's own code: Conv2D `conv1_conv`."""
    layers = state.descriptions.get(shape.subject, {}).get("layers", ())
    return {
        layer["row"]: f"{layer['class'] or layer['kind']} `{layer['name']}`: "
        for layer in layers
        if layer["row"] in shape.layers
    }


def _describe(shape: Shape, repaired: Mapping[str, tuple[float, float]], label: str) -> Cause:
    first, last = shape.layers[0], shape.layers[-1]
    more = f" ({len(shape.layers)} layers, to {last})" if len(shape.layers) > 1 else ""
    message = f"{shape.cause}{more}: {shape.text}"
    evidence = dict(shape.evidence)
    if repaired:
        before, after = (max(values) for values in zip(*repaired.values(), strict=True))
        evidence |= {"x_floor_before": before, "x_floor_after": after}
        message += (
            f". Without them {len(repaired)} layers by themselves, from {next(iter(repaired))} on, "
            f"fall from {before:.2g}x the floor to {after:.2g}x"
        )
    else:
        message += " (told by the structure; nothing was run without it)"
    message += f". Remedy: {label}{shape.remedy}"
    return Cause(first, shape.subject, shape.cause, evidence, message)


def _bypass(
    comparison: Comparison, runner: Runner, layers: IsolatedLayers, shape: Shape
) -> dict[str, tuple[float, float]]:
    """The wrong layers that are right without the layers too many: their errors before and after.

    Only PyTorch's modules can be told to give their input back.
    """
    # The structure is that of a side, whose subject may have a place of its own: `torch@cpu`.
    name = next((n for n in comparison.captures if runtime_of(n) == shape.subject), shape.subject)
    wrong = {layer.row: layer.subjects[name] for who, layer in layers.failing() if who == name}
    if not shape.bypass or not wrong or not registry.get(runtime_of(name)).bypasses_layers:
        return {}
    points = layer_points(comparison.table, layers.stages, others=True)
    reference = layers.reference
    try:
        made = runner.run_subject(
            name,
            [point.row for point in points],
            "bypassed",
            feed=reference.capture,
            bypass=tuple(shape.bypass),
        )
    except ParityError:
        # A module that cannot give its input back leaves it at what the structure tells.
        return {}
    results = judge(
        reference.capture,
        reference.isolated_floors,
        {name: made.path},
        points,
        comparison.criteria,
    )
    after = {result.row: result.subjects[name] for result in results}
    return {
        row: (_worse(before), _worse(after[row]))
        for row, before in wrong.items()
        if after[row].status.passes and math.isfinite(_worse(before))
    }


def _worse(result: SubjectResult) -> float:
    return max(result.x_floor, result.x_floor_max)


def explain_layers(
    state: State,
    comparison: Comparison,
    runner: Runner,
    layers: IsolatedLayers,
    stages: Sequence[StageResult],
    explained: Explained = frozenset(),
) -> tuple[tuple[Cause, ...], NumericProofs]:
    """The causes of the layers that differ in the precision compared, and all they prove.

    `stages` are the points of the unfed runs; what is `explained` is left alone.
    """
    runner.progress("parity", "explaining")
    precisions = comparison.criteria.precisions
    wrong = [_wrong(comparison, n, layer, precisions[n]) for n, layer in layers.failing()]
    with study.open_study(
        state,
        comparison.table,
        runner,
        layers.reference.capture,
        layers.captures,
        limit=comparison.criteria.limit,
        stages=stages,
    ) as opened:
        open_ones = [w for w in wrong if w is not None and not _is_explained(w, explained, opened)]
        found = opened.explain(open_ones)
        proofs = {
            (runtime_of(item.wrong.subject), item.wrong.row.name, candidate.cause)
            for item in found
            if item.explanation is not None and item.explanation.found is not None
            for candidate in item.explanation.found.candidates
        }
        return telling.told(found), frozenset(proofs)


def _is_explained(wrong: Wrong, explained: Explained, opened: study.Study) -> bool:
    """Whether a layer has its cause; a graph that computes what its model does shares that one."""
    row = wrong.row.name
    if (wrong.subject, row) in explained:
        return True
    if (side_of(wrong.subject), row) not in explained:
        return False
    if not runs_graph(wrong.subject):
        return True
    return opened.same(wrong.subject, wrong.row, wrong.floor)


def explain_float64(
    state: State, comparison: Comparison, runner: Runner, layers: IsolatedLayers | None = None
) -> tuple[Cause, ...]:
    """The causes of differences that float32 does not show: layers by themselves, in float64.

    Those of `layers` that fail in float32 are explained already.
    """
    table = comparison.table
    differences = structure.find_differences(
        table, state.descriptions, reference=state.request.reference_side
    )
    rows = {row.name for row in table.rows}
    seen = set() if layers is None else {layer.row for _, layer in layers.failing()}
    suspects = frozenset(
        item.row
        for item in differences
        if item.row in rows and item.row not in seen and not item.consequence
    )
    found: list[Cause] = []
    for name in comparison.captures:
        reference = name == state.request.reference_side
        if suspects and not runs_graph(name) and not reference:
            runner.progress("parity", f"explaining {name} in float64")
            found += _explain_in_float64(state, comparison, runner, name, suspects)
    return tuple(found)


def _explain_in_float64(
    state: State,
    comparison: Comparison,
    runner: Runner,
    name: str,
    suspects: Collection[str],
) -> tuple[Cause, ...]:
    """The causes of the rows `suspects`; others may hold a constant that was rounded to float32."""
    table, criteria = comparison.table, comparison.criteria
    inside = frozenset(row.stage for row in table.rows if row.name in suspects)
    points = layer_points(table, inside, others=True)
    rows = [point.row for point in points]
    reference = runner.run_reference(rows, "explain-float64", isolate=True, accumulate=False)
    try:
        made = runner.run_float64(name, rows, "explain-float64", table, feed=reference.capture)
    except ParityError:
        # The level of semantics says that it cannot be run in float64.
        return ()
    captures: Mapping[str, Path] = {name: made.path}
    float64: Criteria = float64_criteria(criteria, name)
    results = judge(reference.capture, reference.isolated_floors, captures, points, float64)
    layers = IsolatedLayers(reference, captures, results, inside)
    wrong = [
        _wrong(comparison, subject, layer, "float64")
        for subject, layer in layers.failing()
        if layer.row in suspects
    ]
    limit = criteria.limit * SLACK
    with study.open_study(state, table, runner, reference.capture, captures, limit=limit) as opened:
        return telling.told(opened.explain([item for item in wrong if item is not None]))


def _wrong(
    comparison: Comparison, subject: str, layer: StageResult, precision: str
) -> Wrong | None:
    if layer.floor is None:
        return None
    row = comparison.table.by_name(layer.row)
    floor = layer.floor.scaled(precision)
    return Wrong(subject, row, floor, _worse(layer.subjects[subject]))
