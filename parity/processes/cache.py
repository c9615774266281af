"""The cache: exported structures and calibrated random weights, which are the same every time."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import parity

MAX_BYTES = 4 * 2**30
"""The oldest entries make room for new ones above this size."""


def root() -> Path:
    """`$PARITY_CACHE`, or `parity` in the user's cache folder."""
    given = os.environ.get("PARITY_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "parity"


def entry(kind: str, suffix: str, facts: Mapping[str, Any]) -> Path:
    """Where the entry that these facts decide lies, or would lie; its folder exists.

    The facts are everything that the entry's bytes depend on; equal facts give an equal name.
    """
    text = json.dumps(facts, sort_keys=True)
    folder = root() / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}{suffix}"


def entry_or(
    folder: Path, kind: str, suffix: str, facts: Mapping[str, Any], *, cached: bool = True
) -> Path:
    """`entry`; where there is no cache to write to, or none is wanted, a file in `folder`."""
    if cached:
        with contextlib.suppress(OSError):
            path = entry(kind, suffix, facts)
            if os.access(path.parent, os.W_OK):
                touch(path)
                return path
    return folder / f"{facts.get('side', kind)}{suffix}"


def source_digest(*places: str) -> str:
    """A hash of the Python source under these folders or files of the installed packages."""
    digest = hashlib.sha256()
    base = Path(parity.__file__).parent.parent
    for place in places:
        path = base / place
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        for file in files:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the installed packages among `names`, without importing them."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def touch(path: Path) -> None:
    """Mark an entry as used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def prune(limit: int = MAX_BYTES) -> None:
    """Remove the entries used longest ago until the cache is no larger than `limit` bytes."""
    held = []
    for path in root().glob("*/*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            held.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in held)
    for _, size, path in sorted(held):
        if total <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def size() -> int:
    """Bytes that the cache holds."""
    total = 0
    for path in root().glob("*/*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
