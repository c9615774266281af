"""A fixed batch dimension in an ONNX file: another batch size fails, or gives another shape.

The model was traced with one batch size, which a Reshape or the input's shape has kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.errors import DeviceMemoryError, RequirementError
from parity.explain.reruns import FailingRun, Rerun

NAME = "batch-frozen"

COUNTS = (1, 2, 3)
"""The most frequent batch sizes of traces, for graphs whose input declares none."""


def propose_reruns(run: FailingRun) -> Iterator[Rerun]:
    if not run.runs_graph or (run.error is None and not run.shape_differs):
        return
    if isinstance(run.error, (DeviceMemoryError, RequirementError)):
        # Fewer images at a time would also fit into a small GPU.
        return
    for count in dict.fromkeys([run.declared_batch or COUNTS[0], *COUNTS]):
        if count == run.batch:
            continue
        yield Rerun(
            NAME,
            {"chunk_size": count},
            f"The graph's batch dimension is fixed at {count}; it was given {run.batch} images",
            f"run {count} at a time",
            "export it with a dynamic batch: dynamic_shapes with a Dim for axis 0, traced with "
            "two images, and no batch size in a Reshape",
        )
