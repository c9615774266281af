"""Silence the frameworks' logging while they convert: what fails is raised, not logged."""

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

    By the one global switch, since the loggers are many and some are made on the way.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere, for libraries that write to it from C++ when imported.

    The descriptor is the whole process's: keep the block short. Exceptions are not affected.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
