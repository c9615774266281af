"""The report: the results of one comparison as data, and its verdict."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity.comparison.levels import judge_points
from parity.comparison.results import (
    LEVELS,
    ErrorMap,
    InputFacts,
    InputTrial,
    LabelAgreement,
    Level,
    Outcome,
    PairedLayer,
    Prediction,
    Repeatability,
    SubjectFacts,
    Verdict,
    WeightFacts,
)
from parity.explain.cause import Cause
from parity.numerics.verdict import LIMIT, FirstDivergence, PointResult

__all__ = [
    "LEVELS",
    "Cause",
    "ErrorMap",
    "InputFacts",
    "InputTrial",
    "LabelAgreement",
    "Level",
    "Outcome",
    "PairedLayer",
    "Prediction",
    "Repeatability",
    "Report",
    "SubjectFacts",
    "Verdict",
    "WeightFacts",
    "decide_verdict",
]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Report:
    """The complete report of one comparison, ``parity.report/1`` in JSON."""

    verdict: Verdict
    model: str
    reference: str
    input: InputFacts
    weights: WeightFacts
    subjects: Mapping[str, SubjectFacts]
    levels: Mapping[str, Level]
    stages: tuple[PointResult, ...]
    first_divergence: FirstDivergence | None
    causes: tuple[Cause, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    limit: float = LIMIT
    depth: str = "stage"
    notes: tuple[str, ...] = ()
    divergences: tuple[FirstDivergence, ...] = ()
    """The first differing layer of every diverging subject."""
    attribution: tuple[str, ...] = ()
    """Sentences that attribute a difference to a framework, an exporter or a runtime."""
    profile: ErrorMap | None = None
    decision: LabelAgreement | None = None
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    """By subject and `reference`, the most probable class of the first item, for a classifier."""
    class_names: str = ""
    """Where the names of the predicted classes are from; "" where none are known."""
    repeat: Repeatability | None = None
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By comparison point, the smallest and largest ``x_floor`` over the seeded inputs."""
    trials: tuple[InputTrial, ...] = ()
    """The same comparison on seeded and stress inputs."""
    locations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By layer that differs, where it is written: by subject, its path and source line."""
    layers: tuple[PairedLayer, ...] = ()
    """The operations of all models, in the reference's execution order, and which are a pair."""
    command: tuple[str, ...] = ()
    """The command line that repeats this comparison, the program's name first."""

    @property
    def ok(self) -> bool:
        """Whether the verdict is parity; a verdict of unknown is not."""
        return self.verdict is Verdict.PARITY

    def __bool__(self) -> bool:
        """Return `ok`, so that ``assert parity.compare(...)`` fails where there is no parity."""
        return self.ok

    def __str__(self) -> str:
        """Return three lines: the verdict, where and why."""
        # Imported late: the module imports this class.
        from parity.report import summary

        return summary.render_text(self)

    def save(self, path: str | Path) -> None:
        """Write the report in the format of the path's suffix: .html .json .xml .md.

        Raises `UsageError` for another suffix, `OutputError` if the file cannot be written.
        """
        _load("formats").write_report(self, path)
        if Path(path).suffix.lower() == ".html":
            _load("saved_pages").remember(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, that of the JSON report."""
        return dict(_load("codec").to_json(self))

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: the same lines, a table of the stages, a link to its page.

        The link is there once the report was saved as HTML.
        """
        # Imported late: both modules are of no use elsewhere.
        from parity.report import saved_pages, summary

        return summary.render_html(self, page=saved_pages.find(self))


def _load(name: str) -> Any:
    """Return a module of this package that reads this class, by its name as formats are found."""
    return importlib.import_module(f"{__package__}.{name}")


def decide_verdict(
    *,
    subjects: Mapping[str, SubjectFacts],
    levels: Mapping[str, Level],
    stages: Sequence[PointResult],
) -> Verdict:
    """Return the verdict: parity only if every level passes and every subject was compared.

    A difference gives ``divergence``, whatever else could not be run. ``unknown`` is the verdict of
    an incomplete comparison without a difference: a subject failed to run, a subject lacks a row,
    or nothing was compared.
    """
    if any(level.outcome is Outcome.FAIL for level in levels.values()):
        return Verdict.DIVERGENCE
    outcome = judge_points(stages).outcome
    if outcome is Outcome.FAIL:
        return Verdict.DIVERGENCE
    has_gaps = any(name not in stage.subjects for stage in stages for name in subjects)
    has_failures = not subjects or any(facts.failure for facts in subjects.values())
    if has_gaps or has_failures or outcome is not Outcome.PASS:
        return Verdict.UNKNOWN
    return Verdict.PARITY
