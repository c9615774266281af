"""The case file `parity.toml`: the cases of `parity check`, and the files of its reports.

    [defaults]                  for every case that does not set the key itself
    input = "random"

    [[case]]
    name = "resnet18"           by default the model's name
    model = "resnet18"          or models = ["net.py:build", "deployed.onnx"], any references
    image_size = 64             or "96x128"
    lock_factor = 3.0           a figure may be this many times its locked one; by default 2

    [reports]                   a folder gets one file for each case
    junit = "reports/parity.xml"
    html = "reports"

    [environments]              other interpreters, for subjects such as torch@old
    old = "/opt/old/bin/python"

A case's keys are the fields of `comparison.request.Request`; with `models`, and for an architecture
without a layer table, those of `comparison.graphs.request.GraphRequest`. Relative paths start from
the folder of `parity.toml`.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from parity import files
from parity.commands.toml_lines import TomlLines
from parity.commands.values import (
    names_any_models,
    parse_image_size,
    parse_shapes,
    parse_subjects,
    sort_models,
)
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.request import NAMES_MODEL, OWN, RANDOM, Request
from parity.errors import ParityError, UsageError
from parity.network import architectures
from parity.processes.interpreters import resolve_interpreters
from parity.processes.references import split_name
from parity.report import formats
from parity.text import quote, suggest

LOCK_FACTOR = 2.0
"""A figure may be this many times its locked one."""

_TABLES = ("defaults", "case", "reports", "environments")
_EXCLUDED_FIELDS = {"save_captures", "judge", "cache", "model_references", "references"}
"""Fields of a request that a case cannot set, beside those of single models."""


def _list_fields(request: type[Request | GraphRequest]) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(request)
        if field.name not in _EXCLUDED_FIELDS and field.metadata != NAMES_MODEL
    ]


GRAPH_KEYS = ("models", *_list_fields(GraphRequest))
"""The keys of a case whose models are read and paired."""

_TABLE_KEYS = tuple(_list_fields(Request))
"""The keys of a case that is compared by a layer table."""

KEYS = tuple(dict.fromkeys(("name", "lock_factor", *_list_fields(Request), *GRAPH_KEYS)))
_FIELD_TYPES = {**get_type_hints(GraphRequest), **get_type_hints(Request)}
_NAME = re.compile(r"\w[\w .+@\[\]-]*")


@dataclass(frozen=True)
class Case:
    """One comparison of the file; `line` is the number of its first line."""

    name: str
    request: Request | GraphRequest
    lock_factor: float
    line: int


@dataclass(frozen=True)
class CaseFile:
    """The contents of a `parity.toml`."""

    path: Path
    cases: tuple[Case, ...]
    reports: Mapping[str, Path] = field(default_factory=dict)
    """{format: file or folder}"""


def load(path: Path) -> CaseFile:
    """Read a case file. Raises `UsageError` with the line, and the most similar known key."""
    return parse(path, _read(path))


def parse(path: Path, text: str) -> CaseFile:
    """Return the cases of a file's text; raises `UsageError` as `load` does."""
    data, lines = _parse_toml(path, text)
    return CaseFileParser(path, lines).parse(data)


def read_toml(path: Path) -> tuple[dict[str, Any], TomlLines]:
    """Return the data of a TOML file, and the lines of its keys. Raises `UsageError`."""
    return _parse_toml(path, _read(path))


