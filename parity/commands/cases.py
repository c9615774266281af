"""`parity.toml`: the cases that `parity check` runs, and where its reports go.

    [defaults]                  what every case has unless it says otherwise
    input = "random"

    [[case]]
    name = "resnet18"           the model's name if it is left out
    model = "resnet18"          or keras = "mynet:keras", torch = "mynet:torch", table = "mynet.csv"
    image_size = 64             or "96x128"
    lock_factor = 3.0           how much worse than its locked figure a figure may be; 2

    [reports]                   a folder gets a file a case
    junit = "reports/parity.xml"
    html = "reports"

    [environments]              other interpreters, for subjects such as torch@old
    old = "/opt/old/bin/python"

A case's keys are the fields of `comparison.request.Request`. Files are named from the folder that
`parity.toml` is in.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from parity.commands.values import parse_image_size, parse_subjects
from parity.comparison.request import OWN, RANDOM, Request
from parity.errors import ParityError, UsageError
from parity.processes.interpreters import interpreters
from parity.report import formats
from parity.text import quote, suggest

LOCK_FACTOR = 2.0
"""Issue 3: a figure may be twice its locked one."""

_TABLES = ("defaults", "case", "reports", "environments")
_NOT_ASKED = {"save_captures", "judge", "cache", "model_references"}
"""Fields of a request that are no property of a case."""

KEYS = (
    "name",
    "lock_factor",
    *(f.name for f in dataclasses.fields(Request) if f.name not in _NOT_ASKED),
)
_HINTS = get_type_hints(Request)
_NAME = re.compile(r"\w[\w .+@\[\]-]*")


@dataclass(frozen=True)
class Case:
    """One comparison of the file; `line` is where it begins."""

    name: str
    request: Request
    lock_factor: float
    line: int


@dataclass(frozen=True)
class Plan:
    """All that the file asks for."""

    path: Path
    cases: tuple[Case, ...]
    reports: Mapping[str, Path] = field(default_factory=dict)


def load(path: Path) -> Plan:
    """Read the file; raises `UsageError` with the line and the closest key."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no TOML: {str(error).partition(chr(10))[0]}") from error
    return _Reader(path, _Lines(text)).plan(data)


class _Lines:
    """Where a table or a key stands in the text, as far as it is written the usual way."""

    def __init__(self, text: str) -> None:
        self._found: dict[tuple[str, int, str | None], int] = {}
        counts: dict[str, int] = {}
        at = ("", 0)
        continued = _continued(text)
        # TOML's lines end in newlines alone; `splitlines` knows several other ends.
        for number, line in enumerate(text.split("\n"), start=1):
            if number in continued:
                continue
            header = re.match(r"\s*\[+\s*([\w-]+)\s*\]+", line)
            key = re.match(r"""\s*["']?([\w-]+)["']?\s*=""", line)
            if header:
                name = header[1]
                at = (name, counts.get(name, -1) + 1)
                counts[name] = at[1]
                self._found[*at, None] = number
            elif key:
                self._found.setdefault((*at, key[1]), number)

    def of(self, table: str, index: int = 0, key: str | None = None) -> int:
        """The line of a key, else of its table, else the first."""
        found = self._found.get((table, index, key)) or self._found.get((table, index, None))
        return found or self._found.get(("", 0, table), 1)


