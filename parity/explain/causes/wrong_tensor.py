"""An output that is another row's: the wrong tensor was captured, or the layer does nothing.

If later layers agree, `changed_in_place` and `called_twice` are more precise. If it is the layer's
own input, the layer is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_output
from parity.network import kinds

NAME = "another-tensor-captured"
LEFT_OUT = "layer-left-out"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    own = [failing.find_row_of(tensor) for tensor in failing.reference_layer.inputs]
    for name, tensor in failing.nearby_outputs.items():
        if name == failing.row.name or tensor.shape != failing.actual.shape:
            continue
        if name not in own:
            yield Candidate(
                NAME,
                replace_output(tensor),
                f"The captured tensor is that of {name}",
                f"{failing.label}: name the right layer, and its call (`name#1`), in this row of "
                "the table",
                0.12,
                replaces_output=True,
                rows=(failing.row.name, name),
            )
        elif not kinds.joins_branches(failing.reference_layer.kind):
            # A sum that equals one of its inputs lacks the others: see `merge`.
            yield Candidate(
                LEFT_OUT,
                replace_output(tensor),
                f"It returns its input, the tensor of {name}, unchanged",
                f"{failing.label}: apply the {failing.reference_layer.kind} here; if it is, name "
                "it in this row of "
                "the table, not the layer before it",
                0.12,
                replaces_output=True,
            )
