"""Groups that all read the same slice of the input: it depends on the last slice only.

A closure over the loop's variable, called when the loop is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, given

NAME = "groups-read-one-slice"


def candidates(case: Case) -> Iterator[Candidate]:
    groups = int(case.layer.hyper.get("groups", 1))
    if groups < 2 or case.layer.kind not in ("conv", "depthwise_conv"):
        return
    for index, which in ((groups - 1, "last"), (0, "first")):
        yield Candidate(
            NAME,
            given(partial(_one_slice, groups=groups, index=index)),
            f"Every one of the {groups} groups reads the {which} slice of the input channels",
            f"{case.label}: bind the loop variable where the lambda is made (lambda x, i=i: …), "
            f"or use groups={groups}",
            0.7 if index else 0.4,
        )


def _one_slice(data: Array, groups: int, index: int) -> Array:
    width = data.shape[1] // groups
    return np.tile(data[:, index * width : (index + 1) * width], (1, groups, 1, 1))
