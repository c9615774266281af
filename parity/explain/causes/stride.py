"""Another stride or dilation: another shape, or O(1) in each stage's first block.

The original ResNet has its stride in the 1×1 convolution, torchvision's in the 3×3.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper
from parity.network import kinds

NAME = "stride"
DILATION = "dilation"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    for name, field, usual in ((NAME, "stride", (1, 2)), (DILATION, "dilation", (1, 2))):
        wanted = failing.reference_layer.hyper.get(field)
        if wanted is None:
            continue
        expected = tuple(int(value) for value in wanted)
        stated = failing.subject_hyper.get(field)
        name_there = (
            kinds.get(failing.reference_layer.kind)
            .hyperparameter(field)
            .attribute(failing.framework)
        )
        values = [] if stated is None else [tuple(int(value) for value in stated)]
        for value in dict.fromkeys([*values, *((v,) * len(expected) for v in usual)]):
            if value == expected:
                continue
            yield Candidate(
                name,
                change_hyper(**{field: value}),
                f"The {field} is {value}, not {expected}",
                f"{failing.label}: set {name_there}={expected}",
                1.0 if value in values else 0.6 if failing.pattern.shape_differs else 0.2,
            )
