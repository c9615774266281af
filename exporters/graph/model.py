"""A deployable model: a graph, and its large tensors as NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from exporters.errors import ExportError, first_few, first_line
from exporters.graph.edits import set_repeated_field

Array = NDArray[np.generic]

# A protobuf message cannot be longer than 2 GiB - 1; the rest is room for the graph itself.
_LARGEST_MESSAGE = 2**31 - 2**24


@dataclass(frozen=True)
class WeightedModel:
    """A deployable graph; its large tensors are still NumPy arrays, so that none is copied twice.

    `skeleton` lacks exactly the initializers in `tensors`.
    """

    skeleton: ModelProto
    tensors: Mapping[str, Array]

    @property
    def fits_one_message(self) -> bool:
        """Return whether the whole model is below protobuf's limit of 2 GB."""
        size = sum(array.nbytes + 256 for array in self.tensors.values())
        return self.skeleton.ByteSize() + size <= _LARGEST_MESSAGE

    def proto(self) -> ModelProto:
        """Return the complete model as one message. Raises ExportError above 2 GB."""
        if not self.fits_one_message:
            raise ExportError("the model is larger than 2 GB: write it to a file")
        model = ModelProto()
        model.CopyFrom(self.skeleton)
        model.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in self.tensors.items()
        )
        return model


def add_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return a copy whose tensors `names` are outputs too, after the model's own.

    Raises ExportError when the graph has no such tensor.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    if not {*names} <= present | {value.name for value in copy.graph.value_info}:
        copy = onnx.shape_inference.infer_shapes(copy)
    shapes = {value.name: value for value in copy.graph.value_info}
    missing = sorted(set(names) - present - shapes.keys())
    if missing:
        raise ExportError(
            f"the graph has no tensor {first_few(missing)}; export it with those outputs"
        )
    for name in names:
        if name not in present:
            copy.graph.output.append(shapes[name])
    return copy


def add_metadata(model: ModelProto, properties: Mapping[str, str]) -> None:
    """Set metadata properties in place; a key that exists is replaced."""
    kept = [item for item in model.metadata_props if item.key not in properties]
    set_repeated_field(model.metadata_props, kept)
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))


def convert_opset(model: ModelProto, opset: int) -> ModelProto:
    """Convert a model to another version of the operators. Raises ExportError."""
    if opset_of(model) == opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises RuntimeError, ConvertError and others
        raise ExportError(f"cannot be written in opset {opset}: {first_line(error)}") from error
