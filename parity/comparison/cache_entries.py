"""What the cache's entries depend on: a traced structure, and a model's random weights."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison.request import Request, Side
from parity.network.spec import ModelSpec
from parity.network.table import LayerTable
from parity.processes import probe
from parity.processes.cache import Cache
from parity.processes.interpreters import select_interpreter


def graph_facts(
    spec: ModelSpec, side: Side, opset: int | None, *, python: str | None = None
) -> dict[str, Any]:
    """All that decides the structure that an exporter traces, in the interpreter `python`."""
    return {
        "side": side,
        "spec": spec.to_json(),
        "opset": opset,
        "source": probe.source_digest(),
        "traced by": _interpreter(side, python),
    }


def weight_facts(
    spec: ModelSpec, seed: int, side: Side, *, python: str | None = None
) -> dict[str, Any]:
    """All that decides a model's random weights: drawn here, calibrated by `side` in `python`."""
    return {
        "side": side,
        "spec": spec.to_json(),
        "seed": seed,
        "source": probe.source_digest(),
        "numpy": np.__version__,
        "calibrated by": _interpreter(side, python),
    }


@functools.cache
def _interpreter(side: Side, python: str | None) -> dict[str, Any]:
    """Versions of Python, NumPy, the framework and `parity` in an interpreter, and its source."""
    found = probe.probe_interpreter(side, python)
    return {
        "parity": found.parity,
        "source": found.source,
        "python": found.python,
        "numpy": found.numpy,
        "versions": dict(found.versions),
    }


@dataclass(frozen=True)
class Kept:
    """What one comparison of a registered model takes from the cache, and leaves there."""

    request: Request
    cache: Cache

    def graph(self, side: Side) -> Path | None:
        """The structure that this side's exporter traces, if it is there."""
        return self.cache.find("graphs", self._graph_facts(side)) if self.cache.enabled else None

    def keep_graph(self, side: Side, made: Path) -> Path:
        """Leave a structure to later runs; where it lies then."""
        if not self.cache.enabled:
            return made
        return self.cache.publish("graphs", self._graph_facts(side), made)

    def weights(self) -> Path | None:
        """The seeded random weights, calibrated, if they are there."""
        return self.cache.find("weights", self._weight_facts()) if self.cache.enabled else None

    def keep_weights(self, made: Path) -> Path:
        """Leave calibrated weights to later runs; where they lie then."""
        if not self.cache.enabled:
            return made
        return self.cache.publish("weights", self._weight_facts(), made)

    def _graph_facts(self, side: Side) -> dict[str, Any]:
        request = self.request
        assert request.spec is not None
        return graph_facts(request.spec, side, request.opset, python=self._python(side))

    def _weight_facts(self) -> dict[str, Any]:
        request = self.request
        assert request.spec is not None
        side = request.reference_side
        return weight_facts(request.spec, request.seed, side, python=self._python(side))

    def _python(self, side: Side) -> str | None:
        return select_interpreter(self.request.home(side), self.request.python)


def tap_names(table: LayerTable, side: str) -> dict[str, str]:
    """{tensor name: layer} of every row that both models have, as the exporters take it."""
    return {table.tensor_name(row): getattr(row, side) for row in table.ends("layer").values()}
