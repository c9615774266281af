"""The JSON models against the data classes, the schema file, and reports that are malformed."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydantic
import pytest

from parity.errors import OutputError, UsageError
from parity.report import schema
from parity.report.codec import from_json, to_json
from parity.report.formats import json as report_json
from tests.report.samples import full, parity

FORMS = schema.JsonModel.__subclasses__()

NESTED = {"SubjectResult": {"actual", "expected"}}
"""Fields of a data class that are within another field in JSON."""


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The full report as JSON data, with another value at `path`."""
    data: dict[str, Any] = copy.deepcopy(to_json(full()))
    parent: Any = data
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return data


@pytest.mark.skipif(
    tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 11),
    reason="older releases write the same schema with 0.0 for 0",
)
def test_the_schema_file_is_the_generated_one() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.generate_schema(), (
        "run python -m parity.report.schema"
    )


def test_the_command_writes_the_schema_file(tmp_path: Path) -> None:
    target = tmp_path / "schema.json"
    code = (
        "import runpy, pathlib, parity.report.schema as schema;"
        f"schema.FILE = pathlib.Path({str(target)!r});"
        "runpy.run_module('parity.report.schema.__main__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert target.read_text(encoding="utf-8") == schema.generate_schema()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_form_has_the_fields_of_its_data_class(form: type[schema.JsonModel]) -> None:
    names = set(form.model_fields) - {"schema_name"}
    fields = {field.name for field in dataclasses.fields(form.data)}
    assert names == fields - NESTED.get(form.__name__, set())
    assert form.__name__ == form.data.__name__


def test_json_keys_outlive_renamed_fields() -> None:
    data = to_json(full())
    assert data["blame"] == list(full().attribution)
    assert [each["cut"] for each in data["divergences"]] == ["stage1", "stage3"]
    assert "attribution" not in data
    assert "point" not in data["divergences"][0]
    assert from_json(data).divergences == full().divergences


def test_a_field_is_described_as_in_its_data_class() -> None:
    found = json.loads(schema.generate_schema())
    assert found["properties"]["blame"]["description"].startswith(
        "Sentences that attribute a difference"
    )
    ratio = found["$defs"]["LabelAgreement"]["properties"]["worst_ratio"]
    assert ratio["description"].endswith("from 1 on a label can change.")
    assert found["$defs"]["Cause"]["description"].startswith("Why a layer differs")
    assert found["title"] == "parity report, version 1"


def test_attribute_docstrings_are_those_under_an_attribute() -> None:
    found = schema.read_attribute_docstrings(schema.reports.SubjectFacts)
    assert set(found) == {"file", "judged_as", "proof"}
    assert "\n" not in found["proof"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("verdict",), "maybe", "verdict: expected 'parity', 'divergence' or 'unknown', found"),
        (("schema",), "parity.report/2", "expected schema parity.report/1, found 'parity.report/2"),
        (("seconds",), "9", "seconds: expected a valid number, found '9'"),
        (("seconds",), True, "seconds: expected a valid number, found True"),
        (("seconds",), float("nan"), "seconds: expected a finite number, found nan"),
        (("seconds",), 10**400, "seconds: expected a valid number"),
        (("model",), 3, "model: expected a valid string, found 3"),
        (("weights", "parameters"), 2.0, "weights.parameters: expected a valid integer"),
        (("input", "shape"), [1, "3"], r"input.shape\[1\]: expected a valid integer, found '3'"),
        (("input", "shape"), [1, -3], r"input.shape\[1\]: expected at least 0, found -3"),
        (("input",), [], r"input: expected an object, found \[\]"),
        (("levels", "weights"), "ok", "levels.weights: expected 'pass', 'fail' or 'skipped'"),
        (("stages",), "x", "stages: expected an array, found 'x'"),
        (("stages", 0), None, r"stages\[0\]: expected an object, found None"),
        (("stages", 0, "floor", "rel_l2"), 0.0, r"stages\[0\].floor.rel_l2: expected at least"),
        (("stages", 0, "floor", "raised"), 0.5, r"stages\[0\].floor.raised: expected at least 1"),
        (("stages", 1, "subjects", "keras", "status"), "fine", "subjects.keras.status: expected"),
        (("stages", 1, "subjects", "keras", "max_abs"), "nan", "keras.max_abs: expected a valid"),
        (("stages", 1, "subjects", "keras", "worst", "actual"), "1.5", "worst.actual: expected"),
        (("stages", 1, "subjects", "keras", "worst"), [1], "keras.worst: expected an object"),
        (("trials", 0, "x_floor"), -1.0, r"trials\[0\].x_floor: expected at least 0, found -1.0"),
        (("decision", "top1", "keras"), 1.5, "decision.top1.keras: expected at most 1, found 1.5"),
        (("profile", "spatial"), [[0.0] * 65], r"spatial\[0\]: expected at most 64 items"),
        (("spread", "stem"), [1.0], "spread.stem"),
        (("notes",), [{"level": None}], r"the field 'notes\[0\].message' is missing"),
        (("environment",), [], "environment: expected an object"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_path_to_it(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        from_json(changed(path, value))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["ke\nras\x1b[31m", "x" * 10**5, "\u202e", "a\u2028b"])
def test_a_hostile_name_is_shown_short_and_escaped(name: str) -> None:
    for data in (changed(("subjects", name), {}), changed(("subjects", name), 3)):
        with pytest.raises(UsageError) as caught:
            from_json(data)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


def test_several_wrong_values_are_counted() -> None:
    data = changed(("seconds",), "9") | {"model": 3, "command": "parity"}
    with pytest.raises(UsageError, match=r"model: .* \(and 2 more\)$"):
        from_json(data)


def test_a_field_that_a_later_release_added_is_ignored() -> None:
    data = changed(("later",), 1)
    data["stages"][0]["later"] = data["input"]["later"] = {"a": 1}
    assert from_json(data) == full()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**5,
        '{"a":' * 10**5,
        '{"schema": "parity.report/1", "environment": ' + '{"a":' * 10**5,
        '{"schema": "parity.report/1", "seconds": NaN}',
        '{"schema": "parity.report/1", "seconds": ' + "9" * 10**4 + "}",
        '{"schema": "parity.report/1", "model": "\\ud800"}',
        '{"schema": "parity.report/1", "model": "\x00"}',
        "\ufeff{}",
    ],
)
def test_a_hostile_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        report_json.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 300 + len(str(path))


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not JSON"):
        report_json.read(path)


def test_data_nested_too_deeply_is_one_line() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10**5):
        deep = {"a": deep}
    with pytest.raises(UsageError, match="nested too deeply"):
        from_json(to_json(parity()) | {"environment": deep})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seconds": math.inf},
            "cannot be written as JSON: malformed: seconds: expected a finite number",
        ),
        (
            {"model": 3},
            "cannot be written as JSON: malformed: model: expected a valid string, found 3",
        ),
        ({"environment": {"a": object()}}, "cannot be written as JSON: "),
    ],
)
def test_a_report_that_is_no_json_is_not_written(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        report_json.render(dataclasses.replace(parity(), **changes))
