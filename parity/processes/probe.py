"""What is installed for a runtime in an interpreter, read without importing any framework.

`python -m parity.processes.probe RUNTIME` prints it as JSON, for an interpreter other than our own.
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
from parity.processes import registry
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
"""What TensorFlow and ONNX Runtime load, by the major CUDA version that they were built for."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A runtime's packages in one interpreter."""

    parity: str = ""
    source: str = ""
    """A hash of the source of `parity` itself (`source_digest`)."""
    python: str = ""
    numpy: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """By package; those in `missing` have none."""
    missing: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    """A sentence for each package of which several distributions are installed together."""
    cuda: str | None = None
    """The CUDA version that the runtime was built for; None for a CPU build."""
    missing_libraries: tuple[str, ...] = ()
    """The libraries of that CUDA version that cannot be found."""


def probe_runtime(runtime: str) -> Installation:
    """Read what is installed for a runtime in this interpreter."""
    info = registry.get(runtime)
    versions: dict[str, str] = {}
    missing: list[str] = []
    conflicts: list[str] = []
    for package in info.packages:
        found = _installed_distributions(package)
        if found:
            versions[package.name] = found[0][1]
        else:
            missing.append(package.name)
        if package.exclusive and len(found) > 1:
            names = " and ".join(f"{name} {version}" for name, version in found)
            conflicts.append(
                f"{names} are installed together, and overwrite each other's files: uninstall "
                "both, then install one"
            )
    cuda = None if missing or info.cuda_build is None else _read_cuda_version(info.cuda_build)
    return Installation(
        parity=__version__,
        source=source_digest(),
        python=platform.python_version(),
        numpy=next((version for _, version in _installed_distributions(Package("numpy"))), None),
        versions=versions,
        missing=tuple(missing),
        conflicts=tuple(conflicts),
        cuda=cuda,
        missing_libraries=() if cuda is None else missing_cuda_libraries(cuda),
    )


@functools.cache
def source_digest() -> str:
    """SHA-256 over the name and text of every Python file of `parity` and the exporters.

    It takes some 4 ms (1 MB in 200 files), once a process.
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
    """`probe_runtime` in the interpreter `python`, our own by default.

    Raises `InterpreterError` for an interpreter that cannot be started, or that has no parity or
    another version of it.
    """
    if is_own_interpreter(python):
        return probe_runtime(runtime)
    assert python is not None
    done = _run_probe(python, runtime)
    if done.returncode:
        if "No module named" in done.stderr and "parity" in done.stderr:
            raise InterpreterError(describe_missing_parity(runtime, runtime, python))
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InterpreterError(f"{runtime}: {python} failed: {last}")
    found = json.loads(done.stdout)
    if found["parity"] != __version__:
        raise InterpreterError(describe_other_parity(runtime, runtime, python, found["parity"]))
    lists = ("missing", "conflicts", "missing_libraries")
    return Installation(**{**found, **{name: tuple(found[name]) for name in lists}})


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
    """The error of an interpreter without `parity`, which was to run this child."""
    return f"{child}: {python} has no parity; install it there: {_install_parity(runtime, python)}"


def describe_other_parity(child: str, runtime: str, python: str, found: str) -> str:
    """The error of an interpreter with another version of `parity`."""
    return (
        f"{child}: {python} has parity {found}, this is {__version__}; install the same "
        f"there: {_install_parity(runtime, python)}"
    )


def _install_parity(runtime: str, python: str) -> str:
    extra = registry.get(runtime).extra
    name = "parity" if extra is None else f"parity[{extra}]"
    return f'{python} -m pip install "{name}=={__version__}"'


def describe_problems(runtime: str, found: Installation, *, gpu: bool = False) -> list[str]:
    """One line, with a remedy, for each thing that keeps a runtime from working.

    With `gpu`, also for what keeps it from using a GPU.
    """
    info = registry.get(runtime)
    if found.missing:
        return [f"{runtime}: {', '.join(found.missing)} not installed; {info.install_command}"]
    lines = [f"{runtime}: {conflict}" for conflict in found.conflicts]
    if lines or not gpu:
        return lines
    return [f"{runtime}: {line}" for line in _describe_gpu_problems(info, found)]


def _describe_gpu_problems(info: RuntimeInfo, found: Installation) -> list[str]:
    build = info.cuda_build
    if build is None:
        return [f"{info.label} has no GPU build that parity knows"]
    name = f"{build.package} {found.versions[build.package]}"
    if found.cuda is None:
        return [f"{name} is a CPU build; {build.remedy}"]
    if found.missing_libraries:
        return [
            f"{name} is built for CUDA {found.cuda}, and {', '.join(found.missing_libraries)} "
            f"cannot be found; {build.remedy}"
        ]
    return []


def find_problems(runtime: str, *, gpu: bool = False) -> list[str]:
    """`describe_problems` of a runtime in this interpreter."""
    return describe_problems(runtime, probe_runtime(runtime), gpu=gpu)


def missing_cuda_libraries(cuda: str) -> tuple[str, ...]:
    """The libraries of a CUDA version that neither a package nor the system has.

    They are looked for where NVIDIA's packages put them, `nvidia/*/lib` on the module path, and
    then by the dynamic linker.
    """
    folders = [path for place in sys.path for path in Path(place or ".").glob("nvidia/*/lib")]
    missing = []
    for library in CUDA_LIBRARIES.get(cuda.partition(".")[0], ()):
        if any((folder / library).exists() for folder in folders):
            continue
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(library)
    return tuple(missing)


def _installed_distributions(package: Package) -> list[tuple[str, str]]:
    """The installed distributions that provide a package, with their versions."""
    # It takes as long to import as all the rest that a command needs before its children start.
    import importlib.metadata

    found = []
    for name in package.distributions or (package.name,):
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _read_cuda_version(build: CudaBuild) -> str | None:
    """The CUDA version that a package was built for; None for a CPU build."""
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
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


if __name__ == "__main__":
    print(json.dumps(asdict(probe_runtime(sys.argv[1]))))
