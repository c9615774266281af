"""The values that parts of one comparison wait for: each a future, set once."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity.comparison.request import Side
from parity.comparison.state import ReferenceRun
from parity.network.inputs import Input
from parity.network.table import LayerTable
from parity.processes import futures, registry


@dataclass(frozen=True)
class PendingValues:
    """Whatever one part of the work gives to others.

    A part that fails hands its error to all who wait for it, so that nobody waits for ever.
    """

    table: Future[LayerTable] = field(default_factory=Future)
    input: Future[Input] = field(default_factory=Future)
    weights: Future[Path] = field(default_factory=Future)
    raw_weights: Future[Path] = field(default_factory=Future)
    """Random weights whose batch-norm statistics have not been calibrated."""
    weights_sha256: Future[str] = field(default_factory=Future)
    reference: Future[ReferenceRun] = field(default_factory=Future)
    graphs: dict[Side, Future[Path]] = field(
        default_factory=lambda: {side: Future() for side in registry.model_runtimes()}
    )

    def fail_all(self, error: BaseException) -> None:
        """Hand an error to everybody who waits for anything."""
        waiting: list[Future[Any]] = [self.input, *self.graphs.values()]
        for future in waiting:
            futures.set_error_if_pending(future, error)
        self.fail_reference(error)

    def fail_reference(self, error: BaseException) -> None:
        """Hand an error to those who wait for what the reference's model gives."""
        waiting: list[Future[Any]] = [
            self.table, self.weights, self.raw_weights, self.weights_sha256, self.reference,
        ]  # fmt: skip
        for future in waiting:
            futures.set_error_if_pending(future, error)
