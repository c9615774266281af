"""The report as JSON data, version 1 of DESIGN.md, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from parity.errors import UsageError
from parity.numerics.floor import Floor
from parity.numerics.verdict import FirstDivergence, PairResult, StageResult, Status, SubjectResult
from parity.report.model import (
    Cause,
    Decision,
    InputFacts,
    Level,
    Outcome,
    Profile,
    Repeat,
    Report,
    SubjectFacts,
    Trial,
    Verdict,
    WeightFacts,
)

SCHEMA = "parity.report/1"


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
        "divergences": [_plain(asdict(each)) for each in report.divergences],
        "blame": list(report.blame),
        "profile": None if report.profile is None else _profile_to_json(report.profile),
        "decision": None if report.decision is None else _decision_to_json(report.decision),
        "repeat": None if report.repeat is None else asdict(report.repeat),
        "spread": {name: list(map(_finite, ends)) for name, ends in report.spread.items()},
        "trials": [
            {
                **asdict(trial),
                "shape": list(trial.shape),
                "status": trial.status.value,
                "x_floor": _finite(trial.x_floor),
                "x_floor_max": _finite(trial.x_floor_max),
            }
            for trial in report.trials
        ],
        "command": list(report.command),
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
        first_divergence=None if first is None else _divergence(first),
        causes=tuple(Cause(**cause) for cause in data["causes"]),
        environment=data["environment"],
        seconds=data["seconds"],
        limit=data["limit"],
        depth=data["depth"],
        notes=tuple(note["message"] for note in notes if note["level"] is None),
        **_later(data),
    )


def _later(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields that reports of version 0.1.0 do not have."""
    profile, decision, repeat = (data.get(key) for key in ("profile", "decision", "repeat"))
    return {
        "divergences": tuple(_divergence(each) for each in data.get("divergences", ())),
        "blame": tuple(data.get("blame", ())),
        "profile": None if profile is None else _profile_from_json(profile),
        "decision": None if decision is None else _decision_from_json(decision),
        "repeat": None if repeat is None else Repeat(repeat["runs"], repeat["differed"]),
        "spread": {
            name: (_figure(low), _figure(high))
            for name, (low, high) in data.get("spread", {}).items()
        },
        "trials": tuple(_trial(trial) for trial in data.get("trials", ())),
        "command": tuple(data.get("command", ())),
    }


def _trial(data: Mapping[str, Any]) -> Trial:
    return Trial(
        name=data["name"],
        shape=tuple(data["shape"]),
        status=Status(data["status"]),
        subject=data["subject"],
        stage=data["stage"],
        x_floor=_figure(data["x_floor"]),
        x_floor_max=_figure(data["x_floor_max"]),
    )


def _divergence(data: Mapping[str, Any]) -> FirstDivergence:
    return FirstDivergence(**{**data, "subjects": tuple(data["subjects"])})


def _profile_to_json(profile: Profile) -> dict[str, Any]:
    return {
        **_plain(asdict(profile)),
        "spatial": [[_finite(error) for error in line] for line in profile.spatial],
        "channels": [_finite(error) for error in profile.channels],
    }


def _profile_from_json(data: Mapping[str, Any]) -> Profile:
    return Profile(
        stage=data["stage"],
        row=data["row"],
        subject=data["subject"],
        shape=tuple(data["shape"]),
        spatial=tuple(tuple(map(_figure, line)) for line in data["spatial"]),
        floor_max=data["floor_max"],
        channels=tuple(map(_figure, data["channels"])),
    )


def _decision_to_json(decision: Decision) -> dict[str, Any]:
    ratios = {name: _finite(ratio) for name, ratio in decision.worst_ratio.items()}
    return {**asdict(decision), "worst_ratio": ratios}


def _decision_from_json(data: Mapping[str, Any]) -> Decision:
    ratios = {name: _figure(ratio) for name, ratio in data["worst_ratio"].items()}
    return Decision(data["top1"], data["top5"], data["margin"], ratios)


def _stage_to_json(stage: StageResult) -> dict[str, Any]:
    return {
        "name": stage.name,
        "stage": stage.stage,
        "row": stage.row,
        "shape": list(stage.shape),
        "floor": _floor_to_json(stage.floor),
        "subjects": {name: _subject_to_json(result) for name, result in stage.subjects.items()},
        "pairs": {
            name: {"max_abs": _finite(pair.max_abs), "rel_l2": _finite(pair.rel_l2)}
            for name, pair in stage.pairs.items()
        },
        "isolated": {name: _subject_to_json(result) for name, result in stage.isolated.items()},
        "isolated_floor": _floor_to_json(stage.isolated_floor),
    }


def _floor_to_json(floor: Floor | None) -> dict[str, Any] | None:
    return None if floor is None else floor.to_json()


def _floor_from_json(data: Mapping[str, Any] | None) -> Floor | None:
    return None if data is None else Floor.from_json(data)


def _stage_from_json(data: Mapping[str, Any]) -> StageResult:
    return StageResult(
        name=data["name"],
        stage=data["stage"],
        row=data["row"],
        shape=tuple(data["shape"]),
        floor=_floor_from_json(data["floor"]),
        subjects={name: _subject_from_json(result) for name, result in data["subjects"].items()},
        pairs={
            name: PairResult(_figure(pair["max_abs"]), _figure(pair["rel_l2"]))
            for name, pair in data["pairs"].items()
        },
        isolated={
            name: _subject_from_json(result) for name, result in data.get("isolated", {}).items()
        },
        isolated_floor=_floor_from_json(data.get("isolated_floor")),
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
