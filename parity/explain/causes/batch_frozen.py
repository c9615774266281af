"""A batch dimension frozen in an ONNX file: it fails, or gives another shape, at another N.

It was traced with one batch size, which a Reshape or the input's shape has kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.errors import DeviceMemoryError, MissingRuntimeError
from parity.explain.rerun import Rerun, Run

NAME = "batch-frozen"

COUNTS = (1, 2, 3)
"""What a trace is most often made with, where the input does not say what it was."""


def reruns(run: Run) -> Iterator[Rerun]:
    if not run.runs_graph or (run.failure is None and not run.reshaped):
        return
    if isinstance(run.failure, (DeviceMemoryError, MissingRuntimeError)):
        # Fewer images at a time would fit into a small card, too.
        return
    for count in dict.fromkeys([run.declared or COUNTS[0], *COUNTS]):
        if count == run.batch:
            continue
        yield Rerun(
            NAME,
            {"items_per_run": count},
            f"The graph's batch dimension is frozen at {count}, and it is given {run.batch} images",
            f"run {count} at a time",
            "export it with a dynamic batch: dynamic_shapes with a Dim for axis 0, traced with "
            "two images, and no batch size in a Reshape",
        )
