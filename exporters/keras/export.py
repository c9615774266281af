"""Export a Keras model to an ONNX file that is verified before it is there."""

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
from exporters.keras.reference import reference_of
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
    """Export and verify; on any failure ExportError, and no file.

    `tap_outputs` names taps that become outputs of the file. `structure` is what `trace` gave for
    this architecture, with the same options, whatever the weights were. `sample`: inputs to verify
    on, in the graph's layout, batch of 3 or more (default: seeded random).
    """

    def traced() -> Structure:
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
        structure=structure or traced,
        weights=functools.partial(weights, model),
        reference=reference_of(model, channels_first),
        tap_outputs=tap_outputs,
        metadata={**(metadata or {}), "framework": f"keras {keras.__version__}"},
        sample=sample,
    )
