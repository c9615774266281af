"""The causes of training, one file each, found here without a list.

A file has `propose(evidence)`, which yields candidates and none where the cause is impossible; its
docstring states the symptom.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from parity.explain.training.candidate import Candidate, Evidence


@functools.cache
def modules() -> tuple[ModuleType, ...]:
    """Return the module of every cause, sorted by file name."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in found)


def propose(evidence: Evidence) -> Iterator[Candidate]:
    """Yield the candidates of all causes."""
    for module in modules():
        yield from module.propose(evidence)
