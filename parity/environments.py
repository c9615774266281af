"""Which Python serves which runtime: `--python`, `[environments]` in parity.toml, environments."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.errors import InterpreterError, UsageError

CONFIGURATION = "parity.toml"
"""Read from the working folder."""

RUNTIMES = ("keras", "torch", "onnx")


def interpreters(given: Sequence[str], *, folder: Path | None = None) -> dict[str, str]:
    """{runtime or environment: path of its Python}; what is given outweighs parity.toml.

    `given` are `NAME=PATH` texts. A path may be an interpreter or the folder of an environment.
    Raises `UsageError` for a malformed text, `InterpreterError` for a path that is not there.
    """
    found = {**_configured(folder or Path.cwd()), **dict(map(_pair, given))}
    return {name: str(_python(name, path)) for name, path in found.items()}


def _pair(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (equals and name and path):
        raise UsageError(f"--python {text}: expected NAME=PATH, such as keras=envs/keras")
    return name.strip(), path


def _configured(folder: Path) -> dict[str, str]:
    """The `[environments]` of parity.toml, whose paths are relative to it."""
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


def _python(name: str, path: str) -> Path:
    """The interpreter at a path, or in the environment there."""
    place = Path(path).expanduser()
    if place.is_dir():
        for inside in ("bin/python", "Scripts/python.exe"):
            if (place / inside).exists():
                return place / inside
        raise InterpreterError(f"{name}: {place} is a folder without bin/python: no environment")
    if not place.exists():
        raise InterpreterError(f"{name}: {place}: no such interpreter")
    return place
