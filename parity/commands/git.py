"""git, run in a folder."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from parity.errors import UsageError


def start_git(
    folder: Path, *words: str, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder and wait for it, whether it succeeds or not.

    `options` are those of git itself, before the subcommand. Raises `UsageError` if git cannot be
    started.
    """
    command = ["git", "-C", str(folder), *options, *words]
    try:
        return subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise UsageError(f"git cannot be run: {error.strerror}") from error


def list_error_lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return the lines that git wrote to stderr, at least one."""
    return done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