# Strings, in which anything can stand, then what opens and closes an array and ends a line.
_TOKEN = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|'''
    r"#[^\n]*|[\[\]{}]|\n",
    re.DOTALL,
)


def _continued(text: str) -> set[int]:
    """The numbers of the lines that begin inside a multi-line string or an array; valid TOML."""
    found: set[int] = set()
    number, depth = 1, 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
        newlines = token[0].count("\n")
        if token[0] != "\n" or depth:
            found.update(range(number + 1, number + newlines + 1))
        number += newlines
    return found


class _Reader:
    def __init__(self, path: Path, lines: _Lines) -> None:
        self.path = path
        self.lines = lines

    def plan(self, data: Mapping[str, Any]) -> Plan:
        for key in data:
            self._known(key, _TABLES, self.lines.of("", 0, key) if key else 1, key)
        defaults = self._table(data, "defaults")
        self._check_keys(defaults, "defaults", 0)
        environments = self._environments(self._table(data, "environments"))
        given = data.get("case", [])
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            raise UsageError(f"{self.path}:{self.lines.of('case')}: cases are written [[case]]")
        if not given:
            raise UsageError(f"{self.path}: holds no [[case]]: nothing would be checked")
        cases = tuple(
            self._case(index, {**defaults, **each}, each, environments)
            for index, each in enumerate(given)
        )
        self._require_unique(cases)
        return Plan(self.path, cases, dict(self._reports(self._table(data, "reports"))))

    def _case(
        self,
        index: int,
        values: Mapping[str, Any],
        own: Mapping[str, Any],
        environments: Mapping[str, str],
    ) -> Case:
        self._check_keys(own, "case", index)
        line = self.lines.of("case", index)
        options = {}
        for key, value in values.items():
            where = ("case", index) if key in own else ("defaults", 0)
            if key in ("name", "lock_factor"):
                continue
            options[key] = self._value(*where, key, value)
        options["python"] = {**environments, **options.get("python", {})}
        name = values.get("name", values.get("model"))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{self.path}:{line}: a case needs a name, of letters, digits and . + @ - _"
            )
        factor = values.get("lock_factor", LOCK_FACTOR)
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor >= 1:
            raise self._wrong("case", index, "lock_factor", "a number of at least 1", factor)
        try:
            request = Request(**options)
            # What does not exist is better told now than after the cases before it have run.
            _ = (request.spec, request.layer_table)
        except ParityError as error:
            raise UsageError(f"{self.path}:{line}: case '{name}': {error}") from error
        return Case(name, request, float(factor), line)

    def _environments(self, table: Mapping[str, Any]) -> dict[str, str]:
        for name, python in table.items():
            if not isinstance(python, str):
                raise self._wrong("environments", 0, name, "the path of an interpreter", python)
        given = [f"{name}={self.path.parent / python}" for name, python in table.items()]
        return interpreters(given, folder=self.path.parent)

    def _value(self, table: str, index: int, key: str, value: Any) -> Any:
        """A key's value as the request takes it."""
        if key == "image_size":
            return self._size(table, index, value)
        if key == "subjects":
            known = isinstance(value, str) or (
                isinstance(value, list) and all(isinstance(name, str) for name in value)
            )
            if not known:
                raise self._wrong(table, index, key, "a list of subjects", value)
            return parse_subjects(value)
        if key == "python":
            if not isinstance(value, dict) or not all(isinstance(p, str) for p in value.values()):
                raise self._wrong(table, index, key, "a table of interpreters' paths", value)
            return value
        kinds = _kinds(_HINTS[key])
        if key in ("weights", "input"):
            kinds = (str,)
        fits = any(isinstance(value, int if kind is Path else kind) for kind in kinds)
        if Path in kinds:
            fits = isinstance(value, str)
        if isinstance(value, bool) and bool not in kinds:
            fits = False
        if not fits:
            words = {bool: "true or false", int: "a whole number", float: "a number"}
            raise self._wrong(table, index, key, words.get(kinds[0], "text"), value)
        named = key in ("weights", "input") and value not in (RANDOM, OWN)
        return self.path.parent / value if Path in kinds or named else value

    def _size(self, table: str, index: int, value: Any) -> tuple[int, int]:
        try:
            size = parse_image_size(value)
        except UsageError:
            raise self._wrong(table, index, "image_size", '224 or "96x128"', value) from None
        assert size is not None
        return size

    def _reports(self, table: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
        for key, value in table.items():
            self._known(key, formats.list_formats(), self.lines.of("reports", 0, key), key)
            if not isinstance(value, str):
                raise self._wrong("reports", 0, key, "a file or a folder", value)
            yield key, self.path.parent / value

    def _table(self, data: Mapping[str, Any], name: str) -> dict[str, Any]:
        found = data.get(name, {})
        if not isinstance(found, dict):
            raise UsageError(f"{self.path}:{self.lines.of(name)}: expected a table [{name}]")
        return found

    def _check_keys(self, table: Mapping[str, Any], name: str, index: int) -> None:
        for key in table:
            self._known(key, KEYS, self.lines.of(name, index, key), key)

    def _known(self, key: str, known: Iterable[str], line: int, told: str) -> None:
        names = list(known)
        if key in names:
            return
        hint = suggest(key, names, otherwise=f"known: {', '.join(names)}")
        raise UsageError(f"{self.path}:{line}: unknown key {quote(told)}{hint}")

    def _wrong(self, table: str, index: int, key: str, expected: str, value: Any) -> UsageError:
        line = self.lines.of(table, index, key)
        return UsageError(f"{self.path}:{line}: {key}: expected {expected}, found {quote(value)}")

    def _require_unique(self, cases: Iterable[Case]) -> None:
        seen: dict[str, Case] = {}
        for case in cases:
            if case.name in seen:
                raise UsageError(
                    f"{self.path}:{case.line}: case '{case.name}' is also on line "
                    f"{seen[case.name].line}: give one of them another name"
                )
            seen[case.name] = case


def _kinds(hint: Any) -> tuple[type, ...]:
    """The types that a field's annotation allows, without None; text for its Literals."""
    inner = [each for each in getattr(hint, "__args__", ()) if each is not type(None)]
    kinds = [each if isinstance(each, type) else str for each in inner or [hint]]
    return (*kinds, int) if float in kinds else tuple(kinds)
