"""The executor that `--on` names."""

from __future__ import annotations

from parity.commands.cell_runner import FACTORY
from parity.errors import UsageError
from parity.processes.executors.local import LocalExecutor
from parity.processes.executors.tasks import Executor
from parity.text import closest, did_you_mean, quote

LOCAL = "local"
RAY = "ray"


def open_executor(
    on: str, *, factory: str = FACTORY, threads: int = 1, count: int | None = None
) -> Executor:
    """Return the executor that a text names: `local`, `ray` or `ray:ADDRESS`.

    `factory` names the class of the runner, by default that of cells. Each task has `threads`
    threads, without a limit if that is 0; `count` tasks run side by side on this machine. Raises
    `UsageError` for another text, and `RequirementError` where Ray is not installed or its
    cluster cannot be reached.
    """
    if count is not None and count < 1:
        raise UsageError(f"--jobs must be at least 1, found {count}")
    if on == LOCAL:
        return LocalExecutor(factory, threads=threads, count=count)
    name, _, address = on.partition(":")
    if name == RAY:
        from parity.processes.executors.ray import RayExecutor

        # `ray://HOST:PORT` is the address of a Ray client.
        address = on if address.startswith("//") else address
        if address and ":" not in address and address != "auto":
            raise UsageError(f"--on: expected ray:HOST:PORT, found {quote(on)}")
        return RayExecutor(factory, address=address or None, threads=threads, count=count)
    names = closest(on, (LOCAL, RAY))
    hint = did_you_mean(names, otherwise="known: local, ray, ray:ADDRESS")
    raise UsageError(f"--on: unknown place {quote(on)}{hint}")
