"""PyTorch modules to ONNX, through torch.export and torch.onnx's current exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.onnx_graph import Array, Structure
from exporters.result import Exported

if TYPE_CHECKING:
    import torch


def trace(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor | tuple[int, ...]],
    *,
    opset: int = 18,
    inputs: Sequence[str] = ("input",),
    outputs: Sequence[str] = ("output",),
    taps: Mapping[str, str] | None = None,
) -> Structure:
    """Trace `module` in eval mode without reading its weights.

    `example`: one tensor, or the shape of a float32 one without the batch axis, per input of
    forward. `taps`: {tensor name: "module.path#k@input"}.
    """


def weights(module: torch.nn.Module) -> dict[str, Array]:
    """The state dict as NumPy arrays."""


def export(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor | tuple[int, ...]],
    path: Path | str,
    *,
    opset: int = 18,
    inputs: Sequence[str] = ("input",),
    outputs: Sequence[str] = ("output",),
    taps: Mapping[str, str] | None = None,
    tap_outputs: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    structure: Structure | None = None,
) -> Exported:
    """Export and verify; on any failure ExportError, and no file."""
