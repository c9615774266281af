"""The packages installed for a runtime in an interpreter, found without importing a framework.

`python -m parity.processes.probe RUNTIME` prints them as JSON; another interpreter is probed so.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import parity
from parity.errors import InterpreterError
from parity.processes import origin, registry, zoos
from parity.processes.interpreters import is_own_interpreter
from parity.processes.registry import CudaBuild, Package, RuntimeInfo
from parity.version import __version__

CUDA_LIBRARIES = {
    "12": (
        "libcudart.so.12",
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
        "libcudnn.so.9",
    ),
    "13": (
        "libcudart.so.13",
        "libcublas.so.13",
        "libcublasLt.so.13",
        "libcufft.so.12",
        "libcudnn.so.9",
    ),
}
"""The libraries that TensorFlow and ONNX Runtime load, by the major CUDA version of their build."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A runtime's packages in one interpreter."""

    parity: str = ""
    source: str = ""
    """A hash of the source of `parity` itself (`source_digest`)."""
    python: str = ""
    numpy: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """By package; without the packages in `missing`."""
    zoos: Mapping[str, str] = field(default_factory=dict)
    """The versions of the packages of the runtime's zoos, by package, of those that are installed.
    """
    missing: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    """A sentence for each package of which conflicting distributions are installed."""
    cuda: str | None = None
    """The CUDA version that the runtime was built for; None for a CPU build."""
    missing_libraries: tuple[str, ...] = ()
    """The libraries of that CUDA version that are not found."""


def probe_runtime(runtime: str) -> Installation:
    """Return what is installed for a runtime in this interpreter."""
    info = registry.get(runtime)
    versions: dict[str, str] = {}
    missing: list[str] = []
    conflicts: list[str] = []
    for package in info.packages:
        distributions = _list_distributions(package)
        if distributions:
            versions[package.name] = distributions[0][1]
        else:
            missing.append(package.name)
        if package.exclusive and len(distributions) > 1:
            names = " and ".join(f"{name} {version}" for name, version in distributions)
            conflicts.append(
                f"{names} are both installed and overwrite each other's files; uninstall both, "
                "then install one"
            )
    cuda = None if missing or info.cuda_build is None else _read_cuda_version(info.cuda_build)
    return Installation(
        parity=__version__,
        source=source_digest(),
        python=platform.python_version(),
        numpy=next((version for _, version in _list_distributions(Package("numpy"))), None),
        versions=versions,
        zoos=_list_zoo_versions(runtime),
        missing=tuple(missing),
        conflicts=tuple(conflicts),
        cuda=cuda,
        missing_libraries=() if cuda is None else missing_cuda_libraries(cuda),
    )


@functools.cache
def source_digest() -> str:
    """Return the SHA-256 of the names and texts of all Python files of `parity` and the exporters.

    It takes about 4 ms (1 MB in 200 files), once in a process.
    """
    digest = hashlib.sha256()
    base = Path(parity.__file__).parent.parent
    for package in ("exporters", "parity"):
        for file in sorted((base / package).rglob("*.py")):
            text = file.read_bytes()
            digest.update(f"{file.relative_to(base).as_posix()} {len(text)}\n".encode())
            digest.update(text)
    return digest.hexdigest()


def probe_interpreter(runtime: str, python: str | None = None) -> Installation:
    """Return `probe_runtime` of the interpreter `python`, by default of this one.

    Raises `InterpreterError` for an interpreter that cannot be started, or that has no parity or
    another version of it.
    """
    if is_own_interpreter(python):
        return probe_runtime(runtime)
    assert python is not None
    process = _run_probe(python, runtime)
    if process.returncode:
        if "No module named" in process.stderr and "parity" in process.stderr:
            raise InterpreterError(describe_missing_parity(runtime, runtime, python))
        message = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise InterpreterError(f"{runtime}: {python} failed: {message}")
    fields = json.loads(process.stdout)
    if fields["parity"] != __version__:
        raise InterpreterError(describe_other_parity(runtime, runtime, python, fields["parity"]))
    lists = ("missing", "conflicts", "missing_libraries")
    return Installation(**{**fields, **{name: tuple(fields[name]) for name in lists}})