def _read(path: Path) -> str:
    try:
        return files.read_text(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not TOML: {str(error).partition(chr(10))[0]}") from error


def _parse_toml(path: Path, text: str) -> tuple[dict[str, Any], TomlLines]:
    try:
        return tomllib.loads(text), TomlLines(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {str(error).partition(chr(10))[0]}") from error


class CaseFileParser:
    """Checks the data of a case file; errors name the file and the line."""

    def __init__(self, path: Path, lines: TomlLines) -> None:
        self._path = path
        self._lines = lines

    def parse(self, data: Mapping[str, Any]) -> CaseFile:
        for key in data:
            self.require_known(key, _TABLES, self._lines.find("", 0, key) if key else 1)
        defaults = self._require_table(data, "defaults")
        self._check_keys(defaults, "defaults", 0)
        environments = self.parse_environments(self._require_table(data, "environments"))
        tables = data.get("case", [])
        if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
            line = self._lines.find("case")
            raise UsageError(f"{self._path}:{line}: case: expected tables [[case]]")
        if not tables:
            raise UsageError(f"{self._path}: expected at least one [[case]], found none")
        cases = tuple(
            self._parse_case(index, {**defaults, **table}, table, environments)
            for index, table in enumerate(tables)
        )
        self._require_unique(cases)
        reports = dict(self._parse_reports(self._require_table(data, "reports")))
        return CaseFile(self._path, cases, reports)

    def _parse_case(
        self,
        index: int,
        values: Mapping[str, Any],
        own: Mapping[str, Any],
        environments: Mapping[str, str],
    ) -> Case:
        self._check_keys(own, "case", index)
        line = self._lines.find("case", index)
        options = {}
        for key, value in values.items():
            table = ("case", index) if key in own else ("defaults", 0)
            if key in ("name", "lock_factor"):
                continue
            options[key] = self.parse_value(*table, key, value)
        options["python"] = {**environments, **options.get("python", {})}
        name = values.get("name", values.get("model"))
        if name is None:
            raise UsageError(f"{self._path}:{line}: expected a name, found none; add name = ...")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{self._path}:{line}: name: expected letters, digits and . + @ - _, "
                f"found {quote(name)}"
            )
        factor = values.get("lock_factor", LOCK_FACTOR)
        if (
            isinstance(factor, bool)
            or not isinstance(factor, (int, float))
            or not 1 <= factor < math.inf
        ):
            raise self.value_error("case", index, "lock_factor", "a number of at least 1", factor)
        try:
            request = self.build_request(options)
        except ParityError as error:
            raise UsageError(f"{self._path}:{line}: case '{name}': {error}") from error
        return Case(name, request, float(factor), line)

    def build_request(self, options: dict[str, Any]) -> Request | GraphRequest:
        """Return the request of a case; raises `ParityError` for what can be told before a run.

        `options` are parsed values by key; relative files of models start at the file's folder.
        """
        models = options.pop("models", None)
        if models is None and options.get("model") in architectures.graph_names():
            models = [options.pop("model")]
        if models is None or not names_any_models(models, table=options.get("table")):
            foreign = [key for key in options if key not in _TABLE_KEYS]
            if foreign:
                raise UsageError(f"{foreign[0]}: belongs to models that are read and paired")
            request = Request(**{**sort_models(models or ()), **options})
            # Both are built now, so that an error is raised before any case runs.
            _ = (request.spec, request.layer_table)
            return request
        foreign = [key for key in options if key not in GRAPH_KEYS]
        if foreign:
            raise UsageError(f"{foreign[0]}: belongs to one architecture with a layer table")
        if options.get("weights") is not None:
            options["weights"] = str(options["weights"])
        graph_request = GraphRequest(references=tuple(map(self.locate, models)), **options)
        graph_request.name_models()
        return graph_request

    def locate(self, text: str) -> str:
        """Return a reference whose file is relative to the folder of the case file."""
        name, reference = split_name(text)
        head = re.split("[:,]", reference)[0]
        path = self._path.parent / head
        if head and path.exists():
            reference = f"{path}{reference.removeprefix(head)}"
        return reference if name is None else f"{name}={reference}"

    def parse_environments(self, table: Mapping[str, Any]) -> dict[str, str]:
        """Return the interpreters of a table [environments], and those that were configured."""
        for name, python in table.items():
            if not isinstance(python, str):
                raise self.value_error("environments", 0, name, "an interpreter's path", python)
        assignments = [f"{name}={self._path.parent / python}" for name, python in table.items()]
        return resolve_interpreters(assignments, folder=self._path.parent)

    def parse_value(self, table: str, index: int, key: str, value: Any) -> Any:
        """Return a key's value in the type of the request's field; raises `UsageError`.

        `table` is the name of the table that holds it, `index` its number among those of the name.
        """
        if key == "image_size":
            return self._parse_size(table, index, value)
        if key == "subjects":
            is_valid = isinstance(value, str) or (
                isinstance(value, list) and all(isinstance(name, str) for name in value)
            )
            if not is_valid:
                raise self.value_error(table, index, key, "a list of subjects", value)
            return parse_subjects(value)
        if key in ("models", "trust"):
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise self.value_error(table, index, key, "a list of models", value)
            return tuple(value)
        if key in ("inputs", "shapes"):
            return self._parse_inputs(table, index, key, value)
        if key == "python":
            if not isinstance(value, dict) or not all(isinstance(p, str) for p in value.values()):
                raise self.value_error(table, index, key, "a table of interpreters' paths", value)
            return value
        types = (str,) if key in ("weights", "input") else _allowed_types(_FIELD_TYPES[key])
        is_valid = isinstance(value, str) if Path in types else isinstance(value, types)
        if isinstance(value, bool) and bool not in types:
            is_valid = False
        if not is_valid:
            labels = {bool: "true or false", int: "a whole number", float: "a number"}
            raise self.value_error(table, index, key, labels.get(types[0], "text"), value)
        if key == "weights":
            return self._locate_weights(value)
        is_file = key == "input" and value != RANDOM
        return self._path.parent / value if Path in types or is_file else value

    def _locate_weights(self, value: str) -> str | Path:
        """Return a checkpoint's path, which starts at the case file, or a model as it is named."""
        if value in (RANDOM, OWN) or re.fullmatch(r"[\w@-]+", value):
            return value
        return self.locate(value) if ":" in value else self._path.parent / value

    def _parse_inputs(self, table: str, index: int, key: str, value: Any) -> dict[str, Any]:
        """Return the files or the shapes of named inputs."""
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise self.value_error(table, index, key, "a table of texts by input", value)
        if key == "shapes":
            return parse_shapes([f"{name}={shape}" for name, shape in value.items()])
        return {name: self._path.parent / file for name, file in value.items()}

    def _parse_size(self, table: str, index: int, value: Any) -> tuple[int, int]:
        try:
            size = parse_image_size(value)
        except UsageError:
            raise self.value_error(table, index, "image_size", '224 or "96x128"', value) from None
        assert size is not None
        return size

    def _parse_reports(self, table: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
        for key, value in table.items():
            self.require_known(key, formats.list_formats(), self._lines.find("reports", 0, key))
            if not isinstance(value, str):
                raise self.value_error("reports", 0, key, "a file or a folder", value)
            yield key, self._path.parent / value

    def _require_table(self, data: Mapping[str, Any], name: str) -> dict[str, Any]:
        table = data.get(name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{self._path}:{self._lines.find(name)}: expected a table [{name}]")
        return table

    def _check_keys(self, table: Mapping[str, Any], name: str, index: int) -> None:
        for key in table:
            self.require_known(key, KEYS, self._lines.find(name, index, key))

    def require_known(self, key: str, known: Iterable[str], line: int) -> None:
        """Raise `UsageError`, with the most similar name, for a key that is not known."""
        names = list(known)
        if key in names:
            return
        hint = suggest(key, names, otherwise=f"known: {', '.join(names)}")
        raise UsageError(f"{self._path}:{line}: unknown key {quote(key)}{hint}")

    def value_error(
        self, table: str, index: int, key: str, expected: str, value: Any
    ) -> UsageError:
        """Return the error of a value of another type, with its line."""
        message = f"{key}: expected {expected}, found {quote(value)}"
        return self.error_at(table, index, key, message)

    def error_at(self, table: str, index: int, key: str, message: str) -> UsageError:
        """Return an error with the file and the line of a key in front."""
        return UsageError(f"{self._path}:{self._lines.find(table, index, key)}: {message}")

    def _require_unique(self, cases: Iterable[Case]) -> None:
        by_name: dict[str, Case] = {}
        for case in cases:
            if case.name in by_name:
                raise UsageError(
                    f"{self._path}:{case.line}: case '{case.name}' is also on line "
                    f"{by_name[case.name].line}; give one of them another name"
                )
            by_name[case.name] = case


def _allowed_types(hint: Any) -> tuple[type, ...]:
    """Return the types that a field's annotation allows, without None; `str` for literals."""
    arguments = [each for each in getattr(hint, "__args__", ()) if each is not type(None)]
    types = [each if isinstance(each, type) else str for each in arguments or [hint]]
    return (*types, int) if float in types else tuple(types)
