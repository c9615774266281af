"""What must be equal for a warm child to be the one that a command would start itself."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity.processes import probe, registry
from parity.version import __version__

_HARMLESS = frozenset(
    {
        *("_", "PWD", "OLDPWD", "SHLVL", "TMPDIR", "COLUMNS", "LINES", "COLORTERM", "DISPLAY"),
        *("EDITOR", "PAGER", "LESS", "LS_COLORS", "PS1", "GPG_TTY", "WINDOWID", "STY"),
        *("XDG_SESSION_ID", "PARITY_CACHE", "PARITY_ENVIRONMENTS", "GITHUB_STEP_SUMMARY"),
    }
)
_HARMLESS_PREFIXES = ("SSH_", "TERM", "TMUX", "VTE_", "KITTY_", "VSCODE_", "PYTEST_")
"""Variables of a terminal or a shell, and those that parity reads itself: a framework's import
depends on none of them, and a child that is taken gets them. Any other variable counts."""


def hash_installation(*, cached: bool = True) -> str:
    """Return a hash of this parity, this interpreter and the packages installed for it.

    Unless `cached`, the source is read again. It takes a few milliseconds.
    """
    digest = probe.source_digest if cached else probe.source_digest.__wrapped__
    return _hash(
        {
            "parity": __version__,
            "source": digest(),
            # An environment has its interpreter under several names.
            "python": [sys.version, os.path.realpath(sys.executable), sys.prefix, sys.exec_prefix],
            "packages": list(_list_package_stamps()),
        }
    )


def hash_child(runtime: str, variables: Mapping[str, str]) -> str | None:
    """Return a hash of what a child of a runtime depends on beside its installation.

    It is that of `read_child_conditions`, and None where that is.
    """
    conditions = read_child_conditions(runtime, variables)
    return None if conditions is None else hash_conditions(conditions)


def read_child_conditions(runtime: str, variables: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what a child of a runtime depends on beside its installation, by name.

    That is its environment variables, as hashes, the files that the framework reads while it is
    imported, and the limits, cores and priority of this process, which a child inherits. None if
    it also depends on the working folder, through a relative path.
    """
    paths = variables.get("PYTHONPATH", "").split(os.pathsep)
    if any(path and not os.path.isabs(path) for path in paths):
        return None
    relevant = {
        f"variable {name}": _hash(value)
        for name, value in sorted(variables.items())
        if name not in _HARMLESS and not name.startswith(_HARMLESS_PREFIXES)
    }
    info = registry.get(runtime)
    files = [os.path.expandvars(os.path.expanduser(each)) for each in info.configuration_files]
    return {
        "runtime": runtime,
        "module": info.module,
        **relevant,
        **{f"file {path}": stamp_file(path) for path in files},
        "limits": [
            list(resource.getrlimit(getattr(resource, name)))
            for name in sorted(dir(resource))
            if name.startswith("RLIMIT_")
        ],
        "cores": sorted(os.sched_getaffinity(0)),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }


def hash_conditions(conditions: Mapping[str, Any]) -> str:
    """Return the hash of what `read_child_conditions` returns."""
    return _hash(dict(conditions))


def list_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the conditions in which two children differ."""
    absent = object()
    names = sorted({*one, *other})
    return [name for name in names if one.get(name, absent) != other.get(name, absent)]


def stamp_file(path: str) -> list[int] | None:
    """Return a file's time of change, size and number; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def list_user_files(loaded: Mapping[str, Any]) -> list[str]:
    """Return the files of loaded modules that belong to no installed package, nor to parity.

    They are the user's: a module that changes would not be seen in a process that has it.
    """
    own = str(Path(__file__).resolve().parents[2])
    exporters = str(Path(own).with_name("exporters"))
    known = {
        os.path.realpath(path) for path in [*_list_package_folders(), *_list_standard_library()]
    }
    known |= {own, exporters}
    found = []
    for module in list(loaded.values()):
        file = getattr(module, "__file__", None)
        # Some modules that are no files state the name of one.
        if not isinstance(file, str) or not os.path.isabs(file) or not os.path.exists(file):
            continue
        path = os.path.realpath(file)
        if not any(path.startswith(f"{folder}{os.sep}") for folder in known):
            found.append(path)
    return sorted(set(found))


def _list_standard_library() -> Iterator[str]:
    """Yield the folders of the standard library."""
    yield os.path.dirname(os.__file__)
    yield os.path.dirname(json.__file__)


def _list_package_folders() -> list[str]:
    """Return the folders of installed packages, by what their names end in everywhere."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


def _list_package_stamps() -> Iterator[list[Any]]:
    """Yield each installed distribution and path file, with its time of change."""
    for folder in _list_package_folders():
        try:
            with os.scandir(folder) as entries:
                found = [
                    [entry.path, entry.stat(follow_symlinks=False).st_mtime_ns]
                    for entry in entries
                    if entry.name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth"))
                    or entry.name in ("sitecustomize.py", "usercustomize.py")
                ]
        except OSError:
            continue
        yield from sorted(found)


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
