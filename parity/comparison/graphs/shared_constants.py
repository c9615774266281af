"""Level 3 with the constants of a subject made equal to the reference's, where both round alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.isolation import criteria
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.comparison.judging import judge_captures
from parity.comparison.semantics import float64_criteria
from parity.comparison.state import ReferenceRun
from parity.network.graph import Graph
from parity.numerics.capture import CaptureReader
from parity.numerics.npz import save_npz
from parity.numerics.verdict import find_first_failure
from parity.processes.graph_requests import TensorPoint

Array = NDArray[np.float64]

ATTENTION = "scaled_dot_product_attention"


def is_same_but_for_constants(
    state: GraphState, runner: GraphRunner, reference: ReferenceRun, name: str
) -> bool:
    """Return whether a subject is the reference in float64, but for the rounding of constants.

    Each constant of the subject that is at most one unit in the last place of float32 from one of
    the reference's gets that value; then all points must be at the floor of float64. A difference
    that float32 hides and that is in no such constant is still seen.
    """
    values = _read_constants(state, runner)
    file = runner.folder / "constants.npz"
    save_npz(file, {"values": values})
    points = state.table.points(state.request.depth, list(state.models))
    run = runner.run_subject(name, points, "shared-constants", precision="float64", constants=file)
    judged = float64_criteria(criteria(state), name)
    stages = judge_captures(reference.capture, reference.floors, {name: run.path}, points, judged)
    return bool(stages) and find_first_failure(stages, name) is None


def _read_constants(state: GraphState, runner: GraphRunner) -> Array:
    """Return the numbers that the reference computes with, beside its data and weights."""
    graph = state.reference.graph
    ids = dict.fromkeys(each for node in graph.nodes for each in node.constant_ids.values())
    extra = [TensorPoint(f"constant {number}", each) for number, each in enumerate(ids)]
    path = runner.capture_reference([], "constants", extra)
    found = [np.asarray(list(_list_numbers(graph)), np.float64)]
    with CaptureReader(path) as reader:
        found += [reader.read(each.name).ravel() for each in extra if each.name in reader]
    values = np.concatenate([np.asarray(each, np.float64) for each in found])
    return np.asarray(values[np.isfinite(values)], np.float64)


def _list_numbers(graph: Graph) -> Iterator[float]:
    """Yield the numbers of operations, and what a division by one multiplies with."""
    for node in graph.nodes:
        for value in (*node.constants.values(), *node.hyper.values()):
            # Tables are read in float64: the record has them in float32.
            if isinstance(value, float):
                yield from _with_inverse(value)
        if node.kind == ATTENTION and node.hyper.get("scale") is None:
            # The scale that the operation has where none is stated.
            yield from _with_inverse(graph.tensors[node.inputs[0]].shape[-1] ** -0.5)


def _with_inverse(number: float) -> Iterator[float]:
    yield number
    if number:
        yield 1.0 / number
