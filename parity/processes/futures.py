"""Futures that one part of a comparison owes another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError, wait
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def first(one: Future[Path], other: Future[Path]) -> Path:
    """What the first of two promises to be kept, or broken, gives."""
    done, _ = wait([one, other], return_when="FIRST_COMPLETED")
    return next(iter(done)).result()


def settle(future: Future[T], value: T) -> None:
    """Keep a promise, unless a child that failed meanwhile has broken it."""
    with contextlib.suppress(InvalidStateError):
        future.set_result(value)


def fail(future: Future[Any], error: BaseException) -> None:
    """Break a promise that nobody has kept yet."""
    with contextlib.suppress(Exception):
        if not future.done():
            future.set_exception(error)


@contextlib.contextmanager
def owed(*promises: Future[Any]) -> Iterator[None]:
    """Whatever goes wrong inside is handed to those who wait for these promises."""
    try:
        yield
    except BaseException as error:
        for promise in promises:
            fail(promise, error)
        raise
