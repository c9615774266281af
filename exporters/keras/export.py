"""Export a Keras model to an ONNX file that is verified before it gets its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from exporters.graph.model import Array
from exporters.graph.pipeline import Export, export_graph
from exporters.graph.structure import Structure
from exporters.keras.calls import unique_names
from exporters.keras.function import to_function
from exporters.keras.trace import trace


def weights(model: keras.Model) -> dict[str, Array]:
    """Return every variable by its path ("conv1_conv/kernel"), in Keras's own layouts."""
    names = unique_names([variable.path for variable in model.variables])
    return {
        name: np.asarray(variable.value.numpy())
        for name, variable in zip(names, model.variables, strict=True)
    }


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
    sample: Sequence[Array] | None = None,
) -> Export:
    """Export to an ONNX file and verify it; on any failure raise ExportError and leave no file.

    `tap_outputs` names taps that become outputs of the file. `structure` is the result of `trace`
    for this architecture with the same options; its weights do not matter. `sample`: inputs to
    verify on, in the graph's layout, batch of 3 or more (default: seeded random).
    """

    def trace_model() -> Structure:
        return trace(
            model,
            opset=opset,
            inputs=inputs,
            outputs=outputs,
            taps=taps,
            channels_first=channels_first,
        )

    return export_graph(
        path=Path(path),
        structure=structure or trace_model,
        weights=functools.partial(weights, model),
        function=to_function(model, channels_first),
        tap_outputs=tap_outputs,
        metadata={**(metadata or {}), "framework": f"keras {keras.__version__}"},
        sample=sample,
    )
