"""The values that parts of a comparison wait for: futures, each set once."""

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
    """The values that one part of the work produces for other parts.

    A part that fails sets its error in the futures that others wait for, so that no part waits
    for ever.
    """

    table: Future[LayerTable] = field(default_factory=Future)
    input: Future[Input] = field(default_factory=Future)
    weights: Future[Path] = field(default_factory=Future)
    raw_weights: Future[Path] = field(default_factory=Future)
    """Random weights before the calibration of batch-norm statistics."""
    weights_sha256: Future[str] = field(default_factory=Future)
    reference: Future[ReferenceRun] = field(default_factory=Future)
    graphs: dict[Side, Future[Path]] = field(
        default_factory=lambda: {side: Future() for side in registry.model_runtimes()}
    )

    def fail_all(self, error: BaseException) -> None:
        """Set an error in every unset future."""
        pending: list[Future[Any]] = [self.input, *self.graphs.values()]
        for future in pending:
            futures.set_error_if_pending(future, error)
        self.fail_reference_model_values(error)

    def fail_reference_model_values(self, error: BaseException) -> None:
        """Set an error in every unset future that the reference's model sets."""
        pending: list[Future[Any]] = [
            self.table, self.weights, self.raw_weights, self.weights_sha256, self.reference,
        ]  # fmt: skip
        for future in pending:
            futures.set_error_if_pending(future, error)
