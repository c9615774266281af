"""The report's verdict and its JSON form."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from parity.comparison.levels import judge_points
from parity.errors import OutputError, UsageError
from parity.numerics.verdict import Status, SubjectResult
from parity.report import formats
from parity.report.codec import from_json, to_json
from parity.report.formats import json as report_json
from parity.report.model import (
    LEVELS,
    Level,
    Outcome,
    SubjectFacts,
    Verdict,
    decide_verdict,
)
from tests.report.samples import RUNTIMES, SAMPLES, full, parity, stage

SCHEMA = json.loads(files("parity.report").joinpath("schema/report-v1.json").read_text())
PASSING = {name: Level(Outcome.PASS) for name in LEVELS}
STAGE = stage("stem", 1e-6)


def valid(data: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


@pytest.mark.parametrize("sample", SAMPLES)
def test_json_is_valid_and_comes_back(sample: str) -> None:
    report = SAMPLES[sample]()
    text = json.dumps(to_json(report), allow_nan=False)
    assert valid(json.loads(text))
    assert to_json(from_json(json.loads(text))) == to_json(report)
    assert report.verdict == sample


def test_everything_comes_back_equal() -> None:
    assert from_json(to_json(full())) == full()
    assert from_json(to_json(parity())) == parity()


def test_an_older_report_is_read() -> None:
    data = to_json(full())
    for key in SCHEMA["properties"].keys() - set(SCHEMA["required"]) - {"limit", "depth", "notes"}:
        del data[key]
    for each in data["stages"]:
        del each["isolated"], each["isolated_floor"]
    assert valid(data)
    report = from_json(data)
    assert report.profile is None
    assert report.stages[0].isolated == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("profile", "spatial"), [[0.0] * 65]),
        (("profile", "channels"), [-1.0]),
        (("decision", "top1", "keras"), 1.5),
        (("repeat", "differed", "keras"), 0.5),
        (("spread", "stem"), [1.0]),
        (("divergences", 0, "subject"), None),
        (("stages", 0, "isolated", "keras", "status"), "fine"),
        (("command",), "parity compare"),
    ],
)
def test_schema_refuses_a_wrong_value(path: tuple[Any, ...], value: Any) -> None:
    data = to_json(full())
    assert valid(data)
    parent: Any = data
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    assert not valid(data)


@pytest.mark.parametrize("field", SCHEMA["required"])
def test_a_report_without_a_field_is_refused(field: str) -> None:
    data = to_json(parity())
    del data[field]
    assert not valid(data)
    with pytest.raises(UsageError, match=field):
        from_json(data)


@pytest.mark.parametrize(
    "path",
    [("stages", 0, "floor"), ("stages", 0, "subjects", "keras", "x_floor"), ("levels", "weights")],
)
def test_schema_refuses_a_report_without_an_inner_field(path: tuple[Any, ...]) -> None:
    data = to_json(parity())
    parent: Any = data
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    assert not valid(data)


def test_figures_that_are_not_finite_are_null() -> None:
    report = SAMPLES["divergence"]()
    result = to_json(report)["stages"][4]["subjects"]["onnx-keras"]
    assert result["max_abs"] is None
    assert result["x_floor"] is None
    assert result["worst"] == {"index": [0, 0, 0, 0], "actual": "nan", "expected": 0.25}


def test_first_divergence_names_cut_and_all_subjects() -> None:
    first = to_json(SAMPLES["divergence"]())["first_divergence"]
    assert first == {
        "subject": "keras",
        "stage": "stage1",
        "layer": None,
        "cut": "stage1",
        "subjects": ["keras", "onnx-keras"],
    }


def test_parity_needs_every_subject_at_every_cut() -> None:
    assert decide_verdict(subjects=RUNTIMES, levels=PASSING, stages=[STAGE]) is Verdict.PARITY
    absent = dataclasses.replace(STAGE, subjects={"keras": STAGE.subjects["keras"]})
    assert decide_verdict(subjects=RUNTIMES, levels=PASSING, stages=[absent]) is Verdict.UNKNOWN
    missing = stage("stem", 1e-6, wrong={"torch": SubjectResult(Status.MISSING)})
    assert decide_verdict(subjects=RUNTIMES, levels=PASSING, stages=[missing]) is Verdict.UNKNOWN


def test_nothing_compared_is_unknown() -> None:
    assert decide_verdict(subjects=RUNTIMES, levels=PASSING, stages=[]) is Verdict.UNKNOWN
    assert decide_verdict(subjects={}, levels=PASSING, stages=[STAGE]) is Verdict.UNKNOWN
    assert judge_points([]).outcome is Outcome.SKIPPED


@pytest.mark.parametrize("level", LEVELS)
def test_a_failed_level_is_divergence(level: str) -> None:
    levels = PASSING | {level: Level(Outcome.FAIL)}
    assert decide_verdict(subjects=RUNTIMES, levels=levels, stages=[STAGE]) is Verdict.DIVERGENCE


@pytest.mark.parametrize("status", [Status.DIVERGED, Status.NON_FINITE])
def test_a_difference_outranks_what_could_not_be_run(status: Status) -> None:
    failed = RUNTIMES | {"torch": SubjectFacts("torch", "cpu", failure="died")}
    wrong = stage("stem", 1e-6, wrong={"keras": SubjectResult(status)})
    assert decide_verdict(subjects=failed, levels=PASSING, stages=[STAGE]) is Verdict.UNKNOWN
    assert decide_verdict(subjects=failed, levels=PASSING, stages=[wrong]) is Verdict.DIVERGENCE
    assert judge_points([wrong]).outcome is Outcome.FAIL


def test_exit_codes() -> None:
    assert [verdict.exit_code for verdict in Verdict] == [0, 1, 3]


def test_file_round_trip(tmp_path: Any) -> None:
    formats.write_report(parity(), tmp_path / "report.json")
    assert to_json(report_json.read(tmp_path / "report.json")) == to_json(parity())
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_unwritable_file_is_one_line(tmp_path: Any) -> None:
    with pytest.raises(OutputError, match="no folder"):
        formats.write_report(parity(), tmp_path / "absent" / "report.json")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": "parity.report/2"}', '{"schema": "parity.report/1"}'],
)
def test_foreign_file_is_refused(tmp_path: Any, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="report"):
        report_json.read(path)
