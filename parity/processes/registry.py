"""The registry of runtimes: each is a folder with an `about.py`, found without a list.

A folder `parity/runtimes/NAME/` is a runtime if it holds `about.py`, whose `ABOUT` is a
`RuntimeInfo`; its `runtime.py` holds the class `Runtime` that the child process serves. Neither
the discovery nor an `about.py` imports a framework.

`PARITY_RUNTIMES` names the packages that are searched, separated by commas; the first one that
holds a name wins. The default is `parity.runtimes`.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from parity.errors import RequirementError

PACKAGES_VARIABLE = "PARITY_RUNTIMES"
DEFAULT_PACKAGES = "parity.runtimes"


@dataclass(frozen=True, eq=False)
class Package:
    """A package that a runtime imports, and the distributions that provide it."""

    name: str
    distributions: tuple[str, ...] = ()
    """The names under which it can be installed, the preferred one first; `name` by default."""
    exclusive: bool = False
    """Whether two of its distributions, installed together, overwrite each other's files."""


@dataclass(frozen=True, eq=False)
class CudaBuild:
    """How to read, without importing it, which CUDA version a package was built for."""

    package: str
    file: str
    """The file that states the version, from the package's folder."""
    pattern: str
    """A regular expression whose one group is the version; quotes in the file read as `'`."""
    library: str | None = None
    """A glob, from the package's folder, of a library that only the CUDA build has."""
    remedy: str = "{install}"
    """How to install the CUDA build; `{install}` is the command that installs `gpu_extra`."""


@dataclass(frozen=True, eq=False)
class Backend:
    """A framework that a runtime can compute with, if it can use several."""

    name: str
    keeps_gpu_memory: bool = False
    """Whether its GPU memory is freed only when its process ends."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RuntimeInfo:
    """The properties of a runtime that the parent process needs before it starts a child.

    A runtime that neither holds models nor runs graphs is a helper: it is no subject and cannot be
    installed by `parity env create`.
    """

    name: str = ""
    """The folder's name; filled in by the discovery."""
    module: str = ""
    """The module whose class `Runtime` the child serves; filled in by the discovery."""
    label: str
    """Its name in reports and progress messages: "PyTorch"."""
    startup_seconds: float = 0.0
    """The approximate time of its import; the slowest runtime is started first."""

    packages: tuple[Package, ...] = ()
    """The packages that must be installed; reports show their versions."""
    main_package: str = ""
    """The package whose version is the runtime's: `parity env create old=torch==2.9.1`."""
    extra: str | None = None
    """The extra of `parity` that installs it; None for one that `parity` cannot install."""
    gpu_extra: str | None = None
    """The extra that installs its GPU build."""
    cuda_build: CudaBuild | None = None

    holds_models: bool = False
    """Whether it builds and runs models of its own framework, and trains them."""
    model_class: str = ""
    """The class that its models are instances of: the package that defines it, and its name."""
    reference_rank: int | None = None
    """Its rank as the float64 reference, 0 the preferred one; None if it cannot be one."""
    exports_onnx: bool = False
    """Whether it exports its models to ONNX, for the subjects `GRAPH_RUNTIME-NAME`."""
    checkpoint_suffixes: tuple[str, ...] = ()
    """The suffixes of the checkpoint files that it reads and writes."""
    uses_safetensors: bool = False
    """Whether it reads and writes `.safetensors` files of models that are not registered."""
    written_suffixes: tuple[str, ...] = ()
    """The suffixes of model files that it writes beside those, which are read as models."""
    writes_in_place: bool = False
    """Whether its layers can overwrite the tensors that they read."""
    bypasses_layers: bool = False
    """Whether its `run` takes `bypass`, the layers that are replaced by the identity."""
    runs_graphs: bool = False
    """Whether it runs ONNX graphs: it has a subject `NAME-MODEL` for each exporting runtime."""
    evaluates_graphs_float64: bool = False
    """Whether it evaluates ONNX graphs in float64, for graph runtimes that cannot."""

    backends: tuple[Backend, ...] = ()
    """The backends of `NAME[BACKEND]`, the default first."""
    backend_variable: str | None = None
    """The environment variable that chooses the backend."""
    cpu_precisions: tuple[str, ...] = ()
    """The precisions below float32 that it computes in on the CPU."""
    compiles_xla: bool = False
    """Whether it can compile its models with XLA."""
    tf32_remedy: str = ""
    """The call or setting that turns TF32 off."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every child process."""
    cpu_variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the children that must not use a GPU."""
    gpu_variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the children that may use a GPU."""
    configuration_files: tuple[str, ...] = ()
    """Files of the user's that its import reads; variables and `~` are expanded."""

    @property
    def is_helper(self) -> bool:
        """Whether it only helps: it is no subject, and users do not name it."""
        return not (self.holds_models or self.runs_graphs)

    @property
    def package_names(self) -> tuple[str, ...]:
        """The names of the packages that must be installed."""
        return tuple(package.name for package in self.packages)

    @property
    def gpu_remedy(self) -> str:
        """The command that installs its GPU build, for an error message."""
        if self.cuda_build is None:
            return ""
        # Imported here, as below, because `parity --help` loads this module.
        from parity.processes import origin

        command = origin.install_command(self.gpu_extra, self.package_names)
        return self.cuda_build.remedy.format(install=command)

    @property
    def install_command(self) -> str:
        """The command that installs it, for an error message."""
        from parity.processes import origin

        if self.extra is not None:
            return origin.install_command(self.extra, self.package_names)
        return f"pip install {' '.join(self.package_names)}" if self.packages else "install it"


