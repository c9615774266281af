"""The cache: exported structures and calibrated random weights, which are the same every time.

An entry is one file, ``KIND/KEY-CHECKSUM.SUFFIX``: the key is a hash of all that its bytes depend
on, the checksum is that of the bytes. So one rename publishes an entry, whoever else publishes the
same at that moment, and a damaged entry does not fit its name. The folder carries a CACHEDIR.TAG
of our own; in a folder without it, nothing is ever written, replaced or removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity import files
from parity.errors import OutputError, UsageError
from parity.numerics.checksum import compute_stream_checksum

MAX_BYTES = 4 * 2**30
"""The oldest entries make room for new ones above this size."""

IN_USE_S = 3600.0
"""Seconds for which an entry that was just used is not removed: its reader may still run."""

SUFFIXES = {"graphs": ".onnx", "weights": ".safetensors"}
"""Of the files of each kind of entry; the kind is the name of the folder that they lie in."""

TAG = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_OURS = "# This is the cache of parity (parity.processes.cache/1)."
_TAG_TEXT = f"""{_SIGNATURE}
{_OURS}
# What lies here is made again when it is missing; see https://bford.info/cachedir/
"""

# An entry, one of before there were checksums, or what an interrupted `files.Part` has left of one.
_NAME = re.compile(r"(\.[0-9a-f]{12}\.)?[0-9a-f]{32}(-[0-9a-f]{16})?(\.onnx|\.safetensors)")


def root() -> Path:
    """`$PARITY_CACHE`, or `parity` in the user's cache folder."""
    given = os.environ.get("PARITY_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "parity"


@dataclass(frozen=True)
class Cache:
    """The cache as one command uses it; not `enabled`, it finds nothing and keeps nothing."""

    enabled: bool = True
    notes: list[str] = field(default_factory=list)
    """A sentence for each damaged entry that was found."""

    def find(self, kind: str, facts: Mapping[str, Any]) -> Path | None:
        """The entry that these facts decide, its checksum verified; None where there is none.

        A damaged entry is taken away, so that it is made anew, and noted.
        """
        if not self.enabled or not _is_ours(root()):
            return None
        for path in _named(kind, _key(facts)):
            problem, seen = _examine(path)
            if problem is None:
                touch(path)
                return path
            # Without the folder: reports are shown to others.
            self.notes.append(f"the cache entry {kind}/{path.name} {problem}; it was made anew")
            _take_away(path, seen)
        return None

    def publish(self, kind: str, facts: Mapping[str, Any], made: Path) -> Path:
        """Copy the finished file `made` into the cache, as what these facts decide; the entry.

        Where that cannot be done it is `made` itself, which the next run then makes again.
        """
        if not self.enabled:
            return made
        with contextlib.suppress(OSError, OutputError):
            folder = _prepared(root()) / kind
            folder.mkdir(exist_ok=True)
            with made.open("rb") as stream:
                checksum = compute_stream_checksum(stream)
            path = folder / f"{_key(facts)}-{checksum}{SUFFIXES[kind]}"
            with files.replacing(path) as part:
                shutil.copyfile(made, part)
            return path
        return made


def require_ours() -> None:
    """Raise UsageError if the cache's folder holds what `parity` did not put there.

    A folder that is not there yet, is empty or cannot be read is no error.
    """
    with contextlib.suppress(OSError):
        path = root()
        foreign = None if _is_ours(path) else _foreign(path)
        if foreign is not None:
            raise UsageError(
                f"{path}: is no cache of parity: it holds '{foreign.name}' and no {TAG} of parity; "
                "set PARITY_CACHE to a new or empty folder, or use --no-cache"
            )


def prune(limit: int = MAX_BYTES) -> None:
    """Remove the entries used longest ago until the cache is no larger than `limit` bytes.

    Those used within the last hour stay. Nothing but entries is removed.
    """
    held = sorted(
        ((status.st_mtime, status.st_size, path) for path, status in _entries()),
        key=lambda entry: entry[0],
    )
    total = sum(size for _, size, _ in held)
    for used, size, path in held:
        if total <= limit or used > time.time() - IN_USE_S:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def size() -> int:
    """Bytes that the cache's entries take."""
    return sum(status.st_size for _, status in _entries())


def touch(path: Path) -> None:
    """Mark an entry as used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _key(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _named(kind: str, key: str) -> list[Path]:
    """What has the name of an entry with this key."""
    with contextlib.suppress(OSError):
        return sorted(
            path
            for path in (root() / kind).iterdir()
            if path.name.startswith(f"{key}-") and _NAME.fullmatch(path.name)
        )
    return []


def _examine(path: Path) -> tuple[str | None, os.stat_result | None]:
    """What is wrong with an entry, None if nothing is; and what was looked at, if it is a file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "is no plain file", None
        with path.open("rb") as stream:
            checksum = compute_stream_checksum(stream)
            seen = os.fstat(stream.fileno())
    except OSError as error:
        return f"cannot be read ({error.strerror})", None
    if path.stem.rpartition("-")[2] == checksum:
        return None, seen
    return "is damaged: its bytes do not have the checksum that it was saved with", seen


def _take_away(path: Path, seen: os.stat_result | None) -> None:
    """Remove a damaged entry; what is no plain file, and so not of our making, is moved aside."""
    with contextlib.suppress(OSError):
        if seen is None:
            path.rename(path.with_name(f"{path.name}.aside-{secrets.token_hex(4)}"))
        elif os.path.samestat(seen, path.lstat()):
            # Another process may have put a sound one there since.
            path.unlink()


def _entries() -> Iterator[tuple[Path, os.stat_result]]:
    """Every file that is an entry by its place and name, in a folder that is our cache."""
    path = root()
    if not _is_ours(path):
        return
    for kind in SUFFIXES:
        with contextlib.suppress(OSError):
            for found in (path / kind).iterdir():
                with contextlib.suppress(OSError):
                    status = found.lstat()
                    if _NAME.fullmatch(found.name) and stat.S_ISREG(status.st_mode):
                        yield found, status


def _is_ours(path: Path) -> bool:
    """Whether a folder carries our tag."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (path / TAG).read_text(encoding="utf-8").splitlines()[:2] == [_SIGNATURE, _OURS]
    return False


def _foreign(path: Path) -> Path | None:
    """Something in a folder without our tag that is not of our making. Raises OSError."""
    for found in path.iterdir():
        if found.name not in SUFFIXES or found.is_symlink() or not found.is_dir():
            return found
        # Caches of before there was a tag are nothing but entries.
        strange = (each for each in found.iterdir() if not _NAME.fullmatch(each.name))
        if (first := next(strange, None)) is not None:
            return first
    return None


def _prepared(path: Path) -> Path:
    """The cache's folder, made and tagged. Raises OSError, and OutputError if it is not ours."""
    if not _is_ours(path):
        path.mkdir(parents=True, exist_ok=True)
        if _foreign(path) is not None:
            raise OutputError(f"{path}: is no cache of parity")
        files.write_text(path / TAG, _TAG_TEXT)
    return path
