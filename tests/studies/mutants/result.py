"""The result of one mutant: what the comparison reported, and whether that was right."""

from __future__ import annotations

from dataclasses import dataclass

from tests.studies.mutants.plan import NAMELESS


@dataclass(frozen=True)
class Result:
    """One mutant, and what the comparison reported of it."""

    model: str
    subject: str
    fault: str
    rows: tuple[str, ...]
    detected: bool
    located: bool | None
    """Whether exactly the faulty rows were reported; None for a fault of the whole graph."""
    answers: tuple[tuple[str, str], ...]
    """The reported causes, each with its layer."""
    expected: tuple[tuple[str, tuple[str, ...]], ...]
    """By row that has a fault, the causes that may name it."""
    seconds: float
    nameable: bool = True
    """Whether there is a cause to be named."""
    isolate: bool = True
    """Whether it was judged with `--isolate`; the default is without."""
    messages: tuple[str, ...] = ()
    by: str = "numerics"
    """The level that detected it; empty if none did."""
    undetectable: str | None = None
    """Why nothing can detect it, if that is known beforehand."""
    faintest: float | None = None
    """The smallest isolated error, in floors, of the layers that were explained."""

    @property
    def detectable(self) -> bool:
        """Whether it is not declared undetectable."""
        return self.undetectable is None

    @property
    def causes(self) -> tuple[str, ...]:
        """The reported causes, each once."""
        return tuple(dict.fromkeys(cause for _, cause in self.answers))

    @property
    def named(self) -> bool | None:
        """Whether every row has a right cause, and none a wrong one; None if there is none to name.

        Of one row alone, structure may report the cause at another layer: `located` counts places.
        """
        if not self.nameable:
            return None
        correct = [(row, cause) for row, causes in self.expected for cause in causes]
        if len(self.rows) == 1:
            return bool(self.causes) and set(self.causes) <= {cause for _, cause in correct}
        rows = {row for row, _ in self.answers}
        return rows == set(self.rows) and set(self.answers) <= set(correct)

    @property
    def unexplained(self) -> bool | None:
        """Whether it was reported as not explained; None if a cause does explain it."""
        if {cause for _, causes in self.expected for cause in causes} != NAMELESS or self.nameable:
            return None
        return set(self.causes) == NAMELESS

    @property
    def misnamed(self) -> bool:
        """Whether a cause was reported that no layer has."""
        expected = {row: set(causes) for row, causes in self.expected}
        every = set().union(*expected.values())
        return any(cause not in expected.get(row, every) | NAMELESS for row, cause in self.answers)
