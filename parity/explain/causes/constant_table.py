"""Another table of constants in an operation: read one place too far, other frequencies, a factor.

What is said of the tables holds for all of both; an offset, for all places that both have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from parity.explain.proof import tables
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, with_input
from parity.explain.proof.masks import describe_other_mask, split_added
from parity.explain.proof.tables import Relation
from parity.network import kinds
from parity.network.kind import COMPLEX

OFFSET, FREQUENCIES = "constant-offset", "position-frequencies"
ORDER, FACTOR, OTHER = "constant-order", "constant-factor", "constant-table"
WEIGHTS, MASK = "other-weights", "attention-mask"

_NAMES = {
    tables.Change.OFFSET: OFFSET,
    tables.Change.FREQUENCIES: FREQUENCIES,
    tables.Change.ORDER: ORDER,
    tables.Change.FACTOR: FACTOR,
    tables.Change.FACTORS: FACTOR,
}


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    stated, wanted = failing.subject_layer, failing.reference_layer
    if stated is None or stated.kind != wanted.kind:
        return
    if kinds.get(wanted.kind).family == "attention":
        # The cause `attention` tells its mask from a bias of the scores.
        return
    for index in sorted(wanted.constants & stated.constants):
        own, other = wanted.inputs[index], stated.inputs[index]
        is_number = wanted.find_number(index) is not None
        if own.shape != other.shape or np.array_equal(own, other) or is_number:
            # The cause `constant` says which number is another.
            continue
        flags = wanted.hyper.get(COMPLEX) or (False,) * len(wanted.inputs)
        relation = tables.compare(before=own, after=other, is_complex=flags[index])
        found = _propose(failing, index, relation, other)
        # The cause `rotary` says more of what turns by complex numbers.
        yield replace(found, score=0.6) if flags[index] else found


def _propose(failing: FailingLayer, place: int, relation: Relation, value: Array) -> Candidate:
    """Return the candidate of the subject's table in an input, named by its relation."""
    if kinds.get(failing.reference_layer.kind).adds:
        own, other = split_added(failing.reference_layer.inputs[place]), split_added(value)
        difference = describe_other_mask(other, own)
        both = own.visible & other.visible
        if difference is not None and np.array_equal(own.bias[both], other.bias[both]):
            return Candidate(
                MASK,
                partial(with_input, place=place, value=value),
                f"The mask that it adds {difference}",
                f"{failing.label}: add the reference's mask",
                0.95,
                place=place,
            )
    text, remedy = tables.describe(relation, "its constant")
    name = _NAMES.get(relation.kind, OTHER)
    if relation.kind is tables.Change.OTHER and failing.constant_source_weights:
        names = ", ".join(f"`{each}`" for each in failing.constant_source_weights)
        name, remedy = WEIGHTS, f"copy {names} again"
        text = f"what it computes of the weights {names} is another: {relation.found}"
    return Candidate(
        name,
        partial(with_input, place=place, value=value),
        text[:1].upper() + text[1:],
        f"{failing.label}: {remedy}",
        0.95,
        place=place,
    )
