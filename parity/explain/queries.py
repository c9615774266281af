"""Requests to the children for more data on a failing layer: weights, second runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.runner import Runner
from parity.errors import ParityError
from parity.explain.proof import extra_layers
from parity.explain.proof.extra_layers import ExtraLayers
from parity.explain.proof.layer import Array
from parity.network import weights
from parity.network.table import LayerTable, Row
from parity.numerics.capture import CaptureReader
from parity.processes.subjects import runs_graph, side_of


def read_subject_weights(
    runner: Runner, table: LayerTable, subject: str, row: Row
) -> tuple[Mapping[str, Array], Mapping[str, str]]:
    """Return the subject's own weights of a row and, for a graph, the names of their tensors.

    Both are by role, in canonical layouts, and empty where they cannot be read.
    """
    try:
        if runs_graph(subject):
            return runner.read_node_weights(subject, row.name)
        path = runner.dump_weights(subject)
        own = table.select_side(side_of(subject))
        return weights_by_role(row, weights.load(path, own)), {}
    except ParityError:
        # A model with NaN in its weights, say: the comparison of weights reports that.
        return {}, {}


def read_extra_layers(
    runner: Runner, subject: str, row: Row, layers: Sequence[Mapping[str, Any]]
) -> ExtraLayers | None:
    """Return described layers that are in no row with the subject's weights; None if unreadable."""
    try:
        dump = runner.dump_rows(subject, extra_layers.make_rows(layers), row.name)
        values = weights.load(dump.path, dump.table)
    except ParityError:
        # Without their weights (one may be NaN) they prove nothing.
        return None
    return extra_layers.build_chain(layers, dump.table, values)


def run_again(runner: Runner, subject: str, first: CaptureReader, reference: Path) -> Path | None:
    """Run a subject a second time on the reference's inputs at the same rows.

    None where it cannot be run, or where `first`, its first capture, is in float64.
    """
    if first.read(first.names[0]).dtype == np.float64:
        # A run in float64 is another request, and is not repeated.
        return None
    try:
        return runner.run_subject(subject, list(first.names), "again", feed=reference).path
    except ParityError:
        # A failure of the second run is no evidence on a layer.
        return None


def weights_by_role(row: Row, values: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """Return a row's weights by role; `values` has them by canonical name."""
    return {weight.role: np.asarray(values[weight.name]) for weight in row.weights}
