"""The progress of a call in a notebook: one line in the cell's output, gone when the call ends."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, ParamSpec, TypeVar

from parity.commands.values import Progress

P = ParamSpec("P")
T = TypeVar("T")


def show_in_notebooks(function: Callable[P, T]) -> Callable[P, T]:
    """Give a function with a parameter `progress` a progress line where it runs in a notebook.

    A caller's own `progress` is kept; outside a notebook nothing is shown.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if kwargs.get("progress") is not None or not is_in_notebook():
            return function(*args, **kwargs)
        with _show_line() as update:
            kwargs["progress"] = update
            return function(*args, **kwargs)

    return run


def is_in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, which shows HTML."""
    # What a notebook runs in has loaded IPython already; nothing else needs it.
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _show_line() -> Iterator[Progress]:
    display: Any = importlib.import_module("IPython.display")
    start, lock = time.perf_counter(), threading.Lock()
    activities: dict[str, str] = {}

    def render() -> Any:
        parts = [f"{name}: {text}" for name, text in activities.items() if text != "done"]
        seconds = time.perf_counter() - start
        line = "  ·  ".join([f"{seconds:.0f} s", *(parts or ["working"])])
        return display.HTML(f"<small>{escape(line)}</small>")

    handle = display.display(render(), display_id=True)

    def update(runtime: str, text: str) -> None:
        # Runtimes work side by side, each in a thread of its own.
        with lock:
            activities[runtime] = text
            handle.update(render())

    try:
        yield update
    finally:
        handle.update(display.HTML(""))
