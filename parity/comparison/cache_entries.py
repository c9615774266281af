"""Cache entries of a comparison: traced graph structures and calibrated random weights."""

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


def graph_key(
    spec: ModelSpec, side: Side, opset: int | None, *, python: str | None = None
) -> dict[str, Any]:
    """Return the cache key of the structure that an exporter traces in interpreter `python`."""
    return {
        "side": side,
        "spec": spec.to_json(),
        "opset": opset,
        "source": probe.source_digest(),
        "exporter": _describe_interpreter(side, python),
    }


def weights_key(
    spec: ModelSpec, seed: int, side: Side, *, python: str | None = None
) -> dict[str, Any]:
    """Return the cache key of random weights: drawn here, calibrated by `side` in `python`."""
    return {
        "side": side,
        "spec": spec.to_json(),
        "seed": seed,
        "source": probe.source_digest(),
        "numpy": np.__version__,
        "calibrator": _describe_interpreter(side, python),
    }


@functools.cache
def _describe_interpreter(side: Side, python: str | None) -> dict[str, Any]:
    """Return an interpreter's versions of Python, NumPy, framework and `parity`, and its source."""
    facts = probe.probe_interpreter(side, python)
    return {
        "parity": facts.parity,
        "source": facts.source,
        "python": facts.python,
        "numpy": facts.numpy,
        "versions": dict(facts.versions),
    }


@dataclass(frozen=True)
class ComparisonCache:
    """The cache entries of one comparison of a registered model."""

    request: Request
    cache: Cache

    def find_graph(self, side: Side) -> Path | None:
        """Return the structure that this side's exporter traces, or None."""
        return self.cache.find("graphs", self._graph_key(side)) if self.cache.enabled else None

    def store_graph(self, side: Side, file: Path) -> Path:
        """Move a structure into the cache, and return its new path."""
        if not self.cache.enabled:
            return file
        return self.cache.publish("graphs", self._graph_key(side), file)

    def find_weights(self) -> Path | None:
        """Return the calibrated random weights, or None."""
        return self.cache.find("weights", self._weights_key()) if self.cache.enabled else None

    def store_weights(self, file: Path) -> Path:
        """Move calibrated weights into the cache, and return their new path."""
        if not self.cache.enabled:
            return file
        return self.cache.publish("weights", self._weights_key(), file)

    def _graph_key(self, side: Side) -> dict[str, Any]:
        request = self.request
        assert request.spec is not None
        return graph_key(request.spec, side, request.opset, python=self._python(side))

    def _weights_key(self) -> dict[str, Any]:
        request = self.request
        assert request.spec is not None
        side = request.reference_side
        return weights_key(request.spec, request.seed, side, python=self._python(side))

    def _python(self, side: Side) -> str | None:
        return select_interpreter(self.request.home_child(side), self.request.python)


def build_tap_names(table: LayerTable, side: str) -> dict[str, str]:
    """Return {tensor name: layer} for every row that both models have, as exporters expect it."""
    return {table.tensor_name(row): getattr(row, side) for row in table.last_rows("layer").values()}
