"""A stride at another layer: another shape, O(1) at each stage's first block.

The original ResNet strides in the 1×1 convolution, torchvision's in the 3×3.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import setting
from parity.network import kinds

NAME = "stride"
DILATION = "dilation"


def candidates(case: Case) -> Iterator[Candidate]:
    for name, field, usual in ((NAME, "stride", (1, 2)), (DILATION, "dilation", (1, 2))):
        wanted = case.layer.hyper.get(field)
        if wanted is None:
            continue
        expected = tuple(int(value) for value in wanted)
        stated = case.settings.get(field)
        name_there = kinds.get(case.layer.kind).hyperparameter(field).attribute(case.framework)
        values = [] if stated is None else [tuple(int(value) for value in stated)]
        for value in dict.fromkeys([*values, *((v, v) for v in usual)]):
            if value == expected:
                continue
            yield Candidate(
                name,
                setting(**{field: value}),
                f"The {field} is {value}, not {expected}",
                f"{case.label}: set {name_there}={expected}",
                1.0 if value in values else 0.6 if case.fingerprint.shape else 0.2,
            )
