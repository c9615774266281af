"""What the cache's entries depend on: a traced structure, and a model's random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.comparison.request import Request, Side
from parity.network.spec import ModelSpec
from parity.network.table import LayerTable
from parity.processes import cache, probe, registry
from parity.processes.interpreters import interpreter_of, is_own_interpreter


def graph_facts(
    spec: ModelSpec, side: Side, opset: int | None, *, python: str | None = None
) -> dict[str, Any]:
    """All that decides the structure that an exporter traces, in the interpreter `python`."""
    if is_own_interpreter(python):
        versions = cache.package_versions(registry.get(side).export_packages)
    else:
        versions = dict(probe.probe_interpreter(side, python).versions)
    return {
        "side": side,
        "spec": spec.to_json(),
        "opset": opset,
        "versions": versions,
        "source": cache.source_digest(
            "exporters",
            f"parity/network/models/{spec.family}",
            "parity/network/table.py",
            "parity/network/rows.py",
            f"parity/runtimes/{side}",
        ),
    }


def weight_facts(spec: ModelSpec, seed: int) -> dict[str, Any]:
    """All that decides the random weights of a model."""
    source = cache.source_digest(
        "parity/network/weights.py",
        "parity/network/inputs.py",
        f"parity/network/models/{spec.family}",
    )
    return {"spec": spec.to_json(), "seed": seed, "source": source}


@dataclass(frozen=True)
class Kept:
    """Where one comparison of a registered model finds, or leaves, what later runs can use."""

    request: Request
    folder: Path
    """For what is not to be kept."""

    def graph(self, side: Side) -> Path:
        """The structure that this side's exporter traces."""
        assert self.request.spec is not None
        python = interpreter_of(self.request.home(side), self.request.python)
        facts = graph_facts(self.request.spec, side, self.request.opset, python=python)
        return self._entry("graphs", ".onnx", facts)

    def weights(self) -> Path:
        """The seeded random weights, calibrated."""
        assert self.request.spec is not None
        facts = weight_facts(self.request.spec, self.request.seed)
        return self._entry("weights", ".safetensors", facts)

    def _entry(self, kind: str, suffix: str, facts: dict[str, Any]) -> Path:
        return cache.entry_or(self.folder, kind, suffix, facts, cached=self.request.cache)


def tap_names(table: LayerTable, side: str) -> dict[str, str]:
    """{tensor name: layer} of every row that both models have, as the exporters take it."""
    return {table.tensor_name(row): getattr(row, side) for row in table.ends("layer").values()}
