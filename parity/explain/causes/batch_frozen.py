"""A batch dimension frozen in an ONNX file: it fails, or gives another shape, at another N.

It was traced with one batch size, which a Reshape or the input's shape has kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.rerun import Rerun, Run

NAME = "batch-frozen"

COUNTS = (1, 2, 3)
"""What a graph must be able to take; a frozen one was most often traced with the first or second.
"""


def reruns(run: Run) -> Iterator[Rerun]:
    if run.runtime != "onnx" or (run.failure is None and not run.reshaped):
        return
    for count in COUNTS:
        if count == run.batch:
            continue
        yield Rerun(
            NAME,
            {"at_once": count},
            f"The graph's batch dimension is frozen at {count}, and it is given {run.batch} images",
            f"run {count} at a time",
            "export it with a dynamic batch: dynamic_shapes with a Dim for axis 0, traced with "
            "two images, and no batch size in a Reshape",
        )
