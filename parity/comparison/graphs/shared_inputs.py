"""The reference's inputs, in the names, axes and dtypes of another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.state import SubjectModel
from parity.errors import UsageError
from parity.network.alignment import Alignment

Array = NDArray[Any]


def share_inputs(
    base: SubjectModel, model: SubjectModel, alignment: Alignment, file: Path | None = None
) -> SubjectModel:
    """Return the model with the inputs of `base`, which are saved in `file` or its own file.

    Raises `UsageError` where the number of values differs.
    """
    arrays = dict(model.inputs.arrays)
    for own_name, other_name in alignment.inputs.items():
        rearrangement = alignment.input_rearrangements.get(own_name)
        own = arrays[other_name]
        source = base.inputs.arrays[own_name]
        if source.size != own.size:
            raise UsageError(
                f"the input '{other_name}' of {model.subject.name} has the shape {own.shape}, "
                f"'{own_name}' of {base.subject.name} has {source.shape}: give one shape with "
                "--shape"
            )
        value = source if rearrangement is None else rearrangement.invert(source, own.shape)
        arrays[other_name] = np.ascontiguousarray(value.reshape(own.shape)).astype(own.dtype)
    inputs = InputArrays(arrays, base.inputs.source)
    file = inputs.save(model.input_file if file is None else file)
    return replace(model, inputs=inputs, input_file=file)


def find_open_axes(model: SubjectModel) -> dict[str, tuple[int, ...]]:
    """Return, by input, the axes that the model states to take any length, the batch left out."""
    return {
        port.name: tuple(axis for axis, size in enumerate(port.declared) if axis and size is None)
        for port in model.graph.inputs
        if port.declared
    }


def resize_inputs(
    model: SubjectModel, alignment: Alignment, arrays: Mapping[str, Array]
) -> dict[str, Array] | None:
    """Return inputs of the model with the shapes of the reference's `arrays`, which may be others.

    None where an axis changes that the model states to be fixed, or where it cannot be told which
    axis of the model it is. The values are set by `share_inputs`.
    """
    declared = {port.name: port.declared for port in model.graph.inputs}
    found = dict(model.inputs.arrays)
    for own_name, other_name in alignment.inputs.items():
        rearrangement = alignment.input_rearrangements.get(own_name)
        shape = arrays[own_name].shape
        if rearrangement is not None and (rearrangement.split or rearrangement.merged):
            return None
        if rearrangement is not None and rearrangement.order:
            shape = tuple(shape[rearrangement.order.index(axis)] for axis in range(len(shape)))
        stated = declared.get(other_name, ())
        fits = not stated or all(
            size in (None, length) for size, length in zip(stated, shape, strict=True)
        )
        if len(shape) != found[other_name].ndim or not fits:
            return None
        found[other_name] = np.zeros(shape, found[other_name].dtype)
    return found
