"""Making Python environments, one for each runtime, and listing them: `parity env`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import parity
from parity.errors import InterpreterError, UsageError
from parity.processes import probe, registry
from parity.processes.interpreters import (
    ENVIRONMENT_MARK,
    configured_paths,
    environments_folder,
    find_python,
    made_environments,
)
from parity.version import __version__

_REQUEST = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)=(?!=))?(?P<runtime>[a-z]\w*)(?P<version>[=<>!~][^ ]*)?"
)


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """An environment to make: `torch`, or `old=torch==2.9.1`."""

    name: str
    runtime: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment for one runtime.

    `versions` are those of the runtime's packages there; None where `problem` says why they are
    not known.
    """

    name: str
    path: str
    runtime: str
    gpu: bool = False
    versions: Mapping[str, str] | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


def parse_request(text: str) -> EnvironmentRequest:
    """Read `RUNTIME`, `RUNTIME==VERSION` or `NAME=RUNTIME==VERSION`; raises `UsageError`."""
    match = _REQUEST.fullmatch(text)
    known = registry.installable_runtimes()
    if match is None or match["runtime"] not in known:
        names = " or ".join(filter(None, [", ".join(known[:-1]), *known[-1:]]))
        raise UsageError(
            f"'{text}': expected {names}, with a version and a name if you like: old=torch==2.9.1"
        )
    runtime = match["runtime"]
    return EnvironmentRequest(match["name"] or runtime, runtime, match["version"] or "")


def create_environments(
    requests: Sequence[EnvironmentRequest],
    *,
    gpu: bool = False,
    folder: Path | None = None,
    progress: Callable[[str, str], None] = lambda name, text: None,
) -> list[Environment]:
    """Make an environment for each request, with uv where there is one, and install its runtime.

    Raises `UsageError` for one that exists, `InterpreterError` with the installer's last words; an
    incomplete environment is removed.
    """
    folder = (folder or environments_folder()).absolute()
    for request in requests:
        if (folder / request.name).exists():
            raise UsageError(f"{folder / request.name} exists already; remove it to make it anew")
    made = []
    for request in requests:
        progress(request.name, "installing")
        made.append(_create(request, folder / request.name, gpu))
    return made


def _create(request: EnvironmentRequest, place: Path, gpu: bool) -> Environment:
    python = place / "bin" / "python"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        for command in _commands(request, place, python, gpu, shutil.which("uv")):
            _install(request.name, command)
        facts = {"runtime": request.runtime, "gpu": gpu}
        (place / ENVIRONMENT_MARK).write_text(json.dumps(facts), encoding="utf-8")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return _describe(place)


def _commands(
    request: EnvironmentRequest, place: Path, python: Path, gpu: bool, uv: str | None
) -> list[list[str]]:
    """The commands that make the environment and install into it, in order."""
    info = registry.get(request.runtime)
    extra = info.gpu_extra if gpu and info.gpu_extra is not None else info.extra
    packages = [*_parity_requirement(extra or "")]
    if request.version:
        packages.append(f"{info.main_package}{request.version}")
    if uv is not None:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(place)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
    ]


def _parity_requirement(extra: str) -> list[str]:
    """This `parity` as an installer's arguments: from its source folder if we run from one."""
    source = Path(parity.__file__).resolve().parent.parent
    if (source / "pyproject.toml").exists():
        return ["-e", f"{source}[{extra}]"]
    return [f"parity[{extra}]=={__version__}"]


def _install(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if "ERROR" in line.upper()]
        last = (words or done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InterpreterError(f"{name}: the environment cannot be made: {last.strip()}")


def list_environments(folder: Path | None = None) -> list[Environment]:
    """The environments that were made and those of parity.toml, each probed for its versions."""
    places = made_environments(folder or environments_folder())
    found = list(map(_describe, places))
    made = {place.absolute() for place in places}
    runtimes = registry.frameworks()
    for name, path in configured_paths(Path.cwd()).items():
        if Path(path).absolute() not in made:
            found.append(_add_versions(Environment(name, path, name if name in runtimes else "")))
    return found


def _describe(place: Path) -> Environment:
    """Read the mark of an environment that was made, and probe it for its versions."""
    facts = json.loads((place / ENVIRONMENT_MARK).read_text(encoding="utf-8"))
    return _add_versions(Environment(place.name, str(place), facts["runtime"], facts["gpu"]))


def _add_versions(environment: Environment) -> Environment:
    """Probe an environment for its runtime's packages; of all runtimes if it is for none."""
    try:
        python = str(find_python(environment.name, environment.path))
        versions: dict[str, str] = {}
        for runtime in [environment.runtime] if environment.runtime else registry.frameworks():
            versions |= probe.probe_interpreter(runtime, python).versions
    except InterpreterError as error:
        return replace(environment, problem=str(error))
    return replace(environment, versions=versions)
