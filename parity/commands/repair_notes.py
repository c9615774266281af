"""What is left to change by hand, each once, and what is left of the differences, in sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

from parity.comparison.results import Outcome
from parity.explain.repair.plan import ModelRepair
from parity.report.model import Report


@dataclass
class _Note:
    text: str
    places: list[str]


@dataclass
class ManualChanges:
    """The changes that are proved and could not be written; one cause at one line is one."""

    _notes: dict[tuple[str, str], _Note] = field(default_factory=dict)

    def add(self, planned: ModelRepair, failure: str = "") -> None:
        """Note a repair; `failure` says what became of the one change that there was."""
        repair = planned.repair
        line = f" ({planned.line})" if planned.line else ""
        said = f"{repair.text}. {repair.remedy}".removesuffix(". ")
        key = repair.cause, planned.line or said
        note = self._notes.setdefault(key, _Note(f"{repair.cause}: {said}{line}{failure}", []))
        if planned.place not in note.places:
            note.places.append(planned.place)

    def describe(self) -> tuple[str, ...]:
        """Return a sentence for each, with how many more layers it is about."""
        return tuple(_describe(each) for each in self._notes.values())


def _describe(note: _Note) -> str:
    where = f"{note.places[0]}: " if note.places[0] else ""
    others = len(note.places) - 1
    more = f" (and so {others} more layer{'s' if others > 1 else ''})" if others else ""
    return f"{where}{note.text}{more}"


def describe_rest(report: Report) -> str:
    """Return what is left of the differences, in one sentence."""
    for failed in report.subjects.values():
        if failed.failure:
            return failed.failure
    unexplained = [each for each in report.causes if each.cause == "not-explained"]
    if unexplained:
        layers = ", ".join(each.layer for each in unexplained[:3])
        more = f" and {len(unexplained) - 3} more" if len(unexplained) > 3 else ""
        return f"no cause is proved for {layers}{more}"
    first = report.first_divergence
    if first is not None:
        return f"the models differ first at {first.layer or first.point}"
    messages = [m for level in report.levels.values() if level.outcome is Outcome.FAIL
                for m in level.messages]  # fmt: skip
    return messages[0] if messages else "the models differ"
