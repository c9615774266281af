"""A runner whose tasks return, fail, die and wait, for the tests of the executors."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from parity.errors import UsageError


class Runner:
    """Runs (what, argument)."""

    def __init__(self) -> None:
        self._closed: Path | None = None

    def run(self, payload: tuple[str, Any]) -> Any:
        what, argument = payload
        return getattr(self, f"_{what.replace(' ', '_')}")(argument)

    def close(self) -> None:
        if self._closed is not None:
            self._closed.touch()

    def _double(self, number: int) -> int:
        return 2 * number

    def _bytes(self, count: int) -> bytes:
        return bytes(count)

    def _usage(self, message: str) -> None:
        raise UsageError(message)

    def _disk(self, path: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _fault(self, _: None) -> None:
        raise ZeroDivisionError("of a test")

    def _die(self, _: None) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _die_once(self, path: str) -> str:
        if not Path(path).exists():
            Path(path).touch()
            self._die(None)
        return "survived"

    def _pid(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    def _variables(self, _: None) -> dict[str, str]:
        return dict(os.environ)

    def _sleep(self, path: str) -> None:
        self._closed = Path(f"{path}.closed")
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)


def describe() -> dict[str, str]:
    return {"kind": "x"}
