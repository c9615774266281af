"""The JSON report ``parity.report/1``: a pydantic model for each data class, and the schema file.

A model has the fields of its data class, with the types and bounds that hold in JSON. An alias
gives the JSON name of a field that the data class names otherwise. The data class documents the
fields. Importing this package loads pydantic, so only ``parity.report.codec`` imports it, to read
or write JSON. ``python -m parity.report.schema`` writes the schema file.
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
TensorShape = tuple[Count, ...]
TensorIndex = tuple[Count, ...]

Figure = Annotated[
    Number,
    Field(ge=0),
    WrapValidator(_validate_figure),
    PlainSerializer(lambda figure: figure if math.isfinite(figure) else None),
    WithJsonSchema({"type": ["number", "null"], "minimum": 0}),
]
"""A measured number: infinite where it does not exist, null in JSON."""

Value = Annotated[
    Number,
    WrapValidator(_validate_value),
    PlainSerializer(lambda value: value if math.isfinite(value) else str(value)),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}),
]
"""An element of a tensor: a number, or "nan", "inf" or "-inf"."""


class JsonModel(BaseModel):
    """The JSON form of the data class `data`; unknown keys are ignored."""

    model_config = ConfigDict(from_attributes=True, allow_inf_nan=False, frozen=True)

    data: ClassVar[type]

    def build(self) -> Any:
        """Return an instance of the data class."""
        return self.data(**self.values())

    def values(self) -> dict[str, Any]:
        """Return the fields by the data class's names, nested models as their data classes."""
        return {name: _build(getattr(self, name)) for name in type(self).model_fields}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        definition = handler.resolve_ref_schema(schema)
        definition["description"] = _unwrap(inspect.getdoc(cls.data) or "")
        for name, description in read_attribute_docstrings(cls.data).items():
            if name in cls.model_fields:
                key = cls.model_fields[name].alias or name
                definition["properties"][key].setdefault("description", description)
        return schema


def _build(value: Any) -> Any:
    if isinstance(value, JsonModel):
        return value.build()
    if isinstance(value, tuple):
        return tuple(map(_build, value))
    if isinstance(value, Mapping):
        return {key: _build(each) for key, each in value.items()}
    return value


class InputFacts(JsonModel):
    data = reports.InputFacts

    kind: str
    shape: TensorShape
    sha256: str
    source: str = ""


class WeightFacts(JsonModel):
    data = reports.WeightFacts

    sha256: str
    parameters: Count
    source: str = ""


class SubjectFacts(JsonModel):
    data = reports.SubjectFacts

    runtime: str
    device: str
    precision: str
    judged_as: str | None = None
    backend: str | None = None
    flags: Mapping[str, Any]
    seconds: Mapping[str, Number]
    failure: str | None = None
    file: str = ""
    proof: Mapping[str, Any] = {}


class Levels(BaseModel):
    """The outcome of each of the four levels; their messages are among the notes."""

    structure: reports.Outcome
    weights: reports.Outcome
    semantics: reports.Outcome
    numerics: reports.Outcome


class Note(BaseModel):
    """A remark on one level, or on the whole comparison where `level` is null."""

    level: str | None
    message: str


class Floor(JsonModel):
    data = floors.Floor

    rel_l2: Annotated[Number, Field(ge=floors.ROUNDOFF)]
    max_abs: Annotated[Number, Field(ge=0)]
    replicates: Count
    scale: Number
    raised: Annotated[Number, Field(ge=1)] = 1.0


class Worst(BaseModel):
    """The index of a subject's largest error in a tensor, and the two values there."""

    index: TensorIndex
    actual: Value
    expected: Value


class SubjectResult(JsonModel):
    data = verdicts.SubjectResult

    max_abs: Figure
    rel_l2: Figure
    x_floor: Figure
    x_floor_max: Figure
    status: verdicts.Status
    worst: Worst | None = None
    wrong: Count = 0
    left_out: Count = 0
    message: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _nest_worst(cls, source: object) -> object:
        if not isinstance(source, verdicts.SubjectResult):
            return source
        values = {name: getattr(source, name) for name in cls.model_fields}
        if source.worst is not None:
            values["worst"] = {
                "index": source.worst,
                "actual": source.actual,
                "expected": source.expected,
            }
        return values

    def values(self) -> dict[str, Any]:
        worst = self.worst
        return super().values() | {
            "worst": worst and worst.index,
            "actual": worst and worst.actual,
            "expected": worst and worst.expected,
        }


class PairResult(JsonModel):
    data = verdicts.PairResult

    max_abs: Figure
    rel_l2: Figure


