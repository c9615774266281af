"""A Python file that runs in a process of its own, with a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ScriptResult:
    """How a script ended; `code` is None if it was killed at the time limit."""

    code: int | None
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line of what went wrong, for a message."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def run_script(
    path: Path, arguments: Sequence[str] = (), *, python: str | None, timeout: float
) -> ScriptResult:
    """Run a file with an interpreter, or this one, in the file's folder.

    At the time limit the process and those that it has started are killed.
    """
    command = [python or sys.executable, str(path), *arguments]
    process = subprocess.Popen(
        command, cwd=path.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
        code: int | None = process.returncode
    except BaseException as error:
        _kill_group(process)
        out, err = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        code = None
    return ScriptResult(code, out.decode(errors="replace"), err.decode(errors="replace"))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    kill_group = getattr(os, "killpg", None)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if kill_group is None:
            process.kill()
        else:
            kill_group(process.pid, signal.SIGKILL)
