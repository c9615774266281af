"""ONNX graphs apart from their weights: the structure of a network, and putting weights into it."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper

from exporters import folding
from exporters.errors import ExportError
from exporters.graph_edit import live, names_read, prune, rename_reads, replace

Array = NDArray[np.generic]

_PROPERTY = "exporters.structure"
_FORMAT = 1
# A protobuf message cannot be longer than 2 GiB - 1; the rest is room for the graph itself.
_LARGEST_FILE = 2**31 - 2**24
# Bytes: what a session is handed inside the message all the same.
_SMALL = 1024
# External tensors start on a page, so that they can be mapped into memory.
_ALIGNMENT = 4096


@dataclass(frozen=True)
class Structure:
    """A traced graph in which every weight is an input that has the weight's own name.

    `model` is a valid ONNX model of a few hundred kilobytes: its inputs are the network's inputs
    and then the weights, its outputs the network's outputs and then the taps.
    """

    model: ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    taps: tuple[str, ...]
    unused: tuple[str, ...]  # weights that the model owns and this graph does not read

    @property
    def opset(self) -> int:
        return opset_of(self.model)

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, in the framework's own layout."""
        return {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in self._weight_values()
        }

    def _weight_values(self) -> Sequence[ValueInfoProto]:
        return list(self.model.graph.input)[len(self.inputs) :]

    def save(self, path: Path | str) -> None:
        """Write to `path`, atomically and with the same bytes each time. Raises ExportError."""
        copy = ModelProto()
        copy.CopyFrom(self.model)
        names = ("inputs", "outputs", "taps", "unused")
        description = {name: list(getattr(self, name)) for name in names} | {"format": _FORMAT}
        add_metadata(copy, {_PROPERTY: json.dumps(description, sort_keys=True)})
        with staged(Path(path)) as part:
            part.write_bytes(copy.SerializeToString(deterministic=True))

    @staticmethod
    def load(path: Path | str) -> Structure:
        """Read what `save` wrote. Raises ExportError when it is not that."""
        try:
            model = onnx.load_from_string(Path(path).read_bytes())
            stored = {item.key: item.value for item in model.metadata_props}
            description = json.loads(stored[_PROPERTY])
            if description.pop("format") != _FORMAT:
                raise ExportError(f"{path}: a structure of another version; trace the model again")
            lists = {name: tuple(names) for name, names in description.items()}
            structure = Structure(model=model, **lists)
        except OSError as error:
            raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
        except ExportError:
            raise
        except Exception as error:  # protobuf's DecodeError is no subclass of ValueError
            raise ExportError(f"{path}: not a saved structure; trace the model again") from error
        kept = [item for item in model.metadata_props if item.key != _PROPERTY]
        replace(model.metadata_props, kept)
        return structure


@dataclass(frozen=True)
class WeightedModel:
    """A deployable graph whose large tensors are still NumPy arrays, so nothing is copied twice.

    `skeleton` lacks exactly the initializers in `tensors`.
    """

    skeleton: ModelProto
    tensors: Mapping[str, Array]

    def proto(self) -> ModelProto:
        """The complete model as one message. Raises ExportError above 2 GB."""
        if _size(self) > _LARGEST_FILE:
            raise ExportError("the model is larger than 2 GB: write it to a file")
        model = ModelProto()
        model.CopyFrom(self.skeleton)
        model.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in self.tensors.items()
        )
        return model


