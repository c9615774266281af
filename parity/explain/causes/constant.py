"""Another constant in an operation: 0.4 for 0.5, another epsilon of a formula in the code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import with_input

NAME = "constant"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    stated, wanted = failing.subject_layer, failing.reference_layer
    if stated is None or stated.kind != wanted.kind or len(stated.inputs) != len(wanted.inputs):
        return
    for index in sorted(wanted.constants & stated.constants):
        own, other = wanted.inputs[index], stated.inputs[index]
        if own.size == 1 and other.size == 1 and not np.array_equal(own, other):
            before, after = float(own.reshape(-1)[0]), float(other.reshape(-1)[0])
            yield Candidate(
                NAME,
                partial(with_input, place=index, value=other.reshape(own.shape)),
                f"Its constant is {after:g}, not {before:g}",
                f"{failing.label}: write {before:g}",
                0.95,
                place=index,
            )
