"""The reference's float64 tensors by id, channels first, read from captures when needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.layout import channels_first
from parity.comparison.graphs.points import EXTRA, extra_points
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.network.alignment import infer_axes
from parity.numerics.capture import CaptureReader

Array = NDArray[Any]

MAX_KEPT = 2**27
"""Bytes of tensors that are kept once they are read: neighbours are read again and again."""


class ReferenceTensors(Mapping[str, Array]):
    """The tensors that the captures of one comparison hold; close it when the comparison ends."""

    def __init__(self, state: GraphState, runner: GraphRunner) -> None:
        self._state = state
        self._runner = runner
        self._places: dict[str, tuple[CaptureReader, str]] = {}
        self._kept: dict[str, Array] = {}
        self._opened = contextlib.ExitStack()
        self._runs = 0
        self._inputs = _read_inputs(state)

    def add_capture(self, path: Path) -> None:
        """Make the tensors of a capture in float64 known, of rows and of others."""
        reader = self._opened.enter_context(CaptureReader(path))
        name = self._state.reference.subject.name
        rows = {row.name: row.tensors[name].tensor for row in self._state.table.rows}
        for entry in reader.names:
            tensor = rows.get(entry) or entry.removeprefix(EXTRA)
            self._places.setdefault(tensor, (reader, entry))

    def require(self, tensors: Iterable[str]) -> None:
        """Run the reference once for those that no capture holds; raises a `ParityError`."""
        known = {*self._places, *self._inputs}
        missing = [tensor for tensor in dict.fromkeys(tensors) if tensor not in known]
        if missing:
            self._runs += 1
            points = extra_points(self._state.reference.graph, missing)
            label = f"explain{self._runs}"
            self.add_capture(self._runner.capture_reference((), label, points))

    def close(self) -> None:
        """Close the captures."""
        self._kept.clear()
        self._opened.close()

    def __getitem__(self, tensor: str) -> Array:
        if tensor in self._inputs:
            return self._inputs[tensor]
        if tensor not in self._kept:
            reader, entry = self._places[tensor]
            self._kept[tensor] = reader.read(entry).astype(np.float64, copy=False)
            size = sum(each.nbytes for each in self._kept.values())
            while size > MAX_KEPT and len(self._kept) > 1:
                size -= self._kept.pop(next(iter(self._kept))).nbytes
        return self._kept[tensor]

    def __contains__(self, tensor: object) -> bool:
        return tensor in self._places or tensor in self._inputs

    def __iter__(self) -> Iterator[str]:
        yield from self._inputs
        yield from self._places

    def __len__(self) -> int:
        return len(self._inputs) + len(self._places)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor, which is not read for it."""
        if tensor in self._inputs:
            return tuple(self._inputs[tensor].shape)
        reader, entry = self._places[tensor]
        return reader.shape(entry)


def _read_inputs(state: GraphState) -> dict[str, Array]:
    graph, inputs = state.reference.graph, state.reference.inputs
    axes = infer_axes(graph)
    found = {}
    for port in graph.inputs:
        value = np.asarray(inputs.arrays[port.name], np.float64)
        for rearrangement in channels_first(axes.get(port.tensor, "")):
            value = np.asarray(rearrangement.apply(value), np.float64)
        found[port.tensor] = value
    return found
