"""Export a PyTorch module to an ONNX file that is verified before it gets its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from exporters.graph.model import Array
from exporters.graph.pipeline import Export, export_graph
from exporters.graph.structure import Structure
from exporters.torch.function import to_function
from exporters.torch.module import weights
from exporters.torch.trace import Example, trace


def export(
    module: torch.nn.Module,
    example: Example,
    path: Path | str,
    *,
    opset: int = 18,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    tap_outputs: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    structure: Structure | None = None,
    sample: Sequence[Array] | None = None,
) -> Export:
    """Export to an ONNX file and verify it; on any failure raise ExportError and leave no file.

    `tap_outputs` names taps that become outputs of the file. `structure` is the result of `trace`
    for this architecture with the same options; its weights do not matter. `sample`: inputs to
    verify on, batch of 3 or more (default: seeded random).
    """

    def trace_model() -> Structure:
        return trace(module, example, opset=opset, inputs=inputs, outputs=outputs, taps=taps)

    return export_graph(
        path=Path(path),
        structure=structure or trace_model,
        weights=functools.partial(weights, module),
        function=to_function(module),
        tap_outputs=tap_outputs,
        metadata={**(metadata or {}), "framework": f"torch {torch.__version__}"},
        sample=sample,
    )
