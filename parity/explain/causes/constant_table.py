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
    name, found, wanted = OTHER, relation.found, relation.wanted
    text, remedy = f"Its constant has other values: {found}", "use the reference's constant"
    if relation.kind is tables.Change.OTHER and failing.constant_source_weights:
        names = ", ".join(f"`{each}`" for each in failing.constant_source_weights)
        name, text = WEIGHTS, f"What it computes of the weights {names} is another: {found}"
        remedy = f"copy {names} again"
    elif relation.kind is tables.Change.OFFSET:
        name, text = OFFSET, f"Its constant has at each place what the reference has {found} it"
        remedy = "begin at the reference's place: positions are often counted from 0 or from 1"
    elif relation.kind is tables.Change.FREQUENCIES:
        name, text = FREQUENCIES, f"The frequencies of its positions are {found}, not {wanted}"
        remedy = f"compute them as {wanted}"
    elif relation.kind is tables.Change.ORDER:
        name, text = ORDER, f"Its constant has another order: {found}, not {wanted}"
        remedy = f"order it as the reference does: {wanted}"
    elif relation.kind is tables.Change.FACTOR:
        name, text = FACTOR, f"Its constant is {found} times the reference's"
        remedy = f"divide it by {found}"
    elif relation.kind is tables.Change.FACTORS:
        name = FACTOR
        text = f"The entries of one axis of its constant are {found} times the reference's"
        remedy = f"divide them by {found}"
    return Candidate(
        name,
        partial(with_input, place=place, value=value),
        text,
        f"{failing.label}: {remedy}",
        0.95,
        place=place,
    )
