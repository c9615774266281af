"""The registry of zoos, public collections of models: each is a folder, found without a list.

A folder `parity/runtimes/RUNTIME/zoos/NAME/` is the zoo `NAME:`. It holds `about.py`, whose `ABOUT`
is a `ZooInfo`, and `load.py`, which the child of that runtime imports. Neither the discovery nor an
`about.py` imports a framework.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from parity.errors import RequirementError
from parity.processes import origin, registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooInfo:
    """The properties of a zoo that the parent process needs before it starts a child."""

    name: str = ""
    """The folder's name; filled in by the discovery."""
    runtime: str = ""
    """The runtime of its models; filled in by the discovery."""
    module: str = ""
    """The module that loads its models; filled in by the discovery."""
    packages: tuple[str, ...]
    """The packages that it imports."""
    extra: str
    """The extra of `parity` that installs them."""
    holds_folders: bool = False
    """Whether its models are folders on this machine, not names."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every child, which keep its hub from downloading."""

    @property
    def install_command(self) -> str:
        """The command that installs it, for an error message."""
        command = origin.install_command(self.extra, self.packages)
        return f"{command} or pip install {' '.join(self.packages)}"


def all_zoos() -> Mapping[str, ZooInfo]:
    """Return {name: zoo} of every registered runtime, sorted by name."""
    modules = tuple((name, info.module) for name, info in registry.all_runtimes().items())
    return _discover(modules)


@functools.cache
def _discover(modules: tuple[tuple[str, str], ...]) -> Mapping[str, ZooInfo]:
    """Return the zoos beside the modules of these runtimes."""
    zoos: dict[str, ZooInfo] = {}
    for runtime, module in modules:
        package = f"{module.rpartition('.')[0]}.zoos"
        if importlib.util.find_spec(package) is None:
            continue
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
            zoos[found.name] = _read_about(f"{package}.{found.name}", found.name, runtime)
    return MappingProxyType(dict(sorted(zoos.items())))


def _read_about(package: str, name: str, runtime: str) -> ZooInfo:
    info = getattr(importlib.import_module(f"{package}.about"), "ABOUT", None)
    if not isinstance(info, ZooInfo):
        raise RequirementError(
            f"{package}.about: expected ABOUT, a ZooInfo, found {type(info).__name__}"
        )
    return replace(info, name=name, runtime=runtime, module=f"{package}.load")