def _run_probe(python: str, runtime: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [python, "-P", "-m", "parity.processes.probe", runtime],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterpreterError(f"{runtime}: cannot start {python}: {error}") from error


def describe_missing_parity(child: str, runtime: str, python: str) -> str:
    """Return the error message for a child whose interpreter has no `parity`."""
    command = _parity_install_command(runtime, python)
    return f"{child}: {python} has no parity; install it there: {command}"


def describe_other_parity(child: str, runtime: str, python: str, version: str) -> str:
    """Return the error message for a child whose interpreter has another version of `parity`."""
    return (
        f"{child}: {python} has parity {version}, this is {__version__}; install the same "
        f"there: {_parity_install_command(runtime, python)}"
    )


def _parity_install_command(runtime: str, python: str) -> str:
    return origin.install_command(registry.get(runtime).extra, python=python)


def describe_problems(runtime: str, installation: Installation, *, gpu: bool = False) -> list[str]:
    """Return one line, with a remedy, for each reason why a runtime cannot work.

    With `gpu`, also for each reason why it cannot use a GPU.
    """
    info = registry.get(runtime)
    if installation.missing:
        names = ", ".join(installation.missing)
        return [f"{runtime}: {names} not installed; {info.install_command}"]
    lines = [f"{runtime}: {conflict}" for conflict in installation.conflicts]
    if lines or not gpu:
        return lines
    return [f"{runtime}: {line}" for line in _describe_gpu_problems(info, installation)]


def _describe_gpu_problems(info: RuntimeInfo, installation: Installation) -> list[str]:
    build = info.cuda_build
    if build is None:
        return [f"{info.label} has no GPU build that parity knows"]
    name = f"{build.package} {installation.versions[build.package]}"
    if installation.cuda is None:
        return [f"{name} is a CPU build; {info.gpu_remedy}"]
    if installation.missing_libraries:
        libraries = ", ".join(installation.missing_libraries)
        return [
            f"{name} is built for CUDA {installation.cuda}; not found: {libraries}; "
            f"{info.gpu_remedy}"
        ]
    return []


def find_problems(runtime: str, *, gpu: bool = False) -> list[str]:
    """Return `describe_problems` of a runtime in this interpreter."""
    return describe_problems(runtime, probe_runtime(runtime), gpu=gpu)


def missing_cuda_libraries(cuda: str) -> tuple[str, ...]:
    """Return the libraries of a CUDA version that are not found.

    They are searched where NVIDIA's packages put them, `nvidia/*/lib` on the module path, and then
    by the dynamic linker.
    """
    folders = [path for root in sys.path for path in Path(root or ".").glob("nvidia/*/lib")]
    missing = []
    for library in CUDA_LIBRARIES.get(cuda.partition(".")[0], ()):
        if any((folder / library).exists() for folder in folders):
            continue
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(library)
    return tuple(missing)


def _list_distributions(package: Package) -> list[tuple[str, str]]:
    """Return (name, version) of each installed distribution that provides a package."""
    # Imported here because it takes as long as everything else before a command's children start.
    import importlib.metadata

    distributions = []
    for name in package.distributions or (package.name,):
        try:
            distributions.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return distributions


def _list_zoo_versions(runtime: str) -> dict[str, str]:
    """Return the versions of the installed packages of a runtime's zoos."""
    packages = [
        package
        for zoo in zoos.all_zoos().values()
        if zoo.runtime == runtime
        for package in zoo.packages
    ]
    found = {package: _list_distributions(Package(package)) for package in packages}
    return {package: versions[0][1] for package, versions in found.items() if versions}


def _read_cuda_version(build: CudaBuild) -> str | None:
    """Return the CUDA version that a package was built for; None for a CPU build."""
    folder = _package_folder(build.package)
    if folder is None or (build.library and not any(folder.glob(build.library))):
        return None
    try:
        text = (folder / build.file).read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(build.pattern, text.replace('"', "'"), re.MULTILINE)
    return match.group(1) if match else None


def _package_folder(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        # A package whose search fails cannot be imported either; the child says why.
        return None
    locations = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(locations))) if locations else None


if __name__ == "__main__":
    print(json.dumps(asdict(probe_runtime(sys.argv[1]))))
