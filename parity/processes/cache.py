"""The cache of graphs, calibrated random weights, results on zoos' models, and the zoos' names.

An entry is one file, ``KIND/KEY-CHECKSUM.SUFFIX``. The key is a hash of everything that the entry
depends on; the checksum is that of its bytes. An entry is published by one rename, so that several
processes can publish the same one. A damaged entry has another checksum than its name states.
The folder holds parity's own CACHEDIR.TAG. In a folder without it nothing is replaced or removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity import files, temporary
from parity.errors import OutputError, UsageError
from parity.numerics.checksum import compute_stream_checksum

MAX_BYTES = 4 * 2**30
"""Above this size the entries that were used longest ago are removed."""

IN_USE_S = 3600.0
"""Seconds during which an entry is not removed after its last use: it may still be read."""

SUFFIXES = {
    "arrays": ".npz",
    "graphs": ".onnx",
    "names": ".json",
    "results": ".json",
    "weights": ".safetensors",
}
"""{kind of entry, which is the name of its folder: the suffix of its files}."""

TAG = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_TAG_COMMENT = "# This is the cache of parity (parity.processes.cache/1)."
_TAG_TEXT = f"""{_SIGNATURE}
{_TAG_COMMENT}
# Its files can be deleted at any time; see https://bford.info/cachedir/
"""

# An entry; or, of early versions, one without a checksum and the remains of an interrupted write.
_NAME = re.compile(
    r"(\.[0-9a-f]{12}\.)?[0-9a-f]{32}(-[0-9a-f]{16})?(\.onnx|\.json|\.npz|\.safetensors)"
)


_NOTE = "cache entry"


def is_cache_note(note: str) -> bool:
    """Whether a note of a report is on a damaged cache entry."""
    return note.startswith(_NOTE)


def cache_folder() -> Path:
    """Return `$PARITY_CACHE`, or `parity` in the user's cache folder."""
    override = os.environ.get("PARITY_CACHE")
    if override:
        return Path(override)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "parity"


@dataclass(frozen=True)
class Cache:
    """The cache as one command uses it. If it is not `enabled`, nothing is found or stored."""

    enabled: bool = True
    notes: list[str] = field(default_factory=list)
    """One sentence for each damaged entry that was removed."""

    def find(self, kind: str, facts: Mapping[str, Any]) -> Path | None:
        """Return the entry with this key, its checksum verified; None if there is none.

        `facts` is everything that the entry depends on; its hash is the key. A damaged entry is
        removed, so that the caller computes it again, and added to `notes`.
        """
        if not self.enabled or not _has_tag(cache_folder()):
            return None
        for path in _find_candidates(kind, _key(facts)):
            problem, status = _verify_entry(path)
            if problem is None:
                mark_used(path)
                return path
            # Without the folder, since other people read reports.
            self.notes.append(f"{_NOTE} {kind}/{path.name} {problem}; it was computed again")
            _remove_damaged(path, status)
        return None

    def publish(self, kind: str, facts: Mapping[str, Any], file: Path) -> Path:
        """Copy a complete file into the cache and return its entry.

        `facts` is as for `find`. If the file cannot be copied, return `file` itself; the next run
        then computes it again.
        """
        if not self.enabled:
            return file
        with contextlib.suppress(OSError, OutputError):
            folder = _prepare_folder(cache_folder()) / kind
            folder.mkdir(exist_ok=True)
            with file.open("rb") as stream:
                checksum = compute_stream_checksum(stream)
            path = folder / f"{_key(facts)}-{checksum}{SUFFIXES[kind]}"
            with files.atomic_write(path) as part:
                shutil.copyfile(file, part)
            return path
        return file


