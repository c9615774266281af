"""A layer that reads another tensor than the reference's: layers in another order, or a wrong wire.

Batch-norm behind the ReLU instead of before it, a shortcut that is taken too late: each layer that
reads something else is right by itself, on what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Layer

NAME = "reads-another-tensor"


def candidates(case: Case) -> Iterator[Candidate]:
    inputs = case.layer.inputs
    own = [case.name_of(tensor) for tensor in inputs]
    for index, tensor in enumerate(inputs):
        for name, other in case.readable.items():
            if name in (case.row.name, *own) or other.shape != tensor.shape:
                continue
            wanted = f"that of {own[index]}" if own[index] else "one from further in front"
            yield Candidate(
                NAME,
                partial(_reading, index=index, tensor=other),
                f"It reads the tensor of {name}, where the reference reads {wanted}",
                f"{case.label}: {'let it read' if case.framework == 'onnx' else 'call it on'} "
                f"{own[index] or 'what the reference reads'}, as the reference does",
                0.3,
            )


def _reading(layer: Layer, index: int, tensor: Array) -> Layer:
    given = (*layer.inputs[:index], tensor, *layer.inputs[index + 1 :])
    return replace(layer, inputs=given)
