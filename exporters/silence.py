"""Silence the frameworks' logging while they convert: a failure is raised, not logged."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_logging() -> Iterator[None]:
    """Drop log records and warnings of every library inside the block.

    It uses the one global switch, since there are many loggers, and some are created meanwhile.
    Inside another such block it costs nothing: the switch visits every logger.
    """
    before = logging.root.manager.disable
    if before >= logging.CRITICAL:
        yield
        return
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Redirect file descriptor 2 to the null device, for libraries whose C++ code writes to it.

    The descriptor is the whole process's: keep the block short. Exceptions are not affected.
    """
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
