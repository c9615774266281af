"""Runs of both sides that the search for differing operations needs: on two inputs, with edits.

The first input is that of the comparison. The second one has the same shapes, signs and integers,
and other numbers: an edit that gives the subject's output by chance on one does not on the other.
In all of them every row has the reference's tensor, so that each shows its own operations alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.isolation import IsolatedRows
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState, SubjectModel
from parity.explain.captures import round_to_float32
from parity.numerics.capture import CaptureReader, CaptureWriter
from parity.numerics.npz import load_npz, save_npz
from parity.processes.graph_requests import GraphRunRequest, TensorPoint

Array = NDArray[Any]

INPUTS = 2

_OWN = "own "
"""The prefix, in a capture, of a tensor in its model's own axes."""


@dataclass
class RegionRuns:
    """Runs the reference in float64 and one subject on both inputs, given the same tensors."""

    state: GraphState
    runner: GraphRunner
    layers: IsolatedRows
    subject: str
    _feeds: list[dict[str, Array]] = field(default_factory=list)
    _count: int = 0

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the rows whose tensors are the reference's in every run."""
        return tuple(point.row for point in self.layers.points[self.subject])

    def count_fed(self) -> int:
        """Return the number of values of the rows that every run is given."""
        return sum(math.prod(self.state.table.by_name(row).shape) for row in self.rows)

    def find_fed(self, name: str) -> frozenset[str]:
        """Return the tensors of a side that are the reference's, and the model's inputs."""
        graph = self._model(name).graph
        tensors = (self.state.table.by_name(row).tensors[name].tensor for row in self.rows)
        return frozenset((*tensors, *(port.tensor for port in graph.inputs)))

    def read(
        self, name: str, tensors: Iterable[str], edits: Mapping[str, Sequence[Array]] | None = None
    ) -> tuple[dict[str, Array], ...]:
        """Return tensors of a side by id in its own axes, and the rows' by name, on both inputs.

        `edits` are tensors of this side that are replaced, in its own axes, by the values for each
        input. Raises the `ParityError` of a run.
        """
        found = []
        model = self._model(name)
        points = [self.state.table.by_name(row).tensors[name] for row in self.rows]
        edited = {} if edits is None else dict(edits)
        ports = {port.tensor: port.name for port in model.graph.inputs}
        captured = dict.fromkeys((*tensors, *edited))
        own = [TensorPoint(_OWN + each, each) for each in captured if each not in ports]
        for number in range(INPUTS):
            feed = dict(self._feed(number))
            feed |= {_OWN + t: values[number] for t, values in edited.items() if t not in ports}
            inputs = {ports[t]: values[number] for t, values in edited.items() if t in ports}
            # Of two points of one tensor the last one replaces it: that of an edit.
            path = self._run(name, model, number, (*points, *own), feed, inputs)
            with CaptureReader(path) as reader:
                values = {
                    each.tensor: reader.read(each.name) for each in own if each.name in reader
                }
                values |= {row: reader.read(row) for row in self.rows if row in reader}
            path.unlink(missing_ok=True)
            found.append({key: np.asarray(value, np.float64) for key, value in values.items()})
        return tuple(found)

    def read_fed(self, name: str, number: int, *, without: str) -> dict[str, Array]:
        """Return the tensors of rows as every run is given them, in a side's own axes, by id.

        All but one of them; and the model's inputs.
        """
        model, feed = self._model(name), self._feed(number)
        found = {}
        for row in self.rows:
            point = self.state.table.by_name(row).tensors[name]
            shape = model.graph.tensors[point.tensor].shape
            if row in feed and point.tensor != without and feed[row].size == math.prod(shape):
                found[point.tensor] = np.asarray(point.invert(feed[row], shape), np.float64)
        for port in model.graph.inputs:
            value = model.inputs.arrays[port.name]
            value = change_numbers(value) if number else value
            found[port.tensor] = np.asarray(value, np.float64)
        return found

    def _model(self, name: str) -> SubjectModel:
        reference = self.state.reference
        return reference if name == reference.subject.name else self.state.models[name]

    def _feed(self, number: int) -> Mapping[str, Array]:
        """Return the rows' tensors, in the axes of the comparison, that every run is given."""
        if not self._feeds:
            with CaptureReader(self.layers.reference) as reader:
                first = {row: round_to_float32(reader.read(row).astype(np.float64))
                         for row in self.rows if row in reader}  # fmt: skip
            self._feeds = [first, {row: change_values(row, value) for row, value in first.items()}]
        return self._feeds[number]

    def _run(
        self,
        name: str,
        model: SubjectModel,
        number: int,
        points: Sequence[TensorPoint],
        feed: Mapping[str, Array],
        edited: Mapping[str, Array],
    ) -> Path:
        self._count += 1
        folder = self.runner.folder
        stem = f"region.{self.subject}.{name}.{self._count}"
        given, out = folder / f"{stem}.feed.safetensors", folder / f"{stem}.safetensors"
        inputs = model.input_file
        if number or edited:
            inputs = folder / f"{stem}.inputs.npz"
            arrays = load_npz(model.input_file)
            if number:
                arrays = {key: change_numbers(value) for key, value in arrays.items()}
            arrays |= {key: value.astype(arrays[key].dtype) for key, value in edited.items()}
            save_npz(inputs, arrays)
        with CaptureWriter(given, {}) as writer:
            for key, value in feed.items():
                writer.add(key, np.asarray(value, np.float64))
        is_reference = model is self.state.reference
        request = GraphRunRequest(
            inputs=str(inputs),
            points=tuple(points),
            out=str(out),
            feed=str(given),
            device="cpu" if is_reference else model.subject.device,
            precision="float64" if is_reference else self.state.request.precision,
        )
        self.runner.children[model.subject.child].call("run_graph", **request.to_json())
        given.unlink(missing_ok=True)
        if inputs != model.input_file:
            inputs.unlink(missing_ok=True)
        return out


def change_values(name: str, value: Array) -> Array:
    """Return a tensor of the same signs with other numbers, each smaller by a factor of its own.

    One of whole numbers, such as places or a mask, is returned as it is.
    """
    if _holds_integers(value):
        return value
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    factors = rng.uniform(0.5, 1.0, value.shape)
    return round_to_float32(np.where(np.isfinite(value), value, 0.0) * factors
                            + np.where(np.isfinite(value), 0.0, value))  # fmt: skip


def change_numbers(value: Array) -> Array:
    """Return an input with other numbers: those of both sides have the same, in any axes."""
    if value.dtype.kind != "f" or _holds_integers(value):
        return value
    wide = value.astype(np.float64)
    with np.errstate(invalid="ignore"):
        changed = wide * (0.75 + 0.25 * np.sin(1e3 * wide))
    return np.where(np.isfinite(wide), changed, wide).astype(value.dtype)


def _holds_integers(value: Array) -> bool:
    finite = value[np.isfinite(value)] if value.dtype.kind == "f" else value
    return bool(np.all(finite == np.round(finite)))
