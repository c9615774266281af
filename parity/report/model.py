"""The report: everything that one comparison found, as data, and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.comparison.levels import judge_points
from parity.comparison.results import (
    LEVELS,
    ErrorProfile,
    InputFacts,
    InputTrial,
    LabelAgreement,
    Level,
    Outcome,
    Repeatability,
    SubjectFacts,
    Verdict,
    WeightFacts,
)
from parity.explain.cause import Cause
from parity.numerics.verdict import LIMIT, FirstDivergence, StageResult

__all__ = [
    "LEVELS",
    "Cause",
    "ErrorProfile",
    "InputFacts",
    "InputTrial",
    "LabelAgreement",
    "Level",
    "Outcome",
    "Repeatability",
    "Report",
    "SubjectFacts",
    "Verdict",
    "WeightFacts",
    "decide_verdict",
]


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
    attribution: tuple[str, ...] = ()
    """Sentences that say where a difference enters: framework, exporter or runtime."""
    profile: ErrorProfile | None = None
    decision: LabelAgreement | None = None
    repeat: Repeatability | None = None
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By comparison point, the least and largest ``x_floor`` over the seeded inputs."""
    trials: tuple[InputTrial, ...] = ()
    """The same comparison on seeded and stress inputs."""
    command: tuple[str, ...] = ()
    """The arguments that make this comparison again, the program's name first."""

    @property
    def ok(self) -> bool:
        """Whether the verdict is parity; a verdict of unknown is not."""
        return self.verdict is Verdict.PARITY

    def __bool__(self) -> bool:
        """Return `ok`, so that ``assert parity.compare(...)`` fails where there is no parity."""
        return self.ok

    def __str__(self) -> str:
        """Say in three lines what the verdict is, where and why."""
        # Imported late, since its words are about this class.
        from parity.report import summary

        return summary.render_text(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the same lines and a table of the stages."""
        from parity.report import summary

        return summary.render_html(self)


def decide_verdict(
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
    compared = judge_points(stages).outcome
    if compared is Outcome.FAIL:
        return Verdict.DIVERGENCE
    absent = any(name not in stage.subjects for stage in stages for name in subjects)
    failed = not subjects or any(facts.failure for facts in subjects.values())
    if absent or failed or compared is not Outcome.PASS:
        return Verdict.UNKNOWN
    return Verdict.PARITY
