"""An operation that the subject alone has before a layer: a factor, an offset, a sine.

The layer is right for what it reads. The subject states the operation, and nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, evaluate, transform_output, with_input
from parity.explain.proof.masks import find_mask
from parity.network import kinds

EXTRA, MASKED, HIDDEN = "operation-extra", "input-masked", "attention-mask"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    wanted = failing.reference_layer
    behind = failing.subject_layer
    if (
        behind is not None
        and behind.kind != wanted.kind
        and not kinds.get(behind.kind).number_verb
        and (len(behind.inputs) == 1 and behind.inputs[0].shape == failing.expected.shape)
        and not kinds.get(behind.kind).roles
    ):
        kind = kinds.get(behind.kind)
        yield Candidate(
            "activation-extra" if kind.activation else EXTRA,
            transform_output(lambda output: evaluate(replace(behind, inputs=(output,)))),
            f"{kind.phrase or behind.kind} is applied to the output",
            f"{failing.label}: remove the {kind.phrase or behind.kind}",
            0.98,
        )
    for place, stated in failing.unpaired_input_layers.items():
        if place >= len(wanted.inputs) or not stated.inputs:
            continue
        if stated.inputs[0].shape != wanted.inputs[place].shape:
            continue
        constants = [number for at in sorted(stated.constants - {0})
                     if (number := stated.find_number(at)) is not None]  # fmt: skip
        kind = kinds.get(stated.kind)
        is_mask = kind.factor and len(stated.inputs) == 2 and _is_mask(stated.inputs[1])
        hidden = find_mask(stated)
        if len(constants) != len(stated.inputs) - 1 and not is_mask and hidden is None:
            continue
        name, text = EXTRA, f"{kind.phrase or stated.kind} is applied to its input"
        if is_mask and not constants:
            name, mask = MASKED, stated.inputs[1]
            zeros = int((mask == 0).sum())
            text = f"Its input is multiplied by a mask, which is 0 at {zeros} of {mask.size}"
        elif hidden is not None:
            name, text = HIDDEN, f"A mask, which hides {hidden}, is added to its input"
        elif kind.number_verb and constants:
            name = "scale" if kind.factor else "offset"
            text = f"Its input is {kind.number_verb} {constants[0]:g}"
        elif kind.reorders:
            name = "input-moved" if stated.inputs[0].ndim == 4 else "time-reversed"
        elif kind.activation or kind.family == "activation":
            name = "activation-extra"
        yield Candidate(
            name,
            partial(_apply, place=place, stated=stated),
            text,
            f"{failing.label}: remove the {kind.phrase or stated.kind} before it",
            0.98,
            place=place,
        )


def _is_mask(array: Array) -> bool:
    return bool(np.isin(array, (0.0, 1.0)).all())


def _apply(layer: Layer, place: int, stated: Layer) -> Layer:
    """Return the layer whose input the subject's operation has changed."""
    changed: Array = np.asarray(
        evaluate(replace(stated, inputs=(layer.inputs[place], *stated.inputs[1:]))), np.float64
    )
    return with_input(layer, place=place, value=changed)
