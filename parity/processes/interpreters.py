"""Which Python runs which child: `--python`, parity.toml, and the environments made here."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.errors import InterpreterError, UsageError
from parity.processes import registry
from parity.processes.subjects import parse_child_name

CONFIGURATION = "parity.toml"
"""Read from the working folder."""

ENVIRONMENT_MARK = "parity.json"
"""Written last into an environment that parity makes: one without it is incomplete."""


def interpreters(given: Sequence[str], *, folder: Path | None = None) -> dict[str, str]:
    """{runtime or environment: path of its Python}; what is given overrides parity.toml.

    `given` are `NAME=PATH` texts. A path may be an interpreter or the folder of an environment.
    Environments that `parity env create` made under a name of the user's are known too; those
    named like a runtime serve it only where parity.toml or `--python` says so.
    Raises `UsageError` for a malformed text, `InterpreterError` for a path that is not there.
    """
    runtimes = registry.frameworks()
    made = {
        place.name: str(place)
        for place in made_environments(environments_folder())
        if place.name not in runtimes
    }
    paths = {**made, **configured_paths(folder or Path.cwd()), **dict(map(_parse_pair, given))}
    return {name: str(find_python(name, path)) for name, path in paths.items()}


def interpreter_of(child: str, python: Mapping[str, str]) -> str | None:
    """The interpreter of a child: its own, its environment's or its runtime's; None is ours."""
    name = parse_child_name(child)
    for key in (child, name.environment, name.runtime):
        if key is not None and key in python:
            return python[key]
    return None


def is_own_interpreter(python: str | None) -> bool:
    """Whether a path is our own interpreter, by its name: a link can be another environment."""
    return python is None or os.path.abspath(python) == os.path.abspath(sys.executable)


def find_python(name: str, path: str) -> Path:
    """Return the interpreter at a path, or in the environment's folder there.

    Raises `InterpreterError`, which begins with `name`, where there is none.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        for inside in ("bin/python", "Scripts/python.exe"):
            if (place / inside).exists():
                return place / inside
        raise InterpreterError(f"{name}: {place} is a folder without bin/python: no environment")
    if not place.exists():
        raise InterpreterError(f"{name}: {place}: no such interpreter")
    return place


def configured_paths(folder: Path) -> dict[str, str]:
    """The `[environments]` of the folder's parity.toml, whose paths are relative to it."""
    file = folder / CONFIGURATION
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    table: Any = data.get("environments", {})
    if not isinstance(table, Mapping) or not all(isinstance(v, str) for v in table.values()):
        raise UsageError(f'{file}: [environments] must be lines like keras = "envs/keras"')
    return {name: str(folder / Path(path).expanduser()) for name, path in table.items()}


def environments_folder() -> Path:
    """Where environments are made: `$PARITY_ENVIRONMENTS`, or in the user's data folder."""
    given = os.environ.get("PARITY_ENVIRONMENTS")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "parity" / "environments"


def made_environments(folder: Path) -> list[Path]:
    """The complete environments in a folder."""
    if not folder.is_dir():
        return []
    return sorted(mark.parent for mark in folder.glob(f"*/{ENVIRONMENT_MARK}"))


def _parse_pair(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (equals and name and path):
        raise UsageError(f"--python {text}: expected NAME=PATH, such as keras=envs/keras")
    return name.strip(), path
