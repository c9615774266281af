"""Ctrl-C, at a moment at which it is heard.

Python raises `KeyboardInterrupt` between any two steps of the main thread. Within a destructor or
the callback of a weak reference it is printed and forgotten, and the command goes on as if nobody
had asked it to stop; an import has such callbacks, and leaves half a module behind besides.
"""

from __future__ import annotations

import _weakrefset
import signal
import weakref
from collections.abc import Iterator
from types import FrameType

AGAIN_S = 0.05
"""How long until an interruption that would get lost is tried again."""

_DEAF_FILES = ("<frozen importlib", weakref.__file__, _weakrefset.__file__)
_DEAF_NAMES = ("__del__", "weakref_cb")


def heed() -> None:
    """From now on Ctrl-C, and a scheduler's SIGTERM, raise `KeyboardInterrupt` where it is heard.

    One that whoever started us has told us to ignore stays ignored. Must be called in the main
    thread.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def done() -> None:
    """There is nothing left to interrupt."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Without a timer (Windows) it has to be now.
    if hasattr(signal, "setitimer") and any(map(_deaf, _stack(frame))):
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        return
    raise KeyboardInterrupt


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _deaf(frame: FrameType) -> bool:
    """Whether what is raised in this frame may reach nobody."""
    code = frame.f_code
    return code.co_filename.startswith(_DEAF_FILES) or code.co_name in _DEAF_NAMES
