"""The report: everything that one comparison found, as data, and its JSON form, version 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from parity.verdict import (
    LIMIT,
    FirstDivergence,
    PairResult,
    StageResult,
    Status,
    SubjectResult,
)
from parity.errors import UsageError
from parity.floor import Floor

SCHEMA = "parity.report/1"

LEVELS = ("structure", "weights", "semantics", "numerics")


class Verdict(StrEnum):
    """The answer, each with the exit code it ends the command with."""

    PARITY = "parity"
    DIVERGENCE = "divergence"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        return {"parity": 0, "divergence": 1, "unknown": 3}[self.value]


class Outcome(StrEnum):
    """How one of the four levels ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Level:
    """One level of parity, and what there is to say about it."""

    outcome: Outcome
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The input that was compared on; ``shape`` is NCHW."""

    kind: str
    shape: tuple[int, ...]
    sha256: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """The weights that every subject was given."""

    sha256: str
    parameters: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """What a subject ran on; ``failure`` says why it could not be run, if it could not."""

    runtime: str
    device: str
    precision: str = "float32"
    backend: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a layer differs, and the errors in floors that prove it."""

    layer: str
    subject: str
    cause: str
    evidence: Mapping[str, float]
    message: str


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


def numerics(stages: Sequence[StageResult]) -> Level:
    """Return the level that the stages alone decide: a pass needs every subject at every cut."""
    statuses = [result.status for stage in stages for result in stage.subjects.values()]
    if any(status in (Status.DIVERGED, Status.NON_FINITE) for status in statuses):
        return Level(Outcome.FAIL)
    if statuses and all(status.passes for status in statuses):
        return Level(Outcome.PASS)
    missing = statuses.count(Status.MISSING)
    reason = f"{missing} of {len(statuses)} comparisons could not be made"
    return Level(Outcome.SKIPPED, (reason if statuses else "nothing was compared",))


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
    compared = numerics(stages).outcome
    if compared is Outcome.FAIL:
        return Verdict.DIVERGENCE
    absent = any(name not in stage.subjects for stage in stages for name in subjects)
    failed = not subjects or any(facts.failure for facts in subjects.values())
    if absent or failed or compared is not Outcome.PASS:
        return Verdict.UNKNOWN
    return Verdict.PARITY


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON data of schema ``parity.report/1`` (DESIGN.md).

    JSON has no infinity: a figure that does not exist, or is not finite, is ``null``.
    """
    first = report.first_divergence
    return {
        "schema": SCHEMA,
        "verdict": report.verdict.value,
        "model": report.model,
        "reference": report.reference,
        "input": _plain(asdict(report.input)),
        "weights": asdict(report.weights),
        "subjects": {name: asdict(facts) for name, facts in report.subjects.items()},
        "levels": {name: level.outcome.value for name, level in report.levels.items()},
        "stages": [_stage_to_json(stage) for stage in report.stages],
        "first_divergence": None if first is None else _plain(asdict(first)),
        "causes": [asdict(cause) for cause in report.causes],
        "environment": dict(report.environment),
        "seconds": report.seconds,
        "limit": report.limit,
        "depth": report.depth,
        "notes": [
            *({"level": None, "message": note} for note in report.notes),
            *(
                {"level": name, "message": message}
                for name, level in report.levels.items()
                for message in level.messages
            ),
        ],
    }


def from_json(data: Mapping[str, Any]) -> Report:
    """Rebuild what ``to_json`` gave. Raises UsageError for another schema or a missing field."""
    if data.get("schema") != SCHEMA:
        raise UsageError(f"report: expected schema {SCHEMA}, found {data.get('schema')}")
    try:
        return _from_json(data)
    except KeyError as error:
        raise UsageError(f"report: the field {error.args[0]!r} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"report: malformed: {error}") from error


def _from_json(data: Mapping[str, Any]) -> Report:
    first = data["first_divergence"]
    notes = data["notes"]
    return Report(
        verdict=Verdict(data["verdict"]),
        model=data["model"],
        reference=data["reference"],
        input=InputFacts(**{**data["input"], "shape": tuple(data["input"]["shape"])}),
        weights=WeightFacts(**data["weights"]),
        subjects={name: SubjectFacts(**facts) for name, facts in data["subjects"].items()},
        levels={
            name: Level(
                Outcome(outcome),
                tuple(note["message"] for note in notes if note["level"] == name),
            )
            for name, outcome in data["levels"].items()
        },
        stages=tuple(_stage_from_json(stage) for stage in data["stages"]),
        first_divergence=None
        if first is None
        else FirstDivergence(**{**first, "subjects": tuple(first["subjects"])}),
        causes=tuple(Cause(**cause) for cause in data["causes"]),
        environment=data["environment"],
        seconds=data["seconds"],
        limit=data["limit"],
        depth=data["depth"],
        notes=tuple(note["message"] for note in notes if note["level"] is None),
    )


def _stage_to_json(stage: StageResult) -> dict[str, Any]:
    return {
        "name": stage.name,
        "stage": stage.stage,
        "row": stage.row,
        "shape": list(stage.shape),
        "floor": None if stage.floor is None else stage.floor.to_json(),
        "subjects": {name: _subject_to_json(result) for name, result in stage.subjects.items()},
        "pairs": {
            name: {"max_abs": _finite(pair.max_abs), "rel_l2": _finite(pair.rel_l2)}
            for name, pair in stage.pairs.items()
        },
    }


def _stage_from_json(data: Mapping[str, Any]) -> StageResult:
    return StageResult(
        name=data["name"],
        stage=data["stage"],
        row=data["row"],
        shape=tuple(data["shape"]),
        floor=None if data["floor"] is None else Floor.from_json(data["floor"]),
        subjects={name: _subject_from_json(result) for name, result in data["subjects"].items()},
        pairs={
            name: PairResult(_figure(pair["max_abs"]), _figure(pair["rel_l2"]))
            for name, pair in data["pairs"].items()
        },
    )


def _subject_to_json(result: SubjectResult) -> dict[str, Any]:
    worst = None
    if result.worst is not None:
        worst = {
            "index": list(result.worst),
            "actual": _value(result.actual),
            "expected": _value(result.expected),
        }
    return {
        "max_abs": _finite(result.max_abs),
        "rel_l2": _finite(result.rel_l2),
        "x_floor": _finite(result.x_floor),
        "x_floor_max": _finite(result.x_floor_max),
        "status": result.status.value,
        "worst": worst,
        "wrong": result.wrong,
        "message": result.message,
    }


def _subject_from_json(data: Mapping[str, Any]) -> SubjectResult:
    worst = data["worst"]
    return SubjectResult(
        status=Status(data["status"]),
        max_abs=_figure(data["max_abs"]),
        rel_l2=_figure(data["rel_l2"]),
        x_floor=_figure(data["x_floor"]),
        x_floor_max=_figure(data["x_floor_max"]),
        worst=None if worst is None else tuple(worst["index"]),
        actual=None if worst is None else float(worst["actual"]),
        expected=None if worst is None else float(worst["expected"]),
        wrong=data["wrong"],
        message=data["message"],
    )


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


def _finite(figure: float) -> float | None:
    return figure if math.isfinite(figure) else None


def _figure(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _value(value: float | None) -> float | str | None:
    """Return a tensor's value: a number, or "nan", "inf" or "-inf"."""
    return value if value is None or math.isfinite(value) else str(value)