def inject(
    structure: Structure, weights: Mapping[str, Array], *, outputs: Sequence[str] = ()
) -> WeightedModel:
    """Return the deployable graph: weights in, arithmetic on weights done, nothing left over.

    `outputs` names taps that become outputs after the network's own.
    Raises ExportError naming weights that are missing, unexpected or of another shape or dtype.
    """
    _check_weights(structure, weights)
    unknown = sorted(set(outputs) - {*structure.taps, *structure.outputs})
    if unknown:
        raise ExportError(f"no tap is called {', '.join(unknown)}")
    model = ModelProto()
    model.CopyFrom(structure.model)
    graph = model.graph
    extra = [name for name in outputs if name not in structure.outputs]
    by_name = {value.name: value for value in graph.output}
    # The shapes of the other taps stay known, for add_outputs.
    graph.value_info.extend(by_name[name] for name in structure.taps if name not in extra)
    replace(graph.output, [by_name[name] for name in (*structure.outputs, *extra)])
    names = [value.name for value in structure._weight_values()]
    del graph.input[len(structure.inputs) :]

    nodes = live(graph.node, [value.name for value in graph.output])
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = constants | {name: weights[name] for name in names}
    folded, body = folding.split(nodes, set(values))
    read = {value.name for value in graph.output}.union(*(names_read(node) for node in body))
    made = {name for node in folded for name in node.output if name}
    wanted = (read & made) | (read & set(names))
    arrays = folding.evaluate(folded, values, wanted, opset=structure.opset)
    renamed = _weight_names(folded, names, wanted, taken=read)
    for node in body:
        rename_reads(node, renamed)
    replace(graph.node, body)
    prune(graph)
    order = {name: index for index, name in enumerate(names)}
    tensors = {renamed.get(name, name): arrays[name] for name in arrays}
    last = len(order)
    by_order = sorted(tensors, key=lambda name: (order.get(name, last), name))
    return WeightedModel(skeleton=model, tensors={name: tensors[name] for name in by_order})


def _check_weights(structure: Structure, weights: Mapping[str, Array]) -> None:
    expected = structure.weights
    missing = sorted(expected.keys() - weights.keys())
    if missing:
        raise ExportError(f"{len(missing)} weights are missing: {_some(missing)}")
    unexpected = sorted(weights.keys() - expected.keys() - set(structure.unused))
    if unexpected:
        raise ExportError(f"{len(unexpected)} weights are not in the graph: {_some(unexpected)}")
    for value in structure._weight_values():
        array, shape = weights[value.name], expected[value.name]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if array.shape != shape or array.dtype != kind:
            found = f"{array.shape} {array.dtype}"
            raise ExportError(f"{value.name}: expected {shape} {kind}, found {found}")


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _weight_names(
    folded: Sequence[onnx.NodeProto], weights: Sequence[str], wanted: set[str], *, taken: set[str]
) -> dict[str, str]:
    """Name what is only a rearranged weight after that weight, where the name is free."""
    origin = {name: name for name in weights}
    for node in folded:
        if node.op_type in folding.LAYOUT_OPS and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
    names: dict[str, str] = {}
    for value in sorted(wanted - set(weights)):
        weight = origin.get(value)
        if weight is not None and weight not in taken and weight not in names.values():
            names[value] = weight
    return names


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
        raise ExportError(f"the graph has no tensor {_some(missing)}; export it with those outputs")
    for name in names:
        if name not in present:
            copy.graph.output.append(shapes[name])
    return copy


def add_metadata(model: ModelProto, properties: Mapping[str, str]) -> None:
    """Set metadata properties in place; a key that exists is replaced."""
    kept = [item for item in model.metadata_props if item.key not in properties]
    replace(model.metadata_props, kept)
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model uses."""
    return next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside `path`; move it in on success.

    Whatever else was written there (external data) is moved too, before the model itself. On any
    failure nothing is left. At the end of a symbolic link the file is replaced, not the link.
    Raises ExportError, naming `path`, when it cannot be written or is no plain file.
    """
    if _is_special(path):
        raise ExportError(f"{path}: cannot be written (it is no plain file)")
    path = Path(os.path.realpath(path))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder) / path.name
            yield part
            for file in sorted(Path(folder).iterdir(), key=lambda file: file == part):
                file.replace(path.parent / file.name)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror or error})") from error


def _is_special(path: Path) -> bool:
    """Whether a path, links followed, leads to what a rename must not replace.

    `/dev/stdout` may lead to a pipe, or to a plain file that is being printed to.
    """
    try:
        found = os.stat(path)
    except OSError:
        return False
    return not stat.S_ISREG(found.st_mode) or any(
        os.path.samestat(found, os.fstat(stream)) for stream in (1, 2)
    )


def write(model: WeightedModel | ModelProto, path: Path | str) -> None:
    """Write atomically; above 2 GB the weights go to `<name>.data` beside it.

    Raises ExportError.
    """
    with staged(Path(path)) as part:
        write_directly(model, part)


