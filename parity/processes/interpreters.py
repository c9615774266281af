"""Which Python runs which child: `--python`, parity.toml, and parity's own environments."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity import files
from parity.errors import InterpreterError, UsageError
from parity.processes import registry
from parity.processes.subjects import parse_child_name

CONFIGURATION = "parity.toml"
"""Read from the working folder."""

ENVIRONMENT_MARKER = "parity.json"
"""Written last into an environment that parity creates: one without it is incomplete."""


def resolve_interpreters(
    assignments: Sequence[str], *, folder: Path | None = None
) -> dict[str, str]:
    """Return {runtime or environment: path of its Python}.

    `assignments` are `NAME=PATH` texts, which override the parity.toml in `folder` (the working
    folder by default). A path is an interpreter or the folder of an environment. Environments that
    `parity env create` made are included, except those named like a runtime: they are used only
    if parity.toml or `--python` names them.

    Raises `UsageError` for a malformed text, `InterpreterError` for a path that does not exist.
    """
    runtimes = registry.frameworks()
    created_paths = {
        path.name: str(path)
        for path in find_environment_folders(environments_folder())
        if path.name not in runtimes
    }
    configured_paths = read_configured_paths(folder or Path.cwd())
    paths = {**created_paths, **configured_paths, **dict(map(_parse_assignment, assignments))}
    return {name: str(find_python(name, path)) for name, path in paths.items()}


def select_interpreter(child: str, python: Mapping[str, str]) -> str | None:
    """Return the interpreter of a child; None is this process's own.

    `python` may name the child itself, its environment or its runtime, in this order.
    """
    name = parse_child_name(child)
    for key in (child, name.environment, name.runtime):
        if key is not None and key in python:
            return python[key]
    return None


def is_own_interpreter(python: str | None) -> bool:
    """Return whether a path is this interpreter's.

    Symbolic links are not followed: a link to the same file can be another environment.
    """
    return python is None or os.path.abspath(python) == os.path.abspath(sys.executable)


def find_python(name: str, path: str) -> Path:
    """Return the interpreter at a path, which is an interpreter or an environment's folder.

    Raises `InterpreterError`, which begins with `name`, if there is none.
    """
    location = Path(path).expanduser()
    if location.is_dir():
        for executable in ("bin/python", "Scripts/python.exe"):
            if (location / executable).exists():
                return location / executable
        raise InterpreterError(f"{name}: {location}: not an environment: it has no bin/python")
    if not location.exists():
        raise InterpreterError(f"{name}: {location}: no such interpreter")
    return location


def read_configured_paths(folder: Path) -> dict[str, str]:
    """Return the `[environments]` of the folder's parity.toml, paths resolved from the folder.

    Raises `UsageError` if the file cannot be read or the table is malformed.
    """
    file = folder / CONFIGURATION
    try:
        data = tomllib.loads(files.read_text(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    table: Any = data.get("environments", {})
    if not isinstance(table, Mapping) or not all(isinstance(v, str) for v in table.values()):
        raise UsageError(f'{file}: [environments] must be lines like keras = "envs/keras"')
    return {name: str(folder / Path(path).expanduser()) for name, path in table.items()}


def environments_folder() -> Path:
    """Return the folder of parity's environments.

    It is `$PARITY_ENVIRONMENTS`, or `parity/environments` in the user's data folder.
    """
    override = os.environ.get("PARITY_ENVIRONMENTS")
    if override:
        return Path(override)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "parity" / "environments"


def find_environment_folders(folder: Path) -> list[Path]:
    """Return the folders of the complete environments in a folder."""
    if not folder.is_dir():
        return []
    return sorted(marker.parent for marker in folder.glob(f"*/{ENVIRONMENT_MARKER}"))


def _parse_assignment(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (equals and name and path):
        raise UsageError(f"--python {text}: expected NAME=PATH, such as keras=envs/keras")
    return name.strip(), path
