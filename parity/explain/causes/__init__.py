"""The causes, one file each, found here without a list.

A file states the name of its cause as `NAME`, or those of a few that are alike, and has at least
one of three functions, each of which yields nothing where the cause is impossible:
`propose_candidates(failing)` yields changes of the reference's layer, `propose_reruns(run)` second
runs with one option changed, and `find_structural_causes(differences)` causes that the differences
of structure prove. One whose candidates need no operator of the reference's states so:
`NEEDS_NO_OPERATOR = True`. The file's docstring states the symptom.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Collection, Iterator, Sequence
from types import ModuleType

from parity.explain.proof.candidate import Candidate, StructuralCause
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.reruns import FailingRun, Rerun
from parity.network.structure import Difference


@functools.cache
def modules() -> tuple[ModuleType, ...]:
    """Return the module of every cause, sorted by file name."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in found)


def _find_names(module: ModuleType) -> set[str]:
    """Return the names of the causes that a module states."""
    return {v for k, v in vars(module).items() if k.isupper() and isinstance(v, str)}


def propose_candidates(
    failing: FailingLayer, names: Collection[str] | None = None
) -> Iterator[Candidate]:
    """Yield the candidates of all causes for a failing layer, or those of the files of `names`."""
    for module in modules():
        if names is not None and not _find_names(module) & set(names):
            continue
        if failing.is_opaque and not getattr(module, "NEEDS_NO_OPERATOR", False):
            continue
        if hasattr(module, "propose_candidates"):
            yield from module.propose_candidates(failing)


def propose_reruns(run: FailingRun) -> Iterator[Rerun]:
    """Yield the second runs of all causes for a failing run."""
    for module in modules():
        if hasattr(module, "propose_reruns"):
            yield from module.propose_reruns(run)


def find_structural_causes(differences: Sequence[Difference]) -> Iterator[StructuralCause]:
    """Yield the causes that the differences of structure prove."""
    for module in modules():
        if hasattr(module, "find_structural_causes"):
            yield from module.find_structural_causes(differences)
