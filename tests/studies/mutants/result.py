"""What the tool said of one mutant, and whether it was right."""

from __future__ import annotations

from dataclasses import dataclass

from tests.studies.mutants.plan import NAMELESS


@dataclass(frozen=True)
class Result:
    """One mutant: what it was, and what the tool said of it."""

    model: str
    subject: str
    fault: str
    rows: tuple[str, ...]
    detected: bool
    located: bool | None
    """None for a fault of the whole graph, which has no place."""
    answers: tuple[tuple[str, str], ...]
    """The layers and the causes that were told of them."""
    wanted: tuple[tuple[str, tuple[str, ...]], ...]
    """By row that has a fault, the causes that may name it."""
    seconds: float
    nameable: bool = True
    """Whether there is a cause to be named."""
    isolate: bool = True
    """Whether it was judged with `--isolate`; the default is without."""
    told: tuple[str, ...] = ()
    by: str = "numerics"
    """The level that saw it; empty if none did."""
    hidden: str | None = None
    """Why nothing can see it, where that is known beforehand."""
    faintest: float | None = None
    """The smallest isolated error, in floors, of the layers that were explained."""

    @property
    def detectable(self) -> bool:
        return self.hidden is None

    @property
    def causes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cause for _, cause in self.answers))

    @property
    def named(self) -> bool | None:
        """Whether every row has a right cause, and none a wrong one; None if there is none to name.

        Of one row alone, structure may tell the cause of another layer: where is another count.
        """
        if not self.nameable:
            return None
        right = [(row, cause) for row, causes in self.wanted for cause in causes]
        if len(self.rows) == 1:
            return bool(self.causes) and set(self.causes) <= {cause for _, cause in right}
        rows = {row for row, _ in self.answers}
        return rows == set(self.rows) and set(self.answers) <= set(right)

    @property
    def unexplained(self) -> bool | None:
        """Whether it is said that nothing explains it; None where something does."""
        if {cause for _, causes in self.wanted for cause in causes} != NAMELESS or self.nameable:
            return None
        return set(self.causes) == NAMELESS

    @property
    def misnamed(self) -> bool:
        """Whether a cause was told that is not there, of whatever layer."""
        wanted = {row: set(causes) for row, causes in self.wanted}
        every = set().union(*wanted.values())
        return any(cause not in wanted.get(row, every) | NAMELESS for row, cause in self.answers)
