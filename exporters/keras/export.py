"""Export a Keras model to an ONNX file that is verified before it gets its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from exporters.graph.model import Array
from exporters.graph.pipeline import Export, export_graph
from exporters.graph.structure import Structure
from exporters.keras.arguments import Arguments, arrange, read_arguments, unique_names
from exporters.keras.calls import check_model
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
    signature: Any = None,
    sample: Any = None,
) -> Export:
    """Export to an ONNX file and verify it; on any failure raise ExportError and leave no file.

    `inputs`, `outputs`, `taps`, `channels_first`: see `trace`. `tap_outputs` names taps that become
    outputs of the file. `structure` is the result of `trace` for this architecture with the same
    options; its weights do not matter. `signature`: the shapes and types of the inputs, for a model
    that is not functional. `sample`: inputs to verify on, in the graph's layout, batch of 3 or more
    (default: seeded random): one array per input, or a structure like the call's arguments.
    """
    check_model(model)
    arguments = read_arguments(model, signature, sample)

    @functools.cache
    def traced() -> Structure:
        return structure or trace(
            model,
            opset=opset,
            inputs=inputs,
            outputs=outputs,
            taps=taps,
            channels_first=channels_first,
            signature=signature,
            sample=sample,
        )

    def function(arrays: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        run = to_function(
            model,
            arguments,
            inputs=traced().inputs,
            outputs=traced().outputs,
            channels_first=channels_first,
        )
        return run(arrays, seed=seed)

    return export_graph(
        path=Path(path),
        structure=structure or traced,
        weights=functools.partial(weights, model),
        function=function,
        tap_outputs=tap_outputs,
        metadata={**(metadata or {}), "framework": f"keras {keras.__version__}"},
        sample=None if sample is None else _in_order(arguments, inputs, sample, model),
    )


def _in_order(
    arguments: Arguments, inputs: Sequence[str], sample: Any, model: keras.Model
) -> list[Array]:
    """Return the sample's arrays in the order of the graph's inputs."""
    arrays = arguments.arrays_of(sample)
    _, order = arrange(arguments.names, inputs, "inputs", model)
    return [arrays[index] for index in order]
