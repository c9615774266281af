"""Imports without garbage collection, which would search what they create again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """While open, do not collect garbage; then exempt all objects from later collections.

    An import creates up to a million objects, nearly all of which live as long as the process.
    Searching them takes a fifth of TensorFlow's import, an eighth of a command's start, and slows
    every model that is built after it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
