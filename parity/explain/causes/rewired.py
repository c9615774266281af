"""A layer that reads another tensor than the reference's: another order of layers, for example.

With batch-norm after the ReLU instead of before it, or a shortcut that starts too late, each layer
is right for the tensor that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer

NAME = "reads-another-tensor"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    inputs = failing.reference_layer.inputs
    own = [failing.find_row_of(tensor) for tensor in inputs]
    for index, tensor in enumerate(inputs):
        for name, other in failing.possible_inputs.items():
            if name in (failing.row.name, *own) or other.shape != tensor.shape:
                continue
            wanted = f"that of {own[index]}" if own[index] else "another one"
            yield Candidate(
                NAME,
                partial(_read_instead, index=index, tensor=other),
                f"It reads the tensor of {name}, where the reference reads {wanted}",
                f"{failing.label}: "
                f"{'connect it to' if failing.framework == 'onnx' else 'call it on'} "
                f"{own[index] or 'the tensor that the reference reads'}, as the reference does",
                0.3,
                # Where it has no name, it is what operations between the two give.
                describes_values=own[index] is None,
                rows=(name, own[index] or ""),
            )


def _read_instead(layer: Layer, index: int, tensor: Array) -> Layer:
    inputs = (*layer.inputs[:index], tensor, *layer.inputs[index + 1 :])
    return replace(layer, inputs=inputs)
