"""One file a cause, each found here without a list.

A module states the name of its cause, as `NAME`, or those of a few that are alike, and holds at
least one of three functions; each yields nothing where the cause cannot be. `candidates(case)` is
what can be tried on a layer: differences applied to the reference's. `reruns(run)` is what can be
changed in how a subject was run. `shapes(found)` is what the differences of structure prove by
themselves. The docstring is how the cause shows.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType

from parity.explain.proof.case import Candidate, Case, Shape
from parity.explain.rerun import Rerun, Run
from parity.network.structure import Difference


@functools.cache
def modules() -> tuple[ModuleType, ...]:
    """Every cause, by the name of its file."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in found)


def candidates(case: Case) -> Iterator[Candidate]:
    """What every cause has to try on this layer."""
    for module in modules():
        if hasattr(module, "candidates"):
            yield from module.candidates(case)


def reruns(run: Run) -> Iterator[Rerun]:
    """What every cause has to change in a subject's run."""
    for module in modules():
        if hasattr(module, "reruns"):
            yield from module.reruns(run)


def shapes(found: Sequence[Difference]) -> Iterator[Shape]:
    """What every cause reads from the differences of structure."""
    for module in modules():
        if hasattr(module, "shapes"):
            yield from module.shapes(found)
