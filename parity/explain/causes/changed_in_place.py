"""A captured tensor that a later layer overwrote in place: one layer differs, later ones do not.

The captured tensor is then the later layer's output. A layer that applies the next activation
itself has the same symptom, so the cause is named only if a later layer states that it works in
place.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_output

NAME = "changed-in-place"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if not failing.recovers_downstream:
        return
    for name in failing.in_place_rows:
        if name in failing.other_calls or name not in failing.nearby_outputs:
            # Another call of the same layer is the cause `called-twice`.
            continue
        yield Candidate(
            NAME,
            replace_output(failing.nearby_outputs[name]),
            f"The captured tensor was overwritten in place by {name}; all later layers agree",
            f"{failing.label}: clone the tensor in the hook (output.detach().clone()), or set "
            f"inplace=False in {name}",
            # Before the candidate of an activation applied twice, which has the same symptom.
            0.95,
            replaces_output=True,
        )
