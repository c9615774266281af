"""What makes a report of a bisection bad: its verdict, or a figure that has grown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from parity.comparison.results import Outcome, Verdict
from parity.errors import ChildError, UsageError
from parity.report import wording
from parity.report.model import Report
from parity.text import quote

FACTOR = 2.0
"""How many times the good one's figure a figure may be."""

GOOD, BAD, SKIPPED = "good", "bad", "skipped"
"""The outcomes of a trial; one that could not be compared is skipped."""


class Judge(Protocol):
    """Decides whether a report is good or bad; the good end's report is given to it first."""

    def judge(self, report: Report) -> tuple[str, str]:
        """Return the outcome and the reason in a few words."""

    def locate(self, report: Report) -> tuple[str, str]:
        """Return the subject and the layer or stage that makes a report bad."""


class VerdictJudge:
    """Bad is a divergence."""

    def judge(self, report: Report) -> tuple[str, str]:
        if report.verdict is Verdict.UNKNOWN:
            failures = [
                f"{n}: {facts.failure}" for n, facts in report.subjects.items() if facts.failure
            ]
            return SKIPPED, (failures or [wording.describe_verdict(report)])[0]
        outcome = BAD if report.verdict is Verdict.DIVERGENCE else GOOD
        return outcome, wording.describe_verdict(report)

    def locate(self, report: Report) -> tuple[str, str]:
        first = report.first_divergence
        if first is None:
            return _find_failing_layer(report)
        return first.subject, first.layer or first.stage


def _find_failing_layer(report: Report) -> tuple[str, str]:
    """Return the subject and the layer that the message of a failed level names.

    A difference of structure may be too small for this input to show it.
    """
    for level in report.levels.values():
        for message in level.messages if level.outcome is Outcome.FAIL else ():
            for layer in report.layers:
                for subject, place in reversed(list(layer.places.items())):
                    if place in message:
                        return subject, place.partition(" (")[0]
    return ", ".join(report.subjects), ""


class FigureJudge:
    """Bad is a subject's `x_floor` that is more than `FACTOR` times the one of the good end."""

    def __init__(self, subject: str | None) -> None:
        self._subject = subject
        self._good: dict[tuple[str, str], float] | None = None

    def judge(self, report: Report) -> tuple[str, str]:
        figures = self._read(report)
        if self._good is None:
            self._good = figures
            return GOOD, f"the largest is {max(figures.values()):.3g} floors"
        lost = [key for key in self._good if key not in figures]
        if lost:
            return SKIPPED, f"no figure of {lost[0][0]} at {lost[0][1]}"
        grown = self._find_grown(figures)
        if grown is None:
            return GOOD, f"the largest is {max(figures.values()):.3g} floors"
        subject, stage = grown
        before, after = self._good[grown], figures[grown]
        return BAD, f"{subject} at {stage}: {before:.3g} → {after:.3g} floors"

    def locate(self, report: Report) -> tuple[str, str]:
        subject, stage = self._find_grown(self._read(report)) or ("", "")
        first = report.first_divergence
        if first is not None and first.subject == subject and first.layer:
            return subject, first.layer
        return subject, stage

    def _read(self, report: Report) -> dict[tuple[str, str], float]:
        """Return the figure by subject and stage, in the order of the stages."""
        if self._subject is not None and self._subject not in report.subjects:
            raise UsageError(
                f"--figure: no subject is called {quote(self._subject)}; "
                f"there are: {', '.join(report.subjects)}"
            )
        figures = {
            (subject, stage.name): result.x_floor
            for stage in report.stages
            for subject, result in stage.subjects.items()
            if self._subject in (None, subject)
        }
        if not figures:
            raise ChildError("nothing was compared, so that there is no figure")
        return figures

    def _find_grown(self, figures: Mapping[tuple[str, str], float]) -> tuple[str, str] | None:
        """Return the first subject and stage whose figure is too large; None if none is."""
        good = self._good or {}
        for key, figure in figures.items():
            # Written so that a NaN is bad. What was exact may become as large as rounding.
            if key in good and not figure <= FACTOR * (good[key] or 1.0):
                return key
        return None
