"""Operations on futures, with which the threads of a comparison wait for one another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError, wait
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def first_result(one: Future[Path], other: Future[Path]) -> Path:
    """Wait for the first of two futures and return its result, or raise its exception."""
    completed, _ = wait([one, other], return_when="FIRST_COMPLETED")
    return next(iter(completed)).result()


def set_result_if_pending(future: Future[T], value: T) -> None:
    """Set a future's result unless it has a result or an exception already."""
    with contextlib.suppress(InvalidStateError):
        future.set_result(value)


def set_error_if_pending(future: Future[Any], error: BaseException) -> None:
    """Set the exception of a future that has neither result nor exception."""
    with contextlib.suppress(Exception):
        if not future.done():
            future.set_exception(error)


@contextlib.contextmanager
def pass_errors_to(*futures: Future[Any]) -> Iterator[None]:
    """While open, set any exception on these futures too, and raise it."""
    try:
        yield
    except BaseException as error:
        for future in futures:
            set_error_if_pending(future, error)
        raise
