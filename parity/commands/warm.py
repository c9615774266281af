"""`parity.warm`: keep children that have imported their frameworks, for later commands."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import Progress, no_progress
from parity.errors import RequirementError, UsageError
from parity.processes import gpus, probe, registry
from parity.processes.warm import launch
from parity.processes.warm.launch import ServerStatus
from parity.text import quote, suggest

SCHEMA = "parity.warm/1"

IDLE_MINUTES = 15.0

_READY_S = 300.0
"""Seconds to wait for the children's imports."""


@dataclass(frozen=True, slots=True)
class WarmStatus:
    """The servers of this user's warm children; `stopped` are those that were ended now."""

    servers: tuple[ServerStatus, ...] = ()
    stopped: tuple[ServerStatus, ...] = ()

    @property
    def current(self) -> ServerStatus | None:
        """The server whose children this parity takes; None if there is none."""
        return next((each for each in self.servers if each.current), None)

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain data, `parity.warm/1`."""
        return {"schema": SCHEMA, **asdict(self)}


@show_in_notebooks
def warm(
    *runtimes: str,
    idle_minutes: float = IDLE_MINUTES,
    stop: bool = False,
    progress: Progress | None = None,
) -> WarmStatus:
    """Keep a child of each framework that has imported it and has run nothing.

    A comparison, check or test of this parity, with the same environment variables, takes it
    instead of starting its own, and uses it once; another is started behind it. A server of this
    user's keeps them, in a process of its own, until nothing has taken one for `idle_minutes`.
    Without a server everything works as before.

    Parameters:
        runtimes: "keras", "torch" or "onnx"; none: all that are installed. A server that runs
            already keeps those that it was started with. One whose children were started with other
            environment variables is replaced.
        idle_minutes: Minutes without use after which the server ends.
        stop: End all servers instead.
        progress: A function that is called with a runtime and what it is doing now.

    Returns the status once no child is starting any more.

    Raises `UsageError` for an unknown runtime, a time that is not positive, another system than
    Linux and a socket folder that others may open; `RequirementError` for a runtime that is not
    installed; `ChildError` if the server does not start.

    Example:
        >>> import parity
        >>> parity.warm("torch", "onnx").current.children
        {'torch': 'ready', 'onnx': 'ready'}
        >>> parity.warm(stop=True).servers
        ()
    """
    launch.require_support()
    if stop:
        return WarmStatus(stopped=tuple(launch.stop_servers()))
    if not 0 < idle_minutes < math.inf:
        raise UsageError(f"--idle: expected minutes above 0, found {idle_minutes:g}")
    chosen = _select_runtimes(runtimes)
    current = read_status().current
    if current is not None and current.differences:
        # Its children are of no use to this shell.
        launch.stop_server()
        current = None
    if current is None:
        (progress or no_progress)("warm", f"starting {', '.join(chosen)}")
        launch.start_server(chosen, idle_s=60.0 * idle_minutes, gpu=_has_gpu())
    return _wait(progress or no_progress)


def read_status() -> WarmStatus:
    """Return the servers that run. Raises `UsageError`, as `warm` does."""
    launch.require_support()
    return WarmStatus(tuple(launch.find_servers()))


def _wait(progress: Progress) -> WarmStatus:
    """Return the status once the children are ready."""
    end = time.monotonic() + _READY_S
    while True:
        status = read_status()
        current = status.current
        if current is None or current.is_ready or time.monotonic() > end:
            return status
        for runtime, state in current.children.items():
            progress(runtime, state)
        time.sleep(0.1)


def _select_runtimes(names: Sequence[str]) -> list[str]:
    """Return the runtimes to keep. Raises `UsageError` and `RequirementError`."""
    known = registry.frameworks()
    for name in names:
        if name not in known:
            hint = suggest(name, known, otherwise=f"known: {', '.join(known)}")
            raise UsageError(f"unknown runtime {quote(name)}{hint}")
        problems = probe.find_problems(name)
        if problems:
            raise RequirementError(problems[0])
    chosen = list(dict.fromkeys(names)) or [
        name for name in known if not probe.probe_runtime(name).missing
    ]
    if not chosen:
        raise RequirementError("no framework is installed, so that there is nothing to keep")
    return chosen


def _has_gpu() -> bool:
    """Return whether the commands' children may use a GPU, which `--device auto` then does."""
    with contextlib.suppress(RequirementError):
        gpus.find_gpu()
        return True
    return False
