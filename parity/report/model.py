"""The report: everything that one comparison found, as data, and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from parity.comparison.levels import numerics_level
from parity.comparison.results import (
    LEVELS,
    Decision,
    InputFacts,
    Level,
    Outcome,
    Profile,
    Repeat,
    SubjectFacts,
    Trial,
    WeightFacts,
)
from parity.explain.cause import Cause
from parity.numerics.verdict import LIMIT, FirstDivergence, StageResult

__all__ = [
    "LEVELS",
    "Cause",
    "Decision",
    "InputFacts",
    "Level",
    "Outcome",
    "Profile",
    "Repeat",
    "Report",
    "SubjectFacts",
    "Trial",
    "Verdict",
    "WeightFacts",
    "conclude",
]


class Verdict(StrEnum):
    """The answer, each with the exit code it ends the command with."""

    PARITY = "parity"
    DIVERGENCE = "divergence"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        return {"parity": 0, "divergence": 1, "unknown": 3}[self.value]


@dataclass(frozen=True, slots=True)
class Report:
    """One comparison, complete: what DESIGN.md's JSON report holds."""

    verdict: Verdict
    model: str
    reference: str
    input: InputFacts
    weights: WeightFacts
    subjects: Mapping[str, SubjectFacts]
    levels: Mapping[str, Level]
    stages: tuple[StageResult, ...]
    first_divergence: FirstDivergence | None
    causes: tuple[Cause, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    limit: float = LIMIT
    depth: str = "stage"
    notes: tuple[str, ...] = ()
    divergences: tuple[FirstDivergence, ...] = ()
    """Every diverging subject's own first layer, one entry a subject."""
    blame: tuple[str, ...] = ()
    """Sentences that say where a difference enters: framework, exporter or runtime."""
    profile: Profile | None = None
    decision: Decision | None = None
    repeat: Repeat | None = None
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By comparison point, the least and largest ``x_floor`` over the seeded inputs."""
    trials: tuple[Trial, ...] = ()
    """The same comparison on seeded and stress inputs."""
    command: tuple[str, ...] = ()
    """The arguments that make this comparison again, the program's name first."""


def conclude(
    *,
    subjects: Mapping[str, SubjectFacts],
    levels: Mapping[str, Level],
    stages: Sequence[StageResult],
) -> Verdict:
    """Return the verdict: parity only if all that ran passes and every subject was compared.

    A difference that was found stays found, whatever else could not be run. ``unknown`` is left
    for a comparison that found none but is not complete: a subject that failed to run, a row that
    a subject lacks, or nothing compared at all.
    """
    if any(level.outcome is Outcome.FAIL for level in levels.values()):
        return Verdict.DIVERGENCE
    compared = numerics_level(stages).outcome
    if compared is Outcome.FAIL:
        return Verdict.DIVERGENCE
    absent = any(name not in stage.subjects for stage in stages for name in subjects)
    failed = not subjects or any(facts.failure for facts in subjects.values())
    if absent or failed or compared is not Outcome.PASS:
        return Verdict.UNKNOWN
    return Verdict.PARITY
