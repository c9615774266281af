"""Which Python serves which runtime: `--python`, parity.toml, and the environments made here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import parity
from parity.errors import InterpreterError, UsageError

CONFIGURATION = "parity.toml"
"""Read from the working folder."""

RUNTIMES = ("keras", "torch", "onnx")

MARK = "parity.json"
"""Written into an environment last: one without it is half made."""

EXTRAS = {"keras": "keras", "torch": "torch", "onnx": "onnx"}
EXTRAS_GPU = {"keras": "keras-gpu", "torch": "torch", "onnx": "onnx-gpu"}
"""PyTorch's ordinary Linux packages are built for CUDA, and have one name with the CPU's."""

_WISH = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)=(?!=))?(?P<runtime>[a-z]+)(?P<version>[=<>!~][^ ]*)?"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """An environment to make: `torch`, or `old=torch==2.9.1`."""

    name: str
    runtime: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment for one runtime; `versions` is empty where it could not be asked."""

    name: str
    path: str
    runtime: str
    gpu: bool = False
    versions: Mapping[str, str] | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


def interpreters(given: Sequence[str], *, folder: Path | None = None) -> dict[str, str]:
    """{runtime or environment: path of its Python}; what is given outweighs parity.toml.

    `given` are `NAME=PATH` texts. A path may be an interpreter or the folder of an environment.
    Environments that `parity env create` made under a name of the user's are known too; those
    named like a runtime serve it only where parity.toml or `--python` says so.
    Raises `UsageError` for a malformed text, `InterpreterError` for a path that is not there.
    """
    made = {place.name: str(place) for place in _made(home()) if place.name not in RUNTIMES}
    found = {**made, **_configured(folder or Path.cwd()), **dict(map(_pair, given))}
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


def home() -> Path:
    """Where environments are made: `$PARITY_ENVIRONMENTS`, or in the user's data folder."""
    given = os.environ.get("PARITY_ENVIRONMENTS")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "parity" / "environments"


def wish(text: str) -> Wish:
    """Read `RUNTIME`, `RUNTIME==VERSION` or `NAME=RUNTIME==VERSION`; raises `UsageError`."""
    found = _WISH.fullmatch(text)
    if found is None or found["runtime"] not in RUNTIMES:
        raise UsageError(
            f"'{text}': expected keras, torch or onnx, with a version and a name if you like: "
            "old=torch==2.9.1"
        )
    return Wish(found["name"] or found["runtime"], found["runtime"], found["version"] or "")


def create(
    wishes: Sequence[Wish],
    *,
    gpu: bool = False,
    folder: Path | None = None,
    progress: Callable[[str, str], None] = lambda name, text: None,
) -> list[Environment]:
    """Make an environment a wish, with uv where there is one, and what its runtime needs.

    Raises `UsageError` for one that exists, `InterpreterError` with the installer's last words; a
    half-made environment is removed.
    """
    folder = (folder or home()).absolute()
    for each in wishes:
        if (folder / each.name).exists():
            raise UsageError(f"{folder / each.name} exists already; remove it to make it anew")
    made = []
    for each in wishes:
        progress(each.name, "installing")
        made.append(_create(each, folder / each.name, gpu))
    return made


def _create(wish: Wish, place: Path, gpu: bool) -> Environment:
    python = place / "bin" / "python"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        for command in _commands(wish, place, python, gpu, shutil.which("uv")):
            _install(wish.name, command)
        facts = {"runtime": wish.runtime, "gpu": gpu}
        (place / MARK).write_text(json.dumps(facts), encoding="utf-8")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return described(place)


def _commands(wish: Wish, place: Path, python: Path, gpu: bool, uv: str | None) -> list[list[str]]:
    """What makes the environment and installs into it, one command after the other."""
    extra = (EXTRAS_GPU if gpu else EXTRAS)[wish.runtime]
    packages = [*_parity(extra)]
    if wish.version:
        package = {"keras": "keras", "torch": "torch", "onnx": "onnxruntime"}[wish.runtime]
        packages.append(f"{package}{wish.version}")
    if uv is not None:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(place)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
    ]


def _parity(extra: str) -> list[str]:
    """This `parity` as an installer takes it: from its source where we run from it."""
    source = Path(parity.__file__).resolve().parent.parent
    if (source / "pyproject.toml").exists():
        return ["-e", f"{source}[{extra}]"]
    return [f"parity[{extra}]=={parity.__version__}"]


def _install(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if "ERROR" in line.upper()]
        last = (words or done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InterpreterError(f"{name}: the environment cannot be made: {last.strip()}")


def known(folder: Path | None = None) -> list[Environment]:
    """The environments that were made, and those of parity.toml, each asked for its versions."""
    places = {place.name: place for place in _made(folder or home())}
    found = [described(place) for place in places.values()]
    for name, path in _configured(Path.cwd()).items():
        if Path(path).absolute() not in {place.absolute() for place in places.values()}:
            runtime = name if name in RUNTIMES else ""
            found.append(_asked(Environment(name, path, runtime)))
    return found


def described(place: Path) -> Environment:
    """An environment that was made, asked for its versions."""
    facts = json.loads((place / MARK).read_text(encoding="utf-8"))
    return _asked(Environment(place.name, str(place), facts["runtime"], facts["gpu"]))


def _asked(environment: Environment) -> Environment:
    from parity.processes import probe

    try:
        python = str(_python(environment.name, environment.path))
        held: dict[str, str] = {}
        for runtime in [environment.runtime] if environment.runtime else RUNTIMES:
            held |= probe.of(runtime, python)["versions"]
    except InterpreterError as error:
        return replace(environment, problem=str(error))
    return replace(environment, versions=held)


def _made(folder: Path) -> list[Path]:
    """The environments in a folder that are complete."""
    if not folder.is_dir():
        return []
    return sorted(mark.parent for mark in folder.glob(f"*/{MARK}"))
