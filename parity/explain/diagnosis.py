"""The search for a failing layer's cause among all files of `causes`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from parity.explain import causes
from parity.explain.causes import exported_graph, region
from parity.explain.proof import search
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.search import Explanation


def explain_layer(
    failing: FailingLayer,
    *,
    elements: float = search.PAIR_ELEMENTS,
    add_weights: Callable[[], FailingLayer] | None = None,
) -> Explanation:
    """Search for the one or two causes of a failing layer: see `proof.search.explain_layer`."""
    return search.explain_layer(
        failing, causes.propose_candidates, elements=elements, add_weights=add_weights
    )


def explain_by_statement(failing: FailingLayer, names: Collection[str]) -> Explanation | None:
    """Return the proof by what the subject states, if it is among the causes of these names.

    It takes a part of the time of `explain_layer`, which would find the same.
    """
    return search.find_stated_proof(failing, partial(causes.propose_candidates, names=names))


def explain_by_region(failing: FailingLayer) -> Explanation | None:
    """Return the proof by the operations that differ, all together, of a layer with a `region`."""
    return search.find_joint_proof(
        failing, partial(causes.propose_candidates, names=region.NAMES.values())
    )


def explain_by_graph(failing: FailingLayer) -> Explanation | None:
    """Return the proof that the graph's own nodes give the subject's output, or None.

    It is the last resort, for a layer with a `graph_output` that no other cause explains.
    """
    return search.find_first_proof(failing, exported_graph.propose_candidates)
