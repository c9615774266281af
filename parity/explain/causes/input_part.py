"""Another part of an earlier tensor: a crop off by one, every second entry for one half.

Both models only move values between that tensor and the layer, so that what either reads is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_output, with_input

NAME = "input-part"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    for place, part in failing.input_parts.items():
        yield Candidate(
            NAME,
            partial(with_input, place=place, value=part.values),
            f"It reads {part.text}",
            f"{failing.label}: {part.remedy}",
            0.97,
        )
    given = failing.output_part
    if given is not None:
        yield Candidate(
            NAME,
            replace_output(given.values),
            f"It gives {given.text}",
            f"{failing.label}: {given.remedy}",
            0.97,
            replaces_output=True,
        )
