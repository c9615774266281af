"""Keras 3 (TensorFlow backend) models to ONNX, through tf2onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.onnx_graph import Array, Structure
from exporters.result import Exported

if TYPE_CHECKING:
    import keras


def trace(
    model: keras.Model,
    *,
    opset: int = 17,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    channels_first: bool = False,
) -> Structure:
    """Trace `model` in inference mode without reading its weights.

    `inputs`, `outputs`: names for the graph's inputs and outputs in the model's order (default: the
    model's own names). `taps`: {tensor name: "layer#k@input"}. `channels_first`: 4-D inputs,
    outputs and taps are NCHW in the graph (5-D: NCDHW).
    """


def weights(model: keras.Model) -> dict[str, Array]:
    """Every variable by its path ("conv1_conv/kernel"), Keras layouts."""


def export(
    model: keras.Model,
    path: Path | str,
    *,
    opset: int = 17,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    tap_outputs: Sequence[str] = (),
    channels_first: bool = False,
    metadata: Mapping[str, str] | None = None,
    structure: Structure | None = None,
) -> Exported:
    """Export and verify; on any failure ExportError, and no file."""
