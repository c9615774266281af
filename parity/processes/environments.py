"""Create and list Python environments, one for each runtime: `parity env`."""

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

from parity.errors import InterpreterError, UsageError
from parity.processes import origin, probe, registry
from parity.processes.interpreters import (
    ENVIRONMENT_MARKER,
    environments_folder,
    find_environment_folders,
    find_python,
    read_configured_paths,
)

_REQUEST = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)=(?!=))?(?P<runtime>[a-z]\w*)(?P<version>[=<>!~][^ ]*)?"
)


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """An environment to create: `torch`, or `old=torch==2.9.1`."""

    name: str
    runtime: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment for one runtime.

    `versions` are those of the runtime's packages in it; None if they cannot be read, for the
    reason in `problem`.
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


def parse_environment_request(text: str) -> EnvironmentRequest:
    """Read `RUNTIME`, `RUNTIME==VERSION` or `NAME=RUNTIME==VERSION`; raises `UsageError`."""
    match = _REQUEST.fullmatch(text)
    known = registry.installable_runtimes()
    if match is None or match["runtime"] not in known:
        names = " or ".join(filter(None, [", ".join(known[:-1]), *known[-1:]]))
        raise UsageError(
            f"'{text}': expected {names}, optionally with a name and a version: old=torch==2.9.1"
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
    """Create an environment for each request and install its runtime, with uv or else venv and pip.

    Raises `UsageError` if one exists already, `InterpreterError` with the installer's message if
    it fails; the incomplete environment is removed.
    """
    folder = (folder or environments_folder()).absolute()
    for request in requests:
        if (folder / request.name).exists():
            raise UsageError(f"{folder / request.name}: already exists; remove it first")
    environments = []
    for request in requests:
        progress(request.name, "installing")
        environments.append(_create(request, folder / request.name, gpu))
    return environments


def _create(request: EnvironmentRequest, folder: Path, gpu: bool) -> Environment:
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        for command in _install_commands(request, folder, python, gpu, shutil.which("uv")):
            _run_installer(request.name, command)
        marker = {"runtime": request.runtime, "gpu": gpu}
        (folder / ENVIRONMENT_MARKER).write_text(json.dumps(marker), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _read_environment(folder)


def _install_commands(
    request: EnvironmentRequest, folder: Path, python: Path, gpu: bool, uv: str | None
) -> list[list[str]]:
    """Return the commands that create the environment and install its packages, in order."""
    info = registry.get(request.runtime)
    extra = info.gpu_extra if gpu and info.gpu_extra is not None else info.extra
    packages = origin.pip_arguments(extra or "")
    if request.version:
        packages.append(f"{info.main_package}{request.version}")
    if uv is not None:
        # Without this option uv takes the CPU build of PyTorch, as pyproject.toml states for it.
        sources = ["--no-sources"] if gpu else []
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *sources, *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
    ]


def _run_installer(name: str, command: list[str]) -> None:
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        errors = [line for line in lines if "ERROR" in line.upper()]
        message = (errors or lines or ["no message"])[-1]
        raise InterpreterError(f"{name}: the environment cannot be created: {message.strip()}")


def list_environments(folder: Path | None = None) -> list[Environment]:
    """Return the environments that `parity env create` made and those of parity.toml."""
    folders = find_environment_folders(folder or environments_folder())
    environments = list(map(_read_environment, folders))
    known = {path.absolute() for path in folders}
    runtimes = registry.frameworks()
    for name, path in read_configured_paths(Path.cwd()).items():
        if Path(path).absolute() not in known:
            runtime = name if name in runtimes else ""
            environments.append(_add_versions(Environment(name, path, runtime)))
    return environments


def _read_environment(folder: Path) -> Environment:
    """Read the marker of an environment, and the versions of its packages."""
    marker = json.loads((folder / ENVIRONMENT_MARKER).read_text(encoding="utf-8"))
    return _add_versions(Environment(folder.name, str(folder), marker["runtime"], marker["gpu"]))


def _add_versions(environment: Environment) -> Environment:
    """Return the environment with the versions of its runtime's packages, or of all runtimes'."""
    try:
        python = str(find_python(environment.name, environment.path))
        versions: dict[str, str] = {}
        for runtime in [environment.runtime] if environment.runtime else registry.frameworks():
            versions |= probe.probe_interpreter(runtime, python).versions
    except InterpreterError as error:
        return replace(environment, problem=str(error))
    return replace(environment, versions=versions)
