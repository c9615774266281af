"""How far the outputs of two models with the same weights are apart, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity.comparison.graphs.state import SubjectModel
from parity.comparison.graphs.values import open_values
from parity.errors import PrecisionError
from parity.network.alignment import Alignment
from parity.numerics.distance import measure_error
from parity.processes.children import Children
from parity.processes.graph_requests import GraphRunRequest, TensorPoint

Array = NDArray[Any]

SAME = {"float64": 1e-9, "float32": 1e-4}
"""By precision, the largest relative L2 difference of models that compute the same function."""


def find_output_difference(
    reference: SubjectModel,
    other: SubjectModel,
    alignment: Alignment,
    children: Children,
    folder: Path,
) -> str:
    """Return a sentence on the first output that differs from its partner, or "".

    Both models are run with the weights that their children hold, in float64 where both can.
    """
    try:
        return _compare(reference, other, alignment, children, folder, "float64")
    except PrecisionError:
        return _compare(reference, other, alignment, children, folder, "float32")


def _compare(
    reference: SubjectModel,
    other: SubjectModel,
    alignment: Alignment,
    children: Children,
    folder: Path,
    precision: str,
) -> str:
    expected = {port.name: port.tensor for port in reference.graph.outputs}
    actual = {port.name: port.tensor for port in other.graph.outputs}
    pairs = [(a, b) for a, b in alignment.outputs.items() if a in expected and b in actual]
    if not pairs:
        return f"no output of {reference.subject.name} has a partner in {other.subject.name}"
    with (
        _run(reference, {expected[a] for a, _ in pairs}, children, folder, precision) as left,
        _run(other, {actual[b] for _, b in pairs}, children, folder, precision) as right,
    ):
        for name, partner in pairs:
            found = right(actual[partner])
            rearrangement = alignment.output_rearrangements.get(name)
            try:
                found = found if rearrangement is None else rearrangement.apply(found)
            except ValueError as error:
                return f"the output '{name}' does not fit its partner: {error}"
            error_metrics = measure_error(actual=found, expected=left(expected[name]))
            # Written so that a NaN is a difference.
            if not error_metrics.rel_l2 <= SAME[precision]:
                return (
                    f"{other.subject.name} computes another function of these weights: in "
                    f"{precision} the output '{name}' differs by {error_metrics.rel_l2:.1e} of its "
                    "norm"
                )
    return ""


@contextmanager
def _run(
    model: SubjectModel, tensors: set[str], children: Children, folder: Path, precision: str
) -> Iterator[Callable[[str], Array]]:
    path = folder / f"outputs.{model.subject.name}.safetensors"
    request = GraphRunRequest(
        inputs=str(model.input_file),
        points=tuple(TensorPoint(tensor, tensor) for tensor in sorted(tensors)),
        out=str(path),
        precision=precision,
    )
    children[model.subject.child].call("run_graph", **request.to_json())
    with open_values(path) as read:
        yield read
