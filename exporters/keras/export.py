"""Export a Keras model to an ONNX file that is verified before it gets its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from onnx import ValueInfoProto

from exporters.errors import ExportError
from exporters.graph.framework_runs import ModelFunction, Reference
from exporters.graph.model import Array
from exporters.graph.pipeline import Export, check_path, export_graph
from exporters.graph.samples import BATCH, describe_inputs, varying_sizes
from exporters.graph.structure import Structure
from exporters.keras.arguments import (
    Arguments,
    arrange,
    build,
    check_names,
    read_arguments,
    resize,
    unique_names,
)
from exporters.keras.calls import check_mapping, check_model, to_array
from exporters.keras.function import has_loops, lowest_roundoff, scramble_weights, to_function
from exporters.keras.trace import trace
from exporters.silence import silence_logging


def weights(model: keras.Model) -> dict[str, Array]:
    """Return every variable by its path ("conv1_conv/kernel"), in Keras's own layouts."""
    return {
        name: np.asarray(variable.value.numpy())
        for name, variable in zip(_weight_names(model), model.variables, strict=True)
    }


def _weight_views(model: keras.Model) -> dict[str, Array]:
    """Return what `weights` does, without a copy: views that cannot be written to.

    TensorFlow gives a variable that is written to memory of its own as long as one is there.
    """
    return {
        name: to_array(tf.convert_to_tensor(variable.value))
        for name, variable in zip(_weight_names(model), model.variables, strict=True)
    }


def _widen(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return weights as a file has them: bfloat16 as float32."""
    return {
        name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        for name, array in arrays.items()
    }


def _weight_names(model: keras.Model) -> tuple[str, ...]:
    return unique_names([variable.path for variable in model.variables])


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
    example: Any = None,
    dynamic: Mapping[str, Sequence[int]] | None = None,
    fixed_batch: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    precision: str = "float32",
    external_data: bool = False,
) -> Export:
    """Export to an ONNX file and verify it; on any failure raise ExportError and leave no file.

    A `path` whose suffix names another format than ONNX is refused.
    `inputs`, `outputs`, `taps`, `channels_first`: see `trace`. `tap_outputs` names taps that become
    outputs of the file. `structure` is the result of `trace` for this architecture with the same
    options; its weights do not matter. `signature`: the shapes and types of the inputs, for a model
    that is not functional. `sample`: inputs to verify on, in the graph's layout, batch of 3 or more
    (default: seeded random): one array per input, or a structure like the call's arguments.
    `example`: arguments of a call, for the shapes and types of a model that is not functional, and
    for integers that it takes; its weights are made by a call where it has none yet.
    `shapes`: sizes of inputs by name, the batch first; `dynamic`: the axes that vary, by input.
    With neither the model's own sizes are used. The batch varies unless `fixed_batch`, which takes
    it from `shapes`, or 1. `precision`: "float16" computes in float16, but for what exceeds its
    range; inputs and outputs stay as they are. `external_data`: put the weights in a file beside
    it, which is automatic above 2 GB.
    """
    check_model(model)
    path = check_path(path)
    check_mapping(metadata, "metadata")
    tap_outputs = check_names(tap_outputs, "tap_outputs")
    if structure is not None and not isinstance(structure, Structure):
        raise ExportError(f"structure: expected what trace returns, found {structure!r}"[:200])
    given = example if sample is None else sample
    if example is not None:
        build(model, example)
    arguments = read_arguments(model, signature, given)
    if shapes or dynamic or fixed_batch:
        signature = resize(model, arguments, shapes or {}, dynamic or {}, fixed_batch=fixed_batch)
        arguments = read_arguments(model, signature, given)

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
            sample=given,
        )

    @functools.cache
    def own(roundoff: float) -> ModelFunction:
        return make_function(roundoff=roundoff)

    def make_function(
        other: Mapping[int, Array] | None = None, *, roundoff: float = 0.0
    ) -> ModelFunction:
        return to_function(
            model,
            arguments,
            inputs=traced().inputs,
            outputs=traced().outputs,
            channels_first=channels_first,
            other=other,
            roundoff=roundoff,
        )

    def reference(roundoff: float) -> Reference:
        function = own(roundoff)
        return Reference(
            function=function,
            roundoff=lambda: max(roundoff, lowest_roundoff(model)),
            # ONNX Runtime's gates are at least 1.5e-8, which shows in outputs near zero.
            largest=_LARGEST_RECURRENT if has_loops(model) else 200.0,
            requested=frozenset(
                f"{name}_{axis}" for name, axes in (dynamic or {}).items() for axis in axes if axis
            ),
            example=None if example is None else _in_order(arguments, inputs, example, model),
            sizes=find_sizes(traced().model.graph.input[: len(traced().inputs)], function),
        )

    def scrambled() -> tuple[Mapping[str, Array], ModelFunction]:
        arrays, other = scramble_weights(model, _weight_names(model), make_function)
        return _widen(arrays), other

    with silence_logging():
        return export_graph(
            path=path,
            structure=structure or traced,
            weights=lambda: _widen(_weight_views(model)),
            reference=reference,
            tap_outputs=tap_outputs,
            metadata={**(metadata or {}), "framework": f"keras {keras.__version__}"},
            sample=None if sample is None else _in_order(arguments, inputs, sample, model),
            scramble_weights=scrambled,
            precision=precision,
            external_data=external_data,
        )


def find_sizes(
    values: Sequence[ValueInfoProto], function: ModelFunction
) -> dict[str, tuple[int, ...]]:
    """Return the sizes to verify at, by the name of the size, from one that the model accepts.

    Returns nothing for an input that varies in its batch alone.
    """
    specs = describe_inputs(values)
    varying = [name for name in varying_sizes(specs) if name != BATCH]
    if not varying:
        return {}
    images = any(len(spec.sizes) > 3 for spec in specs)
    for size in _IMAGE_SIZES if images else _LENGTHS:
        sizes = dict.fromkeys(varying, size) | {BATCH: 2}
        arrays = [np.zeros(spec.shape(sizes), spec.dtype) for spec in specs]
        try:
            function(arrays)
        except Exception:  # noqa: BLE001 - whatever a layer raises of a size that it cannot take
            continue
        return dict.fromkeys(varying, (size, 2 * size, size + size // 2))
    return {}


_LARGEST_RECURRENT = 10.0

# The usual ones first, small for speed; then those of short position tables, and of large images.
_LENGTHS = (8, 16, 32, 4, 64, 128, 2, 3, 1)
_IMAGE_SIZES = (32, 16, 64, 8, 128, 224, 4, 2, 1)


def _in_order(
    arguments: Arguments, inputs: Sequence[str], sample: Any, model: keras.Model
) -> list[Array]:
    """Return the sample's arrays in the order of the graph's inputs."""
    arrays = arguments.arrays_of(sample)
    _, order = arrange(arguments.names, inputs, "inputs", model)
    return [arrays[index] for index in order]
