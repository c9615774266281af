"""Create and list Python environments, one for each runtime: `parity env`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import parity
from parity.errors import InterpreterError, UsageError
from parity.processes import origin, probe, registry
from parity.processes.file_lock import lock_file
from parity.processes.interpreters import (
    ENVIRONMENT_MARKER,
    environments_folder,
    find_environment_folders,
    find_python,
    is_own_interpreter,
    read_configured_paths,
)
from parity.text import quote, suggest

PINNED = "pinned"
"""The folder, among the environments, of those that are named by their content."""

_CLAUSE = r"(?:===?|!=|~=|<=?|>=?)\s*[^;@,\s=<>]+"
_REQUIREMENT = re.compile(
    r"(?P<package>[A-Za-z0-9][\w.-]*)(?:\[[\w,. -]*\])?"
    rf"\s*(?:{_CLAUSE}(?:\s*,\s*{_CLAUSE})*)?"
)

_REQUEST = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)=(?!=))?(?P<runtime>[a-z]\w*)(?P<version>[=<>!~][^ ]*)?"
)


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """An environment to create: `torch`, or `old=torch==2.9.1`.

    `packages` are further requirements, `extras` further extras of `parity`. `source` is where
    `parity` is installed from, by default where the running one was.
    """

    name: str
    runtime: str
    version: str = ""
    packages: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    source: origin.Origin | None = None


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


def ensure_environment(
    request: EnvironmentRequest, *, folder: Path | None = None
) -> tuple[Path, float]:
    """Return the Python of an environment with the request's packages, and the seconds it took.

    The environment's folder is named by a digest of what is installed in it, so that one that was
    made before is used again, by whatever name. Several processes may ask for the same one.
    Raises `InterpreterError` with the installer's message.
    """
    start = time.perf_counter()
    place = pinned_folder(request, folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(place.with_name(f".{place.name}.lock")):
        if not (place / ENVIRONMENT_MARKER).exists():
            # What an installation that was killed has left.
            shutil.rmtree(place, ignore_errors=True)
            _create(request, place, gpu=False)
    return find_python(request.name, str(place)), time.perf_counter() - start


def pinned_folder(request: EnvironmentRequest, folder: Path | None = None) -> Path:
    """Return the folder of the environment with a request's packages, which may not exist yet."""
    facts = {
        **asdict(request),
        "name": "",
        "source": asdict(request.source or origin.find_origin()),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    base = folder or environments_folder() / PINNED
    return base.absolute() / f"{request.runtime}-{digest[:16]}"


def parse_packages(name: str, texts: Sequence[str]) -> list[EnvironmentRequest]:
    """Return the environments that have these packages, one for each runtime.

    `texts` are requirements such as `torch==2.9.1`. A package of one runtime alone asks for an
    environment of that runtime; any other is installed in all of them. Raises `UsageError` for a
    malformed requirement, and if no package belongs to a runtime.
    """
    by_runtime: dict[str, list[str]] = {}
    common = []
    for text in texts:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"{quote(text)}: expected PACKAGE==VERSION, such as torch==2.9.1")
        runtime = _find_owner(match["package"])
        if runtime is None:
            common.append(text.strip())
        else:
            by_runtime.setdefault(runtime, []).append(text.strip())
    if not by_runtime:
        known = [registry.get(each).main_package for each in registry.installable_runtimes()]
        package = re.split(r"[^\w.-]", texts[0].strip())[0] if texts else ""
        hint = suggest(package, known, otherwise=f"known: {', '.join(known)}")
        raise UsageError(f"{quote(', '.join(texts))}: no package of a runtime{hint}")
    return [
        EnvironmentRequest(name, runtime, packages=(*own, *common))
        for runtime, own in by_runtime.items()
    ]


def _find_owner(package: str) -> str | None:
    """Return the one runtime that a package belongs to; None for one of several or of none."""
    key = package.lower().replace("_", "-")
    runtimes = registry.installable_runtimes()
    owners = [
        runtime
        for runtime in runtimes
        if key in {name for each in registry.get(runtime).packages for name in _names(each)}
    ]
    return owners[0] if len(owners) == 1 else None


def _names(package: registry.Package) -> tuple[str, ...]:
    return (package.name, *package.distributions)


def create_layer(
    folder: Path,
    requirement: str,
    *,
    base: str | None = None,
    find_links: Sequence[str | Path] = (),
) -> str:
    """Create an environment of one package above those of an interpreter; return its Python.

    It sees all packages of `base`, by default of this interpreter, and this parity; `requirement`,
    such as "onnxruntime==1.30", and what it needs beside, is found before them. pip installs it
    from its index and from the folders or pages in `find_links`. A complete layer that an earlier
    call has left in the folder is returned as it is.

    Raises `UsageError` for a folder that holds something else, `InterpreterError` with the
    installer's message if it fails; the incomplete environment is removed.
    """
    folder = folder.absolute()
    base = base or sys.executable
    marker = {"runtime": "", "gpu": False, "layer": requirement, "base": os.path.abspath(base)}
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if folder.exists():
        if _read_marker(folder) == marker:
            return str(python)
        raise UsageError(f"{folder}: already exists, and is no layer of {requirement}; remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run_installer(folder.name, [base, "-m", "venv", "--without-pip", str(folder)])
        _add_packages(folder, [*_list_package_folders(folder.name, base), *_own_root(base)])
        links = [word for each in find_links for word in ("--find-links", str(each))]
        _run_installer(
            requirement,
            [
                *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
                *("--disable-pip-version-check", "--no-warn-conflicts", *links, "--", requirement),
            ],
        )
        (folder / ENVIRONMENT_MARKER).write_text(json.dumps(marker), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return str(python)


def _read_marker(folder: Path) -> Any:
    """Return the marker of an environment; None if it has none."""
    try:
        return json.loads((folder / ENVIRONMENT_MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _list_package_folders(name: str, python: str) -> list[str]:
    """Return the folders of installed packages that an interpreter searches, in order."""
    code = "import json, sys; print(json.dumps([p for p in sys.path if p.endswith('-packages')]))"
    found: list[str] = json.loads(_run_installer(name, [python, "-P", "-c", code]))
    return found


def _own_root(base: str) -> list[str]:
    """Return the folder of this parity, for an interpreter that may import it."""
    return [str(Path(parity.__file__).resolve().parent.parent)] if is_own_interpreter(base) else []


def _add_packages(folder: Path, packages: Sequence[str]) -> None:
    """Let an environment import the packages in these folders, after its own."""
    (site,) = [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]
    # Not the folders alone: the .pth files in them name further ones.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in packages]
    (site / "parity-layer.pth").write_text("".join(lines), encoding="utf-8")


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
    extras = ",".join(filter(None, [extra, *request.extras]))
    packages = [*_list_origin_arguments(request, extras), *request.packages]
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


def _list_origin_arguments(request: EnvironmentRequest, extras: str) -> list[str]:
    """Return pip's arguments that install `parity`; raises as `origin.pip_arguments` does."""
    found = None if request.source is None else request.source.arguments(extras)
    return found or origin.pip_arguments(extras)


def _run_installer(name: str, command: list[str]) -> str:
    """Return what an installer prints. Raises `InterpreterError` with its message if it fails."""
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        errors = [line for line in lines if "ERROR" in line.upper()]
        message = (errors or lines or ["no message"])[-1]
        raise InterpreterError(f"{name}: the environment cannot be created: {message.strip()}")
    return process.stdout


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