def to_bytes(model: WeightedModel) -> bytes:
    """The complete model, as a session takes it. Raises ExportError above 2 GB."""
    if _size(model) > _LARGEST_FILE:
        raise ExportError("the model is larger than 2 GB: write it to a file")
    with BytesIO() as file:
        _stream(model, file)
        return file.getvalue()


def detach(model: WeightedModel) -> tuple[ModelProto, dict[str, Array]]:
    """A message that refers to its large tensors as if they lay in a file, and those tensors.

    For a session that is handed the tensors beside the message, so that nothing is copied; they
    are contiguous and must outlive it.
    """
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    tensors: dict[str, Array] = {}
    for name, array in model.tensors.items():
        if array.nbytes < _SMALL:
            # Small constants (axes, shapes) are read while the graph is still being resolved.
            small = numpy_helper.from_array(np.ascontiguousarray(array), name)
            skeleton.graph.initializer.append(small)
            continue
        header = _header(name, array)
        header.data_location = TensorProto.EXTERNAL
        place = {"location": "beside", "offset": 0, "length": array.nbytes}
        for key, value in place.items():
            header.external_data.add(key=key, value=str(value))
        skeleton.graph.initializer.append(header)
        tensors[name] = np.ascontiguousarray(array)
    return skeleton, tensors


def write_directly(model: WeightedModel | ModelProto, path: Path) -> None:
    """Write without a temporary name: for a path that `staged` gave. Raises OSError."""
    weighted = WeightedModel(model, {}) if isinstance(model, ModelProto) else model
    if _size(weighted) > _LARGEST_FILE:
        weighted = _external(weighted, path.with_name(path.name + ".data"))
    with path.open("wb", buffering=1 << 16) as file:
        _stream(weighted, file)


def _size(model: WeightedModel) -> int:
    return model.skeleton.ByteSize() + sum(array.nbytes + 256 for array in model.tensors.values())


def _header(name: str, array: Array) -> TensorProto:
    """A tensor without its values."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, data_type=kind, dims=array.shape)


def _stream(model: WeightedModel, file: BinaryIO) -> None:
    """Write one ModelProto, sending the tensors to the file without a copy in memory.

    A message's fields may stand in any order, so the tensors follow the rest of the graph:
    ModelProto.graph is field 7, GraphProto.initializer 5, TensorProto.raw_data 9 (onnx.proto).
    """
    outside = ModelProto()
    outside.CopyFrom(model.skeleton)
    outside.ClearField("graph")
    graph = model.skeleton.graph.SerializeToString(deterministic=True)
    pieces = []
    for name, array in model.tensors.items():
        start = _header(name, array).SerializeToString() + _tag(9) + _varint(array.nbytes)
        lead = _tag(5) + _varint(len(start) + array.nbytes) + start
        pieces.append((lead, array))
    length = len(graph) + sum(len(lead) + array.nbytes for lead, array in pieces)
    file.write(outside.SerializeToString(deterministic=True))
    file.write(_tag(7) + _varint(length) + graph)
    for lead, array in pieces:
        file.write(lead)
        file.write(_bytes(array).data)


def _bytes(array: Array) -> NDArray[np.uint8]:
    """The values in row-major order, little-endian, as ONNX stores them."""
    contiguous = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return contiguous.reshape(-1).view(np.uint8)


def _tag(field: int) -> bytes:
    return bytes([field << 3 | 2])  # wire type 2: a length and that many bytes


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _external(model: WeightedModel, data: Path) -> WeightedModel:
    """Write the tensors to `data` and return a model that refers to it."""
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    with data.open("wb") as file:
        for name, array in model.tensors.items():
            file.write(bytes(-file.tell() % _ALIGNMENT))
            header = _header(name, array)
            header.data_location = TensorProto.EXTERNAL
            place = {"location": data.name, "offset": file.tell(), "length": array.nbytes}
            for key, value in place.items():
                header.external_data.add(key=key, value=str(value))
            file.write(_bytes(array).data)
            skeleton.graph.initializer.append(header)
    return WeightedModel(skeleton, {})
