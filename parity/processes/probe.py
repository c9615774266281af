"""What a runtime's packages are in an interpreter, read without importing any of them.

`python -m parity.processes.probe RUNTIME` prints it as JSON, for an interpreter other than our own.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import parity
from parity.errors import InterpreterError

INSTALL = {
    "keras": 'pip install "parity[keras]"',
    "torch": 'pip install "parity[torch]"',
    "onnx": 'pip install "parity[onnx]"',
}
INSTALL_GPU = {
    "keras": 'pip install "parity[keras-gpu]" in an environment of its own',
    "torch": "pip install a CUDA build of torch (pytorch.org, Get Started)",
    "onnx": 'pip uninstall onnxruntime; pip install "parity[onnx-gpu]"',
}

LIBRARIES = {
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
"""What TensorFlow and ONNX Runtime load, by the CUDA that they were built for."""

REQUIRED = {
    "keras": ("keras", "tensorflow", "tf2onnx", "onnx"),
    "torch": ("torch", "onnx", "onnxscript"),
    "onnx": ("onnxruntime", "onnx"),
}
"""The packages that each runtime needs for all that `parity` does."""

ONNXRUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-training",
)
"""Distributions that all install the one module `onnxruntime`."""

_VARIANTS = {
    "onnxruntime": ONNXRUNTIMES,
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly"),
}


def probe(runtime: str) -> dict[str, Any]:
    """Versions of the runtime's packages, the ones that are missing, and what is wrong with them.

    "cuda" is the CUDA version that the runtime was built for, None for a build without; "absent"
    are the libraries of that version that cannot be found. "source" is a hash of `parity` itself.
    """
    versions: dict[str, str] = {}
    missing: list[str] = []
    for package in REQUIRED[runtime]:
        held = _held(package)
        if held:
            versions[package] = held[0][1]
        else:
            missing.append(package)
    wrong = []
    if runtime == "onnx" and len(held := _held("onnxruntime")) > 1:
        names = " and ".join(f"{name} {version}" for name, version in held)
        wrong.append(
            f"{names} are installed together, and overwrite each other's files: uninstall both, "
            "then install one"
        )
    cuda = _BUILDS[runtime]() if not missing else None
    return {
        "parity": parity.__version__,
        "source": source_digest(),
        "python": platform.python_version(),
        "numpy": next((version for _, version in _held("numpy")), None),
        "versions": versions,
        "missing": missing,
        "wrong": wrong,
        "cuda": cuda,
        "absent": absent_libraries(cuda) if cuda is not None else [],
    }


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


def problems(runtime: str, *, gpu: bool = False) -> list[str]:
    """One line for each thing that keeps the runtime of this interpreter from working."""
    return told(runtime, probe(runtime), gpu=gpu)


def of(runtime: str, python: str | None = None) -> dict[str, Any]:
    """`probe` in the interpreter `python`, our own by default; raises `InterpreterError`."""
    if is_own(python):
        return probe(runtime)
    assert python is not None
    done = _asked(python, runtime)
    if done.returncode:
        if "No module named" in done.stderr and "parity" in done.stderr:
            raise InterpreterError(failing_subjects(runtime, python))
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InterpreterError(f"{runtime}: {python} failed: {last}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["parity"] != parity.__version__:
        raise InterpreterError(other_parity(runtime, python, found["parity"]))
    return found


def is_own(python: str | None) -> bool:
    """Whether this is our own interpreter, by its name: a link can be another environment."""
    return python is None or os.path.abspath(python) == os.path.abspath(sys.executable)


def _asked(python: str, runtime: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [python, "-P", "-m", "parity.processes.probe", runtime],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterpreterError(f"{runtime}: cannot start {python}: {error}") from error


def failing_subjects(runtime: str, python: str) -> str:
    """What to tell of an interpreter that has no `parity`."""
    return (
        f"{runtime}: {python} has no parity; install it there: {python} -m pip install "
        f'"parity[{runtime}]=={parity.__version__}"'
    )


def other_parity(runtime: str, python: str, found: str) -> str:
    """What to tell of an interpreter with another version of `parity`."""
    return (
        f"{runtime}: {python} has parity {found}, this is {parity.__version__}; install the same "
        f'there: {python} -m pip install "parity[{runtime}]=={parity.__version__}"'
    )


def told(runtime: str, found: dict[str, Any], *, gpu: bool = False) -> list[str]:
    """What `probe` found, as lines for a user."""
    if found["missing"]:
        return [f"{runtime}: {', '.join(found['missing'])} not installed; {INSTALL[runtime]}"]
    lines = [f"{runtime}: {line}" for line in found["wrong"]]
    if lines or not gpu:
        return lines
    package = REQUIRED[runtime][1 if runtime == "keras" else 0]
    version = found["versions"][package]
    if found["cuda"] is None:
        return [f"{runtime}: {package} {version} is a CPU build; {INSTALL_GPU[runtime]}"]
    if found["absent"]:
        return [
            f"{runtime}: {package} {version} is built for CUDA {found['cuda']}, and "
            f"{', '.join(found['absent'])} cannot be found; {INSTALL_GPU[runtime]}"
        ]
    return []


def absent_libraries(cuda: str) -> list[str]:
    """The CUDA libraries of a version that neither a package nor the system has.

    They are looked for where NVIDIA's packages put them, `nvidia/*/lib` on the module path, and
    then by the dynamic linker.
    """
    folders = [path for place in sys.path for path in Path(place or ".").glob("nvidia/*/lib")]
    absent = []
    for library in LIBRARIES.get(cuda.partition(".")[0], ()):
        if any((folder / library).exists() for folder in folders):
            continue
        try:
            ctypes.CDLL(library)
        except OSError:
            absent.append(library)
    return absent


def _held(package: str) -> list[tuple[str, str]]:
    """The installed distributions that provide a package, with their versions."""
    # It takes as long to import as all the rest that a command needs before its children start.
    import importlib.metadata

    found = []
    for name in _VARIANTS.get(package, (package,)):
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _torch_cuda() -> str | None:
    return _read("torch", "version.py", r"^cuda[^=]*= *'([\d.]+)'")


def _tensorflow_cuda() -> str | None:
    # TensorFlow's plain Linux wheel is built for CUDA; the libraries are what its extra brings.
    return _read("tensorflow", "python/platform/build_info.py", r"'cuda_version', *'([\d.]+)'")


def _onnxruntime_cuda() -> str | None:
    folder = _folder("onnxruntime")
    if folder is None or not any((folder / "capi").glob("*onnxruntime_providers_cuda*")):
        return None
    return _read("onnxruntime", "capi/build_and_package_info.py", r"^cuda_version *= *'([\d.]+)'")


_BUILDS = {"keras": _tensorflow_cuda, "torch": _torch_cuda, "onnx": _onnxruntime_cuda}


def _read(package: str, path: str, pattern: str) -> str | None:
    folder = _folder(package)
    try:
        text = (folder / path).read_text(encoding="utf-8") if folder else ""
    except OSError:
        return None
    found = re.search(pattern, text.replace('"', "'"), re.MULTILINE)
    return found.group(1) if found else None


def _folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1])))
