"""The sweep file: lists of models, environments, devices, precisions and inputs, and options.

    models = ["resnet18", "timm:*resnet*", ["keras:ResNet50", "torchvision:resnet50"]]
    environments = ["here", "torch==2.9.1", { name = "old", packages = ["onnxruntime==1.31.1"] }]
    devices = ["cpu"]
    precisions = ["float32", "bfloat16"]
    inputs = ["random", "photo.jpg", { tokens = "tokens.npy" }]
    image_size = 32             any key of a case of parity.toml

Only `models` is required. Every combination is a cell. An entry of `models` is what `parity
compare` takes: one reference, or a list of them that are compared with one another. A reference
with * or ? or [ stands for the registered models, or those of a zoo, whose names match. Relative
paths start from the folder of the file.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parity.commands import cases
from parity.commands.cases import CaseFileParser
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.request import Request
from parity.errors import ParityError, UsageError
from parity.network import architectures
from parity.processes import zoos
from parity.processes.environments import EnvironmentRequest, parse_packages
from parity.processes.origin import find_origin
from parity.processes.references import split_name
from parity.text import closest, did_you_mean, quote, suggest

HERE = "here"
"""The environment of the interpreters that every command uses."""

LISTS = ("models", "environments", "devices", "precisions", "inputs")
"""The lists of the file, whose combinations are the cells."""

_OPTION_OF_LIST = {"devices": "device", "precisions": "precision", "inputs": "input"}
_EXCLUDED = ("name", "model", "lock_factor", *LISTS)
OPTIONS = tuple(key for key in cases.KEYS if key not in _EXCLUDED)
"""The options of all cells: the keys of a case."""

_SETTINGS = ("threads", "lock_factor")

_GLOB = re.compile(r"[*?\[]")

ListNames = Callable[[str], Sequence[str]]
"""A function that returns the names of a zoo's models."""


