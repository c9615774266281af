"""One file a cause, each found here without a list.

A module holds `NAME` and `candidates(case)`, which yields what can be tried on a layer: none where
the cause cannot be. The docstring of the module is how the cause shows.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from parity.explain.case import Candidate, Case


@functools.cache
def modules() -> tuple[ModuleType, ...]:
    """Every cause, by the name of its file."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in found)


def candidates(case: Case) -> Iterator[Candidate]:
    """What every cause has to try on this layer."""
    for module in modules():
        yield from module.candidates(case)
