"""The report of a training run: JSON `parity.training-report/1`, and a page.

Fields are added within version 1, never renamed or dropped.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from parity import files
from parity.comparison.results import Verdict
from parity.report import cause_pages, templates, wording
from parity.training.run_verification import step_to_json
from parity.training.wording import (
    describe_band,
    describe_verification,
    tabulate_verification,
)

if TYPE_CHECKING:
    from parity.training.callbacks import EpochMetrics
    from parity.training.history import Band
    from parity.training.verification import VerifiedStep

SCHEMA = "parity.training-report/1"

SCHEMA_FILE = Path(__file__).with_name("schema") / "training-report-v1.json"


class TrainedFramework(Protocol):
    """One framework's finished run."""

    @property
    def framework(self) -> str: ...
    @property
    def epochs(self) -> tuple[EpochMetrics, ...]: ...
    @property
    def best_epoch(self) -> int: ...
    @property
    def best_accuracy(self) -> float: ...
    @property
    def stopped_epoch(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def images(self) -> int: ...


class Training(Protocol):
    """A finished run: `parity.TrainingResult`."""

    @property
    def model(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def frameworks(self) -> Sequence[TrainedFramework]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def verified_steps(self) -> tuple[VerifiedStep, ...]: ...
    @property
    def band(self) -> Band | None: ...
    @property
    def inside_band(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def agrees(self) -> bool: ...
    @property
    def is_undetermined(self) -> bool: ...


def verdict(training: Training) -> str:
    """Return "parity", "divergence", "undetermined", or "not compared"."""
    if not training.verified_steps:
        return "not compared"
    if training.is_undetermined:
        return "undetermined"
    return "parity" if training.agrees else "divergence"


def to_json(training: Training) -> dict[str, Any]:
    """Return the report as JSON data; a figure that is not finite is null."""
    band = training.band
    data = {
        "schema": SCHEMA,
        "verdict": verdict(training),
        "model": training.model,
        "classes": list(training.classes),
        "frameworks": {
            each.framework: {
                "epochs": [epoch.to_json() for epoch in each.epochs],
                "best_epoch": each.best_epoch,
                "best_accuracy": each.best_accuracy,
                "stopped_epoch": each.stopped_epoch,
                "seconds": each.seconds,
                "images": each.images,
            }
            for each in training.frameworks
        },
        "steps": [step_to_json(step) for step in training.verified_steps],
        "summary": list(describe_verification(training.verified_steps))
        if training.verified_steps
        else [],
        "band": None if band is None else {k: [list(r) for r in v] for k, v in band.items()},
        "inside_band": {k: list(v) for k, v in training.inside_band.items()},
        "notes": list(training.notes),
    }
    cleaned: dict[str, Any] = _without_infinity(data)
    return cleaned


def _without_infinity(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_infinity(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(inner) for inner in value]
    return value


def build_schema() -> dict[str, Any]:
    """Return the JSON schema of the report, from the data classes of its parts."""
    from pydantic import TypeAdapter

    from parity.training.callbacks import EpochMetrics
    from parity.training.verification import VerifiedStep

    step = TypeAdapter(VerifiedStep).json_schema(mode="serialization")
    definitions = step.pop("$defs")
    epoch = TypeAdapter(EpochMetrics).json_schema(mode="serialization")
    framework: dict[str, Any] = {
        "epochs": {"type": "array", "items": {"$ref": "#/$defs/EpochMetrics"}},
        "best_epoch": {"type": "integer"},
        "best_accuracy": {"type": "number"},
        "stopped_epoch": {"type": "integer"},
        "seconds": {"type": "number"},
        "images": {"type": "integer"},
    }
    texts = {"type": "array", "items": {"type": "string"}}
    pairs = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    properties: dict[str, Any] = {
        "schema": {"const": SCHEMA},
        "verdict": {"enum": ["parity", "divergence", "undetermined", "not compared"]},
        "model": {"type": "string"},
        "classes": texts,
        "frameworks": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": framework,
                "required": list(framework),
            },
        },
        "steps": {"type": "array", "items": {"$ref": "#/$defs/VerifiedStep"}},
        "summary": texts,
        "band": {"anyOf": [{"type": "object", "additionalProperties": pairs}, {"type": "null"}]},
        "inside_band": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "integer"}},
        },
        "notes": texts,
    }
    found: dict[str, Any] = _allow_null(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "parity training report, version 1",
            "description": "Fields are added within version 1, never renamed or dropped. A figure "
            "that is not finite is null.",
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "$defs": {**definitions, "VerifiedStep": step, "EpochMetrics": epoch},
        }
    )
    return found


def _allow_null(value: Any) -> Any:
    """Return a schema in which every number may be null."""
    if isinstance(value, dict):
        changed = {key: _allow_null(inner) for key, inner in value.items()}
        if changed.get("type") == "number":
            changed["type"] = ["number", "null"]
        return changed
    return [_allow_null(inner) for inner in value] if isinstance(value, list) else value


def write_schema() -> None:
    """Write the schema file."""
    files.write_text(SCHEMA_FILE, json.dumps(build_schema(), indent=1) + "\n")


def write_json(path: Path, training: Training) -> None:
    """Write the report as JSON. Raises `OutputError`."""
    files.write_text(path, json.dumps(to_json(training), indent=1, allow_nan=False) + "\n")


def write_html(path: Path, training: Training) -> None:
    """Write the report as one page without external resources. Raises `OutputError`."""
    files.write_text(path, render_html(training))


def render_html(training: Training) -> str:
    """Return the page: the verdict, the compared steps, the curves with their band."""
    steps = training.verified_steps
    columns, rows = tabulate_verification(steps) if steps else ([], [])
    picture = training.folder / "history.svg"
    word = verdict(training)
    badge = Verdict(word) if word in {"parity", "divergence"} else Verdict.UNKNOWN
    return templates.build_environment().get_template("training.html").render(
        model=training.model,
        verdict=word,
        badge=badge.value,
        symbol=wording.SYMBOLS[badge],
        cause_pages=cause_pages.find_pages(
            (cause.name for step in steps for cause in step.causes), cause_pages.TRAINING
        ),
        style=templates.read_resource("report.css"),
        sentences=[
            *(describe_verification(steps) if steps else ()),
            *describe_band(training.inside_band),
            *training.notes,
        ],
        columns=columns,
        rows=rows,
        frameworks=[
            (each.framework, dataclasses.asdict(each.epochs[-1]), each.seconds)
            for each in training.frameworks
            if each.epochs
        ],
        picture=base64.b64encode(picture.read_bytes()).decode() if picture.is_file() else "",
    )  # fmt: skip