@dataclass(frozen=True)
class GridEnvironment:
    """A column of the grid: the environments to create for it, by no request the present one."""

    name: str
    requests: tuple[EnvironmentRequest, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One comparison of the grid; `model`, `input` and so on are as reports show them."""

    model: str
    environment: str
    device: str
    precision: str
    input: str
    request: Request | GraphRequest

    @property
    def name(self) -> str:
        """The cell's name, unique in its sweep."""
        parts = (self.model, self.environment, self.device, self.precision, self.input)
        return " | ".join(parts)


@dataclass(frozen=True)
class SweepFile:
    """The contents of a sweep file; `threads` are those of one cell."""

    path: Path
    cells: tuple[Cell, ...]
    environments: tuple[GridEnvironment, ...] = (GridEnvironment(HERE),)
    threads: int = 1
    lock_factor: float = cases.LOCK_FACTOR
    notes: tuple[str, ...] = field(default_factory=tuple)


def load(path: Path, *, list_names: ListNames) -> SweepFile:
    """Read a sweep file. Raises `UsageError` with the line, and the most similar known key.

    `list_names` is asked for the models of a zoo that a pattern stands for.
    """
    data, lines = cases.read_toml(path)
    parser = CaseFileParser(path, lines)
    for key in data:
        known = (*LISTS, *_SETTINGS, *OPTIONS)
        parser.require_known(key, known, lines.find("", 0, key) if key else 1)
    return _SweepParser(path, parser, data, list_names).parse()


class _SweepParser:
    """Checks the data of a sweep file; errors name the file and the line."""

    def __init__(
        self, path: Path, parser: CaseFileParser, data: Mapping[str, Any], list_names: ListNames
    ) -> None:
        self._path = path
        self._parser = parser
        self._data = data
        self._list_names = list_names

    def parse(self) -> SweepFile:
        for name, option in _OPTION_OF_LIST.items():
            if name in self._data and option in self._data:
                raise self._error(option, f"{option}: {name} is given too; leave one of them out")
            if isinstance(self._data.get(option), list):
                raise self._error(option, f"{option}: expected one value; a list is {name}")
        options = {
            key: self._parser.parse_value("", 0, key, value)
            for key, value in self._data.items()
            if key in OPTIONS
        }
        # The interpreters are those of parity.toml in the folder of the file.
        options["python"] = {
            **self._parser.parse_environments({}),
            **options.get("python", {}),
        }
        models = list(self._parse_models())
        environments = tuple(self._parse_environments(models))
        cells = tuple(self._build_cells(models, environments, options))
        if not cells:
            raise self._error("models", "models: the grid has no cell")
        return SweepFile(
            path=self._path,
            cells=cells,
            environments=environments,
            threads=self._parse_number("threads", 1),
            lock_factor=float(self._parse_number("lock_factor", cases.LOCK_FACTOR)),
        )

    def _error(self, key: str, message: str) -> UsageError:
        return self._parser.error_at("", 0, key, message)

    def _parse_number(self, key: str, default: Any) -> Any:
        value = self._data.get(key, default)
        types = (int,) if isinstance(default, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, types) or not value >= 1:
            expected = f"a {'whole ' if types == (int,) else ''}number of at least 1"
            raise self._parser.value_error("", 0, key, expected, value)
        return value

    def _read_list(self, key: str, default: Sequence[Any], types: tuple[type, ...]) -> list[Any]:
        """Return a list of the file; raises `UsageError` unless it has entries of these types."""
        values = self._data.get(key, default)
        if not isinstance(values, list | tuple) or not all(isinstance(v, types) for v in values):
            raise self._parser.value_error("", 0, key, f"a list of {key}", values)
        if not values:
            raise self._error(key, f"{key}: the list is empty, so that the grid has no cell")
        return list(values)

    # Models --------------------------------------------------------------------------------------

    def _parse_models(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each model's name in reports, and its references."""
        if "models" not in self._data:
            raise UsageError(f'{self._path}: expected models, such as models = ["resnet18"]')
        seen: set[tuple[str, ...]] = set()
        for entry in self._read_list("models", (), (str, list)):
            for references in self._expand_entry(entry):
                # Two patterns may stand for the same model.
                if references not in seen:
                    seen.add(references)
                    yield " ".join(references), references

    def _expand_entry(self, entry: Any) -> Iterator[tuple[str, ...]]:
        if isinstance(entry, str):
            yield from ((name,) for name in self._expand_pattern(entry))
            return
        if not entry or not all(isinstance(each, str) for each in entry):
            raise self._parser.value_error("", 0, "models", "references in a list", entry)
        for each in entry:
            if self._is_pattern(each):
                raise self._error(
                    "models",
                    f"models: {quote(each)}: a pattern stands alone, since it is several models",
                )
        yield tuple(entry)

    def _is_pattern(self, text: str) -> bool:
        prefix, colon, name = text.partition(":")
        body = name if colon and prefix in zoos.all_zoos() else text
        # Options may hold brackets: `net.py:build,sizes=[3, 4]`.
        body = body.partition(",")[0]
        return _GLOB.search(body) is not None and not (self._path.parent / text).exists()

    def _expand_pattern(self, text: str) -> list[str]:
        """Return the references that a text stands for: itself, unless it is a pattern."""
        if not self._is_pattern(text):
            return [text]
        head, comma, options = text.partition(",")
        prefix, colon, pattern = head.partition(":")
        known: Sequence[str] = ()
        if colon and prefix in zoos.all_zoos():
            if zoos.all_zoos()[prefix].holds_folders:
                names = sorted(map(str, self._path.parent.glob(pattern)))
            else:
                known = self._list_zoo(prefix, text)
                names = fnmatch.filter(known, pattern)
            found = [f"{prefix}:{name}" for name in names]
        elif colon or "/" in head:
            hint = did_you_mean([f"{zoo}:" for zoo in closest(prefix, zoos.all_zoos(), count=1)])
            raise self._error(
                "models",
                f"models: {quote(text)}: only names of zoos and of `parity models` match{hint}",
            )
        else:
            known = [*architectures.names(), *architectures.graph_names()]
            found = fnmatch.filter(known, head)
        if not found:
            word = re.sub(r"[*?\[\]]", "", pattern or head)
            similar = did_you_mean(closest(word, known, count=3) if known else ())
            raise self._error("models", f"models: no model matches {quote(text)}{similar}")
        return [f"{name}{comma}{options}" for name in sorted(found)]

    def _list_zoo(self, zoo: str, text: str) -> Sequence[str]:
        """Return the names of a zoo's models; a zoo that is not installed has its line."""
        try:
            return self._list_names(zoo)
        except UsageError as error:
            raise self._error("models", f"models: {quote(text)}: {error}") from error

    # Environments --------------------------------------------------------------------------------

    def _parse_environments(
        self, models: Sequence[tuple[str, tuple[str, ...]]]
    ) -> Iterator[GridEnvironment]:
        extras = self._list_zoo_extras(models)
        names: set[str] = set()
        for entry in self._read_list("environments", (HERE,), (str, dict)):
            environment = self._parse_environment(entry)
            if environment.name in names:
                raise self._error(
                    "environments", f"environments: two are called {quote(environment.name)}"
                )
            names.add(environment.name)
            requests = [
                replace(
                    each,
                    extras=tuple(sorted(extras.get(each.runtime, ()))),
                    # On the nodes of a cluster nobody knows it.
                    source=find_origin(),
                )
                for each in environment.requests
            ]
            yield replace(environment, requests=tuple(requests))

    def _parse_environment(self, entry: str | Mapping[str, Any]) -> GridEnvironment:
        if entry == HERE:
            return GridEnvironment(HERE)
        name: Any = entry
        packages: Any = [entry]
        if not isinstance(entry, str):
            for key in entry:
                if key not in ("name", "packages"):
                    hint = suggest(key, ("name", "packages"), otherwise="known: name, packages")
                    raise self._error(
                        "environments", f"environments: unknown key {quote(key)}{hint}"
                    )
            packages = entry.get("packages", [])
            if not isinstance(packages, list) or not all(isinstance(p, str) for p in packages):
                raise self._parser.value_error(
                    "", 0, "environments", "packages as a list of texts", packages
                )
            name = entry.get("name", " ".join(packages))
        if not isinstance(name, str) or not name or name == HERE:
            raise self._parser.value_error("", 0, "environments", "another name", name)
        try:
            return GridEnvironment(name, tuple(parse_packages(name, packages)))
        except UsageError as error:
            raise self._error("environments", f"environments: {error}") from error

    def _list_zoo_extras(
        self, models: Sequence[tuple[str, tuple[str, ...]]]
    ) -> dict[str, set[str]]:
        """Return the extras of `parity`, by runtime, that the zoos of the models need."""
        found: dict[str, set[str]] = {}
        for _, references in models:
            for text in references:
                prefix = split_name(text)[1].partition(":")[0]
                zoo = zoos.all_zoos().get(prefix)
                if zoo is not None:
                    found.setdefault(zoo.runtime, set()).add(zoo.extra)
        return found

    # Cells ---------------------------------------------------------------------------------------

    def _build_cells(
        self,
        models: Sequence[tuple[str, tuple[str, ...]]],
        environments: Sequence[GridEnvironment],
        options: Mapping[str, Any],
    ) -> Iterator[Cell]:
        devices = self._read_list("devices", [options.get("device", "auto")], (str,))
        precisions = self._read_list("precisions", [options.get("precision", "float32")], (str,))
        inputs = self._read_list("inputs", [options.get("input")], (str, dict, Path, type(None)))
        for key, values in (("devices", devices), ("precisions", precisions), ("inputs", inputs)):
            if len(values) != len({repr(each) for each in values}):
                raise self._error(key, f"{key}: an entry is given twice")
        parsed = [self._parse_input(each) for each in inputs]
        for (model, references), device, precision, (label, given) in itertools.product(
            models, devices, precisions, parsed
        ):
            request = self._build_request(
                references, {**options, "device": device, "precision": precision, **given}
            )
            for environment in environments:
                yield Cell(model, environment.name, device, precision, label, request)

    def _parse_input(self, value: Any) -> tuple[str, dict[str, Any]]:
        """Return an input's name in reports, and the options that give it."""
        if value is None:
            return "photograph", {}
        if isinstance(value, Path):
            return value.name, {"input": value}
        if isinstance(value, str):
            return value, {"input": self._parser.parse_value("", 0, "input", value)}
        label = ", ".join(f"{name}={file}" for name, file in value.items())
        return label, {"inputs": self._parser.parse_value("", 0, "inputs", value)}

    def _build_request(
        self, references: Sequence[str], options: dict[str, Any]
    ) -> Request | GraphRequest:
        """Return the request of a cell; raises `UsageError` for what can be told before a run."""
        try:
            return self._parser.build_request({**options, "models": list(references)})
        except ParityError as error:
            raise self._error("models", f"models: {' '.join(references)}: {error}") from error