class PointResult(JsonModel):
    data = verdicts.PointResult

    name: str
    stage: str
    row: str
    shape: TensorShape
    floor: Floor | None
    subjects: Mapping[str, SubjectResult]
    pairs: Mapping[str, PairResult]
    isolated: Mapping[str, SubjectResult] = {}
    isolated_floor: Floor | None = None


class FirstDivergence(JsonModel):
    data = verdicts.FirstDivergence

    subject: str
    stage: str
    layer: str | None
    point: Annotated[str, Field(alias="cut")]
    subjects: tuple[str, ...]

    @model_validator(mode="before")
    @classmethod
    def _use_json_names(cls, source: object) -> object:
        if not isinstance(source, verdicts.FirstDivergence):
            return source
        fields = cls.model_fields.items()
        return {field.alias or name: getattr(source, name) for name, field in fields}


class Cause(JsonModel):
    data = reports.Cause

    layer: str
    subject: str
    cause: str
    evidence: Mapping[str, Number]
    message: str
    remedy: str = ""


class ErrorMap(JsonModel):
    data = reports.ErrorMap

    stage: str
    row: str
    subject: str
    shape: TensorShape
    spatial: Annotated[
        tuple[Annotated[tuple[Figure, ...], Field(max_length=64)], ...], Field(max_length=64)
    ]
    floor_max: Annotated[Number, Field(ge=0)]
    channels: Annotated[tuple[Figure, ...], Field(max_length=4096)]


class LabelAgreement(JsonModel):
    data = reports.LabelAgreement

    top1: Mapping[str, Annotated[Number, Field(ge=0, le=1)]]
    top5: Mapping[str, Annotated[Number, Field(ge=0, le=1)]]
    margin: Annotated[Number, Field(ge=0)]
    worst_ratio: Mapping[str, Figure]


class Prediction(JsonModel):
    data = reports.Prediction

    index: Count
    probability: Annotated[Number, Field(ge=0, le=1)]
    name: str = ""


class Repeatability(JsonModel):
    data = reports.Repeatability

    runs: Count
    differed: Mapping[str, Count]


class InputTrial(JsonModel):
    data = reports.InputTrial

    name: str
    shape: TensorShape
    status: verdicts.Status
    subject: str | None
    stage: str | None
    x_floor: Figure
    x_floor_max: Figure


class PairedLayer(JsonModel):
    data = reports.PairedLayer

    kind: str
    shape: TensorShape
    places: Mapping[str, str]
    inputs: Mapping[str, tuple[Count, ...]] = {}
    confidence: Mapping[str, str] = {}
    point: str = ""


class Report(JsonModel):
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
    stages: tuple[PointResult, ...]
    first_divergence: FirstDivergence | None
    causes: tuple[Cause, ...]
    environment: Mapping[str, Any]
    seconds: Annotated[Number, Field(ge=0)]
    limit: Annotated[Number, Field(gt=0)] = verdicts.LIMIT
    depth: Literal["stage", "block", "layer"] = "stage"
    notes: tuple[Note, ...] = ()
    divergences: tuple[FirstDivergence, ...] = ()
    attribution: Annotated[tuple[str, ...], Field(alias="blame")] = ()
    profile: ErrorMap | None = None
    decision: LabelAgreement | None = None
    predictions: Mapping[str, Prediction] = {}
    class_names: str = ""
    repeat: Repeatability | None = None
    spread: Mapping[str, tuple[Figure, Figure]] = {}
    trials: tuple[InputTrial, ...] = ()
    locations: Mapping[str, Mapping[str, str]] = {}
    layers: tuple[PairedLayer, ...] = ()
    command: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _fold_levels(cls, source: object) -> object:
        """Reduce each level to its outcome, and move its messages to the notes."""
        if not isinstance(source, reports.Report):
            return source
        values = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
        values["schema"] = NAME
        values["blame"] = values.pop("attribution")
        values["levels"] = {name: level.outcome for name, level in source.levels.items()}
        values["notes"] = (
            *({"level": None, "message": note} for note in source.notes),
            *(
                {"level": name, "message": message}
                for name, level in source.levels.items()
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


def generate_schema() -> str:
    """Return the schema file: JSON Schema 2020-12, generated from the models."""
    report = Report.model_json_schema(schema_generator=_Generator)
    definitions = report.pop("$defs")
    head = {"$schema": _Generator.schema_dialect, "title": _TITLE, "description": _DESCRIPTION}
    whole = head | report | head | {"$defs": definitions}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Omits the title of each field, which would repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def read_attribute_docstrings(cls: type) -> dict[str, str]:
    """Return the docstrings below a class's attributes by attribute, each on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    docstrings = {}
    for node, after in itertools.pairwise(definition.body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docstrings[node.target.id] = _unwrap(inspect.cleandoc(after.value.value))
    return docstrings


def _unwrap(docstring: str) -> str:
    return " ".join(docstring.split())
