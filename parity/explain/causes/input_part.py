"""Another part of an earlier tensor: a crop off by one, every second entry for one half.

Both models only move values between that tensor and the layer, so the values that either reads are
known.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_output, with_input

NAME = "input-part"

SCORE = 0.64
"""Causes that say more of what is moved, a permuted output or a mirrored image, come first."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.image_shape is not None:
        # The cause `flatten_order` says more of a dense layer on a flattened image.
        return
    for place, misread in failing.misread_inputs.items():
        yield Candidate(
            NAME,
            partial(with_input, place=place, value=misread.values),
            f"It reads {misread.description}",
            f"{failing.label}: {misread.remedy}",
            SCORE,
            place=place,
        )
    misread_output = failing.misread_output
    if misread_output is not None:
        yield Candidate(
            NAME,
            replace_output(misread_output.values),
            f"It gives {misread_output.description}",
            f"{failing.label}: {misread_output.remedy}",
            SCORE,
            replaces_output=True,
        )
