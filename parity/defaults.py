"""Defaults that functions and the command line share; without NumPy, for a quick `--help`."""

import os

LIMIT = 4.0
"""The largest error, in floors, that passes: twice the worst of 192 correct runs (docs/design.md).
"""

VALIDATION_SHARE = 0.2
"""The share of the training images that validates where the data have no such part."""

SAVE_SECONDS = 60.0
"""Seconds between two saved states of a run within an epoch."""

PASS_BATCH = 16
"""The images of one pass of `parity evaluate` and `parity predict`."""

TOP = 3
"""The classes that `parity predict` gives for each image."""

THREADS_VARIABLE = "PARITY_THREADS"
"""The environment variable that limits the threads of every process; by default all cores."""


def find_thread_limit() -> int:
    """Return the threads that this process is limited to; 0 for no limit."""
    text = os.environ.get(THREADS_VARIABLE, "")
    return int(text) if text.isascii() and text.isdecimal() else 0
