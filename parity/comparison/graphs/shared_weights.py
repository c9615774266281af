"""Weights that one model reads at several places and the other has once for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from parity.comparison.graphs.state import GraphState
from parity.network.alignment.result import WeightPair

_SHOWN = 3
"""As many names of weights are listed."""


def describe_shared(state: GraphState) -> list[str]:
    """Return a sentence for each model in which weights are one that are several in the other.

    With the weights of the one copied, or equal ones, both compute the same, and no longer once
    they are trained. Exports are left out: they may hold a weight twice.
    """
    lines = []
    base = state.reference.subject.name
    for name, alignment in state.alignments.items():
        model = state.models.get(name)
        if model is None or model.subject.exported_from:
            continue
        pairs = alignment.weights
        for one, several, groups in (
            (base, name, _group(pairs)),
            (name, base, _group(WeightPair(p.other, p.reference, p.transform) for p in pairs)),
        ):
            for shared, copies in groups:
                listed = ", ".join(copies[:_SHOWN]) + (" and more" if len(copies) > _SHOWN else "")
                lines.append(
                    f"{one} reads {shared} where {several} has {len(copies)} weights of its own "
                    f"({listed}): they are the same here, and differ once they are trained"
                )
    return lines


def _group(pairs: Iterable[WeightPair]) -> list[tuple[str, Sequence[str]]]:
    """Return each first weight that has several whole partners, with their names.

    Parts of one weight, as those of a packed query, key and value, are no copies of it.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for pair in pairs:
        made = pair.transform
        if not (made.take or made.place or made.is_zero) and made.term is None:
            found[pair.reference][pair.other] = None
    return [(name, tuple(others)) for name, others in found.items() if len(others) > 1]
