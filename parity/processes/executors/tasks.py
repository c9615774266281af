"""The tasks of an executor, their outcomes, and what an executor does."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, cast

from parity import errors
from parity.errors import ChildError, ParityError

MEMORY = 3 * 2**30
"""Bytes of memory that one comparison takes, with the children of three frameworks."""


class TaskRunner(Protocol):
    """What runs tasks one after another in one process, and may keep children between them."""

    def run(self, payload: Any) -> Any:
        """Run one task; raises `ParityError`. Payloads and results are pickled."""

    def close(self) -> None:
        """End the children."""


@dataclass(frozen=True)
class Task:
    """One piece of work; tasks of the same `affinity` are best run by the same process."""

    key: str
    payload: Any
    affinity: Hashable = None
    gpu: bool = False
    memory: int = MEMORY
    """Bytes that it takes, on a cluster that counts memory."""


@dataclass(frozen=True)
class TaskOutcome:
    """How a task has ended: with a `value`, or else with a `problem`, which is one line."""

    key: str
    value: Any = None
    problem: str | None = None
    seconds: float = 0.0
    place: str = ""
    """The machine that it ran on."""
    error: str = ""
    """The class of `parity.errors` of the problem, if it has one."""

    def to_exception(self) -> ParityError:
        """Return the exception of the problem: of its own class, or a `ChildError`."""
        error_class = getattr(errors, self.error, ChildError)
        return cast(ParityError, error_class(self.problem or ""))


class Executor(Protocol):
    """Runs tasks side by side, and yields every task's outcome once, in the order of their ends."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what still runs, and end every process."""

    def list_machines(self, describe: str) -> list[Any]:
        """Return what the function `describe`, `module:name`, returns on each kind of machine."""

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskOutcome]:
        """Run the tasks; one that fails or whose process dies has a problem."""


def load_name(name: str) -> Any:
    """Import what a `module:name` text names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def create_runner(factory: str) -> TaskRunner:
    """Return a new runner of the class that `factory`, `module:name`, names."""
    return cast(TaskRunner, load_name(factory)())


def find_error_class(error: BaseException) -> str:
    """Return the name of the class in `parity.errors` that an exception is of, or nothing."""
    names = (each.__name__ for each in type(error).__mro__ if issubclass(each, ParityError))
    return next((name for name in names if hasattr(errors, name)), "")


def describe_exception(error: BaseException) -> str:
    """Return the problem of a task that raised an exception, on one line."""
    if isinstance(error, ParityError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" ({frame.filename}:{frame.lineno})" for frame in place)
        text = f"internal error of parity: {type(error).__name__}: {error}{where}"
    return " ".join(text.split())