def all_runtimes() -> Mapping[str, RuntimeInfo]:
    """Return {name: runtime}, helpers included, the slowest to start first.

    Raises `RequirementError` for a package in `PARITY_RUNTIMES` that cannot be imported, and for
    an `about.py` without an `ABOUT`.
    """
    return _discover(os.environ.get(PACKAGES_VARIABLE) or DEFAULT_PACKAGES)


def frameworks() -> Mapping[str, RuntimeInfo]:
    """Return the runtimes that serve subjects: all except the helpers."""
    return {name: info for name, info in all_runtimes().items() if not info.is_helper}


def installable_runtimes() -> tuple[str, ...]:
    """Return the runtimes that an extra of `parity` installs."""
    return tuple(name for name, info in frameworks().items() if info.extra is not None)


def checkpoint_suffixes() -> dict[str, str]:
    """Return {suffix of a checkpoint file: the runtime that reads and writes it}."""
    runtimes = all_runtimes().items()
    return {suffix: name for name, info in runtimes for suffix in info.checkpoint_suffixes}


def model_checkpoint_suffixes(name: str) -> tuple[str, ...]:
    """Return the suffixes of the checkpoints of a runtime's models that are not registered."""
    info = get(name)
    return (*((".safetensors",) if info.uses_safetensors else ()), *info.checkpoint_suffixes)


def get(name: str) -> RuntimeInfo:
    """Return the runtime of this name; raises `RequirementError` for an unknown one."""
    known = all_runtimes()
    if name not in known:
        raise RequirementError(f"unknown runtime '{name}'; known: {', '.join(known)}")
    return known[name]


def label(name: str) -> str:
    """Return a runtime's name in reports and progress messages."""
    return get(name).label


def backend_names(runtime: str) -> tuple[str, ...]:
    """Return the backends of a runtime, the default first."""
    return tuple(backend.name for backend in get(runtime).backends)


def model_runtimes() -> tuple[str, ...]:
    """Return the runtimes that hold models of their own framework, the slowest to start first."""
    return tuple(name for name, info in all_runtimes().items() if info.holds_models)


def model_file_runtimes() -> dict[str, str]:
    """Return {suffix: runtime} of the files that trained models are written to."""
    return {
        suffix: name
        for name, info in all_runtimes().items()
        for suffix in (*info.checkpoint_suffixes, *info.written_suffixes)
    }


def graph_runtimes() -> tuple[str, ...]:
    """Return the runtimes that run ONNX graphs, the slowest to start first."""
    return tuple(name for name, info in all_runtimes().items() if info.runs_graphs)


def reference_candidates() -> tuple[str, ...]:
    """Return the runtimes that can be the float64 reference, the preferred one first."""
    ranks = {name: info.reference_rank for name, info in all_runtimes().items()}
    candidates = [(rank, name) for name, rank in ranks.items() if rank is not None]
    return tuple(name for _, name in sorted(candidates))


def graph_evaluator() -> str:
    """Return the runtime that evaluates ONNX graphs in float64; raises `RequirementError`."""
    for name, info in all_runtimes().items():
        if info.evaluates_graphs_float64:
            return name
    raise RequirementError("no runtime evaluates ONNX graphs in float64")


@functools.cache
def _discover(packages: str) -> Mapping[str, RuntimeInfo]:
    """Return the runtimes in these comma-separated packages."""
    runtimes: dict[str, RuntimeInfo] = {}
    for package in filter(None, map(str.strip, packages.split(","))):
        try:
            folders = list(importlib.import_module(package).__path__)
        except ImportError as error:
            raise RequirementError(
                f"{PACKAGES_VARIABLE}: {package} cannot be imported: {error}"
            ) from error
        for module in pkgutil.iter_modules(folders):
            if module.ispkg and module.name not in runtimes:
                info = _read_about(package, module.name)
                if info is not None:
                    runtimes[module.name] = info
    slowest_first = sorted(runtimes.values(), key=lambda info: -info.startup_seconds)
    return MappingProxyType({info.name: info for info in slowest_first})


def _read_about(package: str, name: str) -> RuntimeInfo | None:
    """Return the `ABOUT` of `package.name.about`; None for a folder without that module."""
    path = f"{package}.{name}.about"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name == path:
            return None
        raise
    info = getattr(module, "ABOUT", None)
    if not isinstance(info, RuntimeInfo):
        raise RequirementError(
            f"{path}: expected ABOUT, a RuntimeInfo, found {type(info).__name__}"
        )
    return replace(info, name=name, module=f"{package}.{name}.runtime")
