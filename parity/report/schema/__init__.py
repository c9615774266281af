"""The JSON report ``parity.report/1``: a pydantic model for each data class, and the schema file.

A model has the fields of its data class under the same names, with the types and bounds that hold
in JSON; what a field means is documented there. Importing this package loads pydantic, so only
reading and writing JSON does it (``parity.report.codec``). ``python -m parity.report.schema``
writes the schema file anew.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from parity.numerics import floor as floors
from parity.numerics import verdict as verdicts
from parity.report import model as reports

NAME: Literal["parity.report/1"] = "parity.report/1"

FILE = Path(__file__).with_name("report-v1.json")

_TITLE = "parity report, version 1"

_DESCRIPTION = (
    "Fields are added within version 1, never renamed or dropped. Shapes and indices are NCHW, "
    "batch first. `pairs` are keyed `a|b`. JSON has no infinity: a figure that does not exist, or "
    "is not finite, is null."
)


def _validate_figure(value: object, validate: ValidatorFunctionWrapHandler) -> float:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return math.inf
    return float(validate(value))


def _validate_value(value: object, validate: ValidatorFunctionWrapHandler) -> float:
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return float(validate(value))


# Pydantic would take "3" and true for numbers.
Number = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
Shape = tuple[Count, ...]

Figure = Annotated[
    Number,
    Field(ge=0),
    WrapValidator(_validate_figure),
    PlainSerializer(lambda figure: figure if math.isfinite(figure) else None),
    WithJsonSchema({"type": ["number", "null"], "minimum": 0}),
]
"""A measured number, infinite where it does not exist; there JSON has null."""

Value = Annotated[
    Number,
    WrapValidator(_validate_value),
    PlainSerializer(lambda value: value if math.isfinite(value) else str(value)),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}),
]
"""An element of a tensor: a number, or "nan", "inf" or "-inf"."""


class Form(BaseModel):
    """The JSON form of a data class, which `data` is; other keys are ignored."""

    model_config = ConfigDict(from_attributes=True, allow_inf_nan=False, frozen=True)

    data: ClassVar[type]

    def build(self) -> Any:
        """Return the data class with these values."""
        return self.data(**self.values())

    def values(self) -> dict[str, Any]:
        """Return the fields by name, every form among them as its data class."""
        return {name: _build(getattr(self, name)) for name in type(self).model_fields}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        found = handler.resolve_ref_schema(schema)
        found["description"] = _unwrap(inspect.getdoc(cls.data) or "")
        for name, description in attribute_docstrings(cls.data).items():
            if name in found["properties"]:
                found["properties"][name].setdefault("description", description)
        return schema


def _build(value: Any) -> Any:
    if isinstance(value, Form):
        return value.build()
    if isinstance(value, tuple):
        return tuple(map(_build, value))
    if isinstance(value, Mapping):
        return {key: _build(each) for key, each in value.items()}
    return value


class InputFacts(Form):
    data = reports.InputFacts

    kind: str
    shape: Shape
    sha256: str
    source: str = ""


class WeightFacts(Form):
    data = reports.WeightFacts

    sha256: str
    parameters: Count
    source: str = ""


class SubjectFacts(Form):
    data = reports.SubjectFacts

    runtime: str
    device: str
    precision: str
    judged_as: str | None = None
    backend: str | None = None
    flags: Mapping[str, Any]
    seconds: Mapping[str, Number]
    failure: str | None = None
    proof: Mapping[str, Any] = {}


class Levels(BaseModel):
    """How each of the four levels ended; what there is to say about it is among the notes."""

    structure: reports.Outcome
    weights: reports.Outcome
    semantics: reports.Outcome
    numerics: reports.Outcome


class Note(BaseModel):
    """A remark on the level that it names, or on the whole comparison."""

    level: str | None
    message: str


class Floor(Form):
    data = floors.Floor

    rel_l2: Annotated[Number, Field(ge=floors.ROUNDOFF)]
    max_abs: Annotated[Number, Field(ge=0)]
    replicates: Count
    scale: Number
    raised: Annotated[Number, Field(ge=1)] = 1.0


class Worst(BaseModel):
    """Where in a tensor a subject is furthest off, and the two values there."""

    index: Shape
    actual: Value
    expected: Value


class SubjectResult(Form):
    data = verdicts.SubjectResult

    max_abs: Figure
    rel_l2: Figure
    x_floor: Figure
    x_floor_max: Figure
    status: verdicts.Status
    worst: Worst | None = None
    wrong: Count = 0
    message: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _nest_worst(cls, given: object) -> object:
        if not isinstance(given, verdicts.SubjectResult):
            return given
        values = {name: getattr(given, name) for name in cls.model_fields}
        if given.worst is not None:
            point = {"index": given.worst, "actual": given.actual, "expected": given.expected}
            values["worst"] = point
        return values

    def values(self) -> dict[str, Any]:
        point = self.worst
        return super().values() | {
            "worst": point and point.index,
            "actual": point and point.actual,
            "expected": point and point.expected,
        }


class PairResult(Form):
    data = verdicts.PairResult

    max_abs: Figure
    rel_l2: Figure


class StageResult(Form):
    data = verdicts.StageResult

    name: str
    stage: str
    row: str
    shape: Shape
    floor: Floor | None
    subjects: Mapping[str, SubjectResult]
    pairs: Mapping[str, PairResult]
    isolated: Mapping[str, SubjectResult] = {}
    isolated_floor: Floor | None = None


class FirstDivergence(Form):
    data = verdicts.FirstDivergence

    subject: str
    stage: str
    layer: str | None
    cut: str
    subjects: tuple[str, ...]


class Cause(Form):
    data = reports.Cause

    layer: str
    subject: str
    cause: str
    evidence: Mapping[str, Number]
    message: str


class Profile(Form):
    data = reports.Profile

    stage: str
    row: str
    subject: str
    shape: Shape
    spatial: Annotated[
        tuple[Annotated[tuple[Figure, ...], Field(max_length=64)], ...], Field(max_length=64)
    ]
    floor_max: Annotated[Number, Field(ge=0)]
    channels: Annotated[tuple[Figure, ...], Field(max_length=4096)]


class Decision(Form):
    data = reports.Decision

    top1: Mapping[str, Annotated[Number, Field(ge=0, le=1)]]
    top5: Mapping[str, Annotated[Number, Field(ge=0, le=1)]]
    margin: Annotated[Number, Field(ge=0)]
    worst_ratio: Mapping[str, Figure]


class Repeat(Form):
    data = reports.Repeat

    runs: Count
    differed: Mapping[str, Count]


class Trial(Form):
    data = reports.Trial

    name: str
    shape: Shape
    status: verdicts.Status
    subject: str | None
    stage: str | None
    x_floor: Figure
    x_floor_max: Figure


class Report(Form):
    data = reports.Report

    # `schema` would hide a method of pydantic's models.
    schema_name: Annotated[Literal["parity.report/1"], Field(alias="schema")]
    verdict: reports.Verdict
    model: str
    reference: str
    input: InputFacts
    weights: WeightFacts
    subjects: Mapping[str, SubjectFacts]
    levels: Levels
    stages: tuple[StageResult, ...]
    first_divergence: FirstDivergence | None
    causes: tuple[Cause, ...]
    environment: Mapping[str, Any]
    seconds: Annotated[Number, Field(ge=0)]
    limit: Annotated[Number, Field(gt=0)] = verdicts.LIMIT
    depth: Literal["stage", "block", "layer"] = "stage"
    notes: tuple[Note, ...] = ()
    divergences: tuple[FirstDivergence, ...] = ()
    blame: tuple[str, ...] = ()
    profile: Profile | None = None
    decision: Decision | None = None
    repeat: Repeat | None = None
    spread: Mapping[str, tuple[Figure, Figure]] = {}
    trials: tuple[Trial, ...] = ()
    command: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _fold_levels(cls, given: object) -> object:
        """Give each level its outcome alone, and its messages to the notes."""
        if not isinstance(given, reports.Report):
            return given
        values = {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
        values["schema"] = NAME
        values["levels"] = {name: level.outcome for name, level in given.levels.items()}
        values["notes"] = (
            *({"level": None, "message": note} for note in given.notes),
            *(
                {"level": name, "message": message}
                for name, level in given.levels.items()
                for message in level.messages
            ),
        )
        return values

    def values(self) -> dict[str, Any]:
        values = super().values() | {
            "levels": {
                name: reports.Level(
                    outcome, tuple(note.message for note in self.notes if note.level == name)
                )
                for name, outcome in self.levels
            },
            "notes": tuple(note.message for note in self.notes if note.level is None),
        }
        del values["schema_name"]
        return values


def text() -> str:
    """Return the schema file: JSON Schema 2020-12, generated from the models."""
    found = Report.model_json_schema(schema_generator=_Generator)
    definitions = found.pop("$defs")
    head = {"$schema": _Generator.schema_dialect, "title": _TITLE, "description": _DESCRIPTION}
    whole = head | found | head | {"$defs": definitions}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Without a title for each field, which would repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def attribute_docstrings(cls: type) -> dict[str, str]:
    """Return, by name, what a class says under each of its attributes, each on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node, after in itertools.pairwise(definition.body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[node.target.id] = _unwrap(inspect.cleandoc(after.value.value))
    return found


def _unwrap(docstring: str) -> str:
    return " ".join(docstring.split())
