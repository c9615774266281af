"""An operation before a layer that the reference alone has: an activation, a factor, an offset.

The layer is right for what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import with_input
from parity.explain.proof.masks import find_mask
from parity.network import kinds

NAME, MASK = "operation-missing", "attention-mask"

SCORE = 0.65
"""Above that of `rewired`, which describes the same difference as another tensor that is read."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    for place, missing in failing.missing_input_layers.items():
        kind = kinds.get(missing.kind)
        others = missing.inputs[1:]
        numbers = {at for at in missing.constants if missing.find_number(at) is not None}
        mask = find_mask(missing)
        if mask is not None:
            name, text = MASK, f"The mask, which hides {mask}, is not added to its input"
        elif not numbers >= set(range(1, len(missing.inputs))):
            name, text = NAME, f"{kind.phrase or missing.kind} is not applied to its input"
        elif kind.number_verb and others:
            number = missing.find_number(1)
            name = "scale" if kind.factor else "offset"
            text = f"Its input is not {kind.number_verb} {number:g}"
        else:
            is_activation = kind.activation or kind.family == "activation"
            name = "activation-missing" if is_activation else NAME
            text = f"{kind.phrase or missing.kind} is not applied to its input"
        yield Candidate(
            name,
            partial(with_input, place=place, value=missing.inputs[0]),
            text,
            f"{failing.label}: apply {kind.phrase or missing.kind} before it",
            SCORE,
            place=place,
        )
