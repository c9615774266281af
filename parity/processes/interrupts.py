"""Signal handlers for Ctrl-C and SIGTERM whose `KeyboardInterrupt` is never dropped.

Python raises `KeyboardInterrupt` between any two instructions of the main thread. In a destructor
or the callback of a weak reference the exception is printed and dropped, and the command goes on.
Imports use such callbacks, and an interrupted import leaves a module that is incomplete. In these
places the handler waits and tries again.
"""

from __future__ import annotations

import _weakrefset
import signal
import weakref
from collections.abc import Iterator
from types import FrameType

RETRY_S = 0.05
"""Seconds until an interruption that would be dropped is raised again."""

_DROPPING_FILES = ("<frozen importlib", weakref.__file__, _weakrefset.__file__)
_DROPPING_FUNCTIONS = ("__del__", "weakref_cb")


def install_handlers() -> None:
    """Install handlers that raise `KeyboardInterrupt` on SIGINT and SIGTERM.

    A signal that is ignored stays ignored. Must be called in the main thread.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM from now on: the process is about to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def cancel_retry() -> None:
    """Cancel an interruption that waits to be raised again, once the command has ended."""
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
    """Return whether Python may drop an exception that is raised in this frame."""
    code = frame.f_code
    return code.co_filename.startswith(_DROPPING_FILES) or code.co_name in _DROPPING_FUNCTIONS
