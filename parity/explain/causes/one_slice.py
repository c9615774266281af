"""Groups that all read the same slice of the input: the output depends on that slice only.

Mostly a closure over the loop's variable that is called after the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, transform_input

NAME = "groups-read-one-slice"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    groups = int(failing.reference_layer.hyper.get("groups", 1))
    if groups < 2 or failing.reference_layer.kind not in ("conv", "depthwise_conv"):
        return
    for index, which in ((groups - 1, "last"), (0, "first")):
        yield Candidate(
            NAME,
            transform_input(partial(_repeat_slice, groups=groups, index=index)),
            f"Every one of the {groups} groups reads the {which} slice of the input channels",
            f"{failing.label}: bind the loop variable in the lambda (lambda x, i=i: …), "
            f"or use groups={groups}",
            0.7 if index else 0.4,
        )


def _repeat_slice(data: Array, groups: int, index: int) -> Array:
    width = data.shape[1] // groups
    return np.tile(data[:, index * width : (index + 1) * width], (1, groups, 1, 1))
