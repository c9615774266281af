"""Export a PyTorch module to an ONNX file that is verified before it gets its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from exporters.graph.framework_runs import Reference
from exporters.graph.model import Array
from exporters.graph.pipeline import Export, check_path, export_graph
from exporters.graph.samples import BATCH
from exporters.graph.structure import Structure
from exporters.silence import silence_logging
from exporters.torch.arguments import Arguments, Axes, read_arguments
from exporters.torch.function import scramble_weights, to_reference
from exporters.torch.module import to_array, weights
from exporters.torch.trace import Example, trace_arguments


def export(
    module: torch.nn.Module,
    example: Example | object,
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
    kwargs: Mapping[str, object] | None = None,
    dynamic: Axes | None = None,
    fixed_batch: bool = False,
    precision: str = "float32",
    external_data: bool = False,
) -> Export:
    """Export to an ONNX file and verify it; on any failure raise ExportError and leave no file.

    A `path` whose suffix names another format than ONNX is refused.
    `example`, `inputs`, `outputs`, `kwargs`, `dynamic` and `fixed_batch` are those of `trace`.
    `tap_outputs` names taps that become outputs of the file. `structure` is the result of `trace`
    for this architecture with the same options; its weights do not matter. `sample`: inputs to
    verify on (default: seeded random ones, of the range that the module takes). `precision`:
    "float16" computes in float16, but for what exceeds its range; inputs and outputs stay as they
    are. `external_data`: put the weights in a file beside it, which is automatic above 2 GB.
    """
    path = check_path(path)
    arguments = read_arguments(module, example, kwargs, dynamic=dynamic, fixed_batch=fixed_batch)

    roundoffs: list[float] = []

    def trace_model() -> Structure:
        return trace_arguments(
            module,
            arguments,
            opset=opset,
            inputs=inputs,
            outputs=outputs,
            taps=taps,
            roundoffs=roundoffs,
        )

    def reference(roundoff: float) -> Reference:
        return to_reference(
            module,
            arguments,
            example=[to_array(tensor) for tensor in arguments.values()],
            sizes=_sizes(arguments),
            roundoffs=[*roundoffs, roundoff],
        )

    # Once, since it costs more than the calls of a small module: every one is silent.
    with silence_logging():
        return export_graph(
            path=path,
            structure=structure or trace_model,
            weights=functools.partial(weights, module),
            reference=reference,
            tap_outputs=tap_outputs,
            metadata={**(metadata or {}), "framework": f"torch {torch.__version__}"},
            sample=sample,
            scramble_weights=functools.partial(scramble_weights, module, arguments),
            precision=precision,
            external_data=external_data,
        )


def _sizes(arguments: Arguments) -> dict[str, tuple[int, ...]]:
    """Return the sizes to verify at, by name: the example's, and a larger and an odd one."""
    sizes: dict[str, tuple[int, ...]] = {}
    for tensor, axes in zip(arguments.values(), arguments.axes, strict=True):
        for axis, name in axes.items():
            size = tensor.shape[axis]
            if name != BATCH:
                sizes.setdefault(name, (size, 2 * size, size + 1, size + 7))
    return sizes
