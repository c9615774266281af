"""ONNX operators that run graphs inside them: If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnx import GraphProto, NodeProto
from torch import Tensor

from parity.runtimes.onnx.model_file import read_attributes

RunGraph = Callable[[GraphProto, Mapping[str, Tensor]], list[Tensor]]
"""Runs an inner graph on its inputs by name, and returns its outputs in order."""

Arguments = Sequence["Tensor | None"]


def _run_if(node: NodeProto, arguments: Arguments, run: RunGraph) -> tuple[Tensor, ...]:
    (condition,) = arguments
    branch = "then_branch" if condition is not None and bool(condition) else "else_branch"
    return tuple(run(read_attributes(node)[branch], {}))


def _run_loop(node: NodeProto, arguments: Arguments, run: RunGraph) -> tuple[Tensor, ...]:
    """Run the body `limit` times, or until it returns a false condition."""
    body: GraphProto = read_attributes(node)["body"]
    limit, condition, *carried = arguments
    count = None if limit is None else int(limit)
    proceed = condition is None or bool(condition)
    names = [value.name for value in body.input]
    scanned: list[list[Tensor]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    step = 0
    while proceed and (count is None or step < count):
        values = [torch.tensor(step), torch.tensor(True), *carried]
        feeds = {n: v for n, v in zip(names, values, strict=True) if v is not None}
        again, *results = run(body, feeds)
        carried = list(results[: len(carried)])
        for kept, value in zip(scanned, results[len(carried) :], strict=True):
            kept.append(value)
        proceed, step = bool(again), step + 1
    stacked = [torch.stack(kept) if kept else torch.empty(0) for kept in scanned]
    return tuple(value for value in (*carried, *stacked) if value is not None)


def _run_scan(node: NodeProto, arguments: Arguments, run: RunGraph) -> tuple[Tensor, ...]:
    """Run the body once for each slice of the scanned inputs (from opset 9 on)."""
    attributes: dict[str, Any] = read_attributes(node)
    body: GraphProto = attributes["body"]
    count = attributes["num_scan_inputs"]
    values = [each for each in arguments if each is not None]
    states, inputs = values[: len(values) - count], values[len(values) - count :]
    outputs = len(body.output) - len(states)
    axes = attributes.get("scan_input_axes", [0] * count)
    backwards = attributes.get("scan_input_directions", [0] * count)
    sliced = [
        (value.flip(axis) if back else value).movedim(axis, 0)
        for value, axis, back in zip(inputs, axes, backwards, strict=True)
    ]
    names = [value.name for value in body.input]
    scanned: list[list[Tensor]] = [[] for _ in range(outputs)]
    for step in range(sliced[0].shape[0]):
        feeds = dict(zip(names, [*states, *(value[step] for value in sliced)], strict=True))
        results = run(body, feeds)
        states = results[: len(states)]
        for kept, value in zip(scanned, results[len(states) :], strict=True):
            kept.append(value)
    axes = attributes.get("scan_output_axes", [0] * outputs)
    backwards = attributes.get("scan_output_directions", [0] * outputs)
    stacked = []
    for kept, axis, back in zip(scanned, axes, backwards, strict=True):
        stacked.append(torch.stack(kept[::-1] if back else kept, dim=axis))
    return (*states, *stacked)


CONTROL_FLOW: Mapping[str, Callable[[NodeProto, Arguments, RunGraph], tuple[Tensor, ...]]] = {
    "If": _run_if,
    "Loop": _run_loop,
    "Scan": _run_scan,
}
"""The function of each operator that holds graphs, by name."""
