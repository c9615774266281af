"""Signal handlers for Ctrl-C and SIGTERM that never lose the interruption.

Python raises `KeyboardInterrupt` between any two steps of the main thread. Within a destructor or
the callback of a weak reference the exception is printed and dropped, and the command goes on. An
import has such callbacks, and an interrupted one also leaves half a module behind. In these places
the handler waits and tries again.
"""

from __future__ import annotations

import _weakrefset
import signal
import weakref
from collections.abc import Iterator
from types import FrameType

RETRY_S = 0.05
"""Seconds until an interruption that would be dropped is tried again."""

_DROPPING_FILES = ("<frozen importlib", weakref.__file__, _weakrefset.__file__)
_DROPPING_FUNCTIONS = ("__del__", "weakref_cb")


def install_handlers() -> None:
    """Raise `KeyboardInterrupt` on SIGINT and SIGTERM, where it reaches the caller.

    A signal that the parent process has set to be ignored stays ignored. Must be called in the
    main thread.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def cancel_retry() -> None:
    """Cancel an interruption that was to be tried again: the command has ended."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _handle(number: int, frame: FrameType | None) -> None:
    # Windows has no timer, so that the exception must be raised at once there.
    if hasattr(signal, "setitimer") and any(map(_drops_exceptions, _frames(frame))):
        signal.signal(signal.SIGALRM, _handle)
        signal.setitimer(signal.ITIMER_REAL, RETRY_S)
        return
    raise KeyboardInterrupt


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _drops_exceptions(frame: FrameType) -> bool:
    """Whether an exception that is raised in this frame may be dropped by the interpreter."""
    code = frame.f_code
    return code.co_filename.startswith(_DROPPING_FILES) or code.co_name in _DROPPING_FUNCTIONS