def require_own_folder() -> None:
    """Raise UsageError if the cache folder holds files that `parity` did not write.

    A folder that does not exist yet, is empty or cannot be read is no error.
    """
    with contextlib.suppress(OSError):
        path = cache_folder()
        foreign = None if _has_tag(path) else _find_foreign(path)
        if foreign is not None:
            raise UsageError(
                f"{path}: not a parity cache: it holds '{foreign.name}' and has no {TAG} of "
                "parity; set PARITY_CACHE to a new or empty folder, or use --no-cache"
            )


def prune(limit: int = MAX_BYTES) -> None:
    """Remove entries, least recently used first, until the cache has at most `limit` bytes.

    Entries used within the last hour stay. Nothing but entries is removed.
    """
    entries = sorted(
        ((status.st_mtime, status.st_size, path) for path, status in _entries()),
        key=lambda entry: entry[0],
    )
    total = sum(size for _, size, _ in entries)
    for last_use, size, path in entries:
        if total <= limit or last_use > time.time() - IN_USE_S:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def total_bytes() -> int:
    """Return the size of all entries in bytes."""
    return sum(status.st_size for _, status in _entries())


def mark_used(path: Path) -> None:
    """Set an entry's time of last use to now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _key(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _find_candidates(kind: str, key: str) -> list[Path]:
    """Return the paths that are named like an entry with this key."""
    with contextlib.suppress(OSError):
        return sorted(
            path
            for path in (cache_folder() / kind).iterdir()
            if path.name.startswith(f"{key}-") and _NAME.fullmatch(path.name)
        )
    return []


def _verify_entry(path: Path) -> tuple[str | None, os.stat_result | None]:
    """Return (problem or None, status of the file that was read or None if it is no file)."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "is not a regular file", None
        with path.open("rb") as stream:
            checksum = compute_stream_checksum(stream)
            status = os.fstat(stream.fileno())
    except OSError as error:
        return f"cannot be read ({error.strerror})", None
    if path.stem.rpartition("-")[2] == checksum:
        return None, status
    return "is damaged: wrong checksum", status


def _remove_damaged(path: Path, status: os.stat_result | None) -> None:
    """Remove a damaged entry; rename it if it is no regular file, since parity wrote none such."""
    with contextlib.suppress(OSError):
        if status is None:
            path.rename(path.with_name(f"{path.name}.aside-{os.urandom(4).hex()}"))
        elif os.path.samestat(status, path.lstat()):
            # The status is compared because another process may have replaced the entry since.
            path.unlink()


def _entries() -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each entry with its status; none in a folder without parity's tag."""
    folder = cache_folder()
    if not _has_tag(folder):
        return
    for kind in SUFFIXES:
        with contextlib.suppress(OSError):
            for path in (folder / kind).iterdir():
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if _NAME.fullmatch(path.name) and stat.S_ISREG(status.st_mode):
                        yield path, status


def _has_tag(folder: Path) -> bool:
    """Return whether a folder holds parity's own CACHEDIR.TAG."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = (folder / TAG).read_text(encoding="utf-8").splitlines()
        return lines[:2] == [_SIGNATURE, _TAG_COMMENT]
    return False


def _find_foreign(folder: Path) -> Path | None:
    """Return the first path in an untagged folder that parity did not write. Raises OSError."""
    for path in folder.iterdir():
        if temporary.is_temporary(path.name):
            continue
        if path.name not in SUFFIXES or path.is_symlink() or not path.is_dir():
            return path
        # Early versions wrote no tag; their caches hold nothing but entries.
        foreign = (
            file
            for file in path.iterdir()
            if not (_NAME.fullmatch(file.name) or temporary.is_temporary(file.name))
        )
        if (first := next(foreign, None)) is not None:
            return first
    return None


def _prepare_folder(folder: Path) -> Path:
    """Create and tag the cache folder. Raises OSError, and OutputError for foreign files."""
    if not _has_tag(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if _find_foreign(folder) is not None:
            raise OutputError(f"{folder}: not a parity cache")
        files.write_text(folder / TAG, _TAG_TEXT)
    return folder
