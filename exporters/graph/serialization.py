"""ONNX files and bytes: the protobuf message is written as a stream, tensors without a copy."""

from __future__ import annotations

import os
import stat
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from exporters.errors import ExportError
from exporters.graph.edits import set_repeated_field
from exporters.graph.model import Array, WeightedModel

# Bytes: smaller tensors stay inside the message for a session.
_SMALL = 1024

# External tensors start on a page, so that they can be mapped into memory.
_ALIGNMENT = 4096


def _default_prefix() -> str:
    return ".export-"


folder_prefix = _default_prefix
"""Returns how the name of a temporary folder begins. Whoever may be killed while it writes, and
cleans up later, puts a function here whose names say who wrote them."""
DATA_SUFFIX = ".data"
"""What the name of the file with the weights has after that of the model."""

_MANY = 64
_MANY_BYTES = 2**24
"""Tensors that are written by one call."""

_NO_FILE = "external"
"""The location of a tensor that a session gets from memory."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside `path`; move it in on success.

    Other files there (external data) are moved too, before the model itself. On any failure nothing
    is left. Of a symbolic link the target is replaced, not the link.
    Raises ExportError, naming the file, when it cannot be written or is no plain file, and when
    external data would replace a file that is not the external data of the model at `path`.
    """
    if _cannot_be_replaced(path):
        raise ExportError(
            f"{path}: cannot be written (it is no plain file, or is being printed to)"
        )
    path = Path(os.path.realpath(path))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=folder_prefix()) as folder:
            part = Path(folder) / path.name
            yield part
            for file in Path(folder).iterdir():
                if file != part:
                    _require_external_data_of(path, path.parent / file.name)
            for file in sorted(Path(folder).iterdir(), key=lambda file: file == part):
                file.replace(path.parent / file.name)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror or error})") from error


def _cannot_be_replaced(path: Path) -> bool:
    """Return whether a path, links followed, must not be replaced by a rename.

    `/dev/stdout` may be a link to a pipe, or to a plain file that is being printed to.
    """
    try:
        status = os.stat(path)
    except OSError:
        return False
    return not stat.S_ISREG(status.st_mode) or any(
        os.path.samestat(status, os.fstat(stream)) for stream in (1, 2)
    )


def _require_external_data_of(model: Path, data: Path) -> None:
    """Raise ExportError if `data` exists and is not external data of the ONNX file `model`."""
    if os.path.lexists(data) and data.name not in _external_data_names(model):
        raise ExportError(
            f"{data}: is not overwritten: it is not the weights of {model.name}, whose new weights "
            "need a file of that name; move it, or export to another name"
        )


def _external_data_names(path: Path) -> set[str]:
    """Return the names of the files, beside an ONNX file, that have its tensors' values."""
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (OSError, DecodeError):
        return set()
    return {
        os.path.normpath(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


def write(model: WeightedModel | ModelProto, path: Path | str) -> None:
    """Write atomically; above 2 GB the weights go to `<name>.data` beside it.

    Raises ExportError.
    """
    with atomic_path(Path(path)) as part:
        write_directly(model, part)


def to_bytes(model: WeightedModel) -> bytes:
    """Return the complete serialised model. Raises ExportError above 2 GB."""
    if not model.fits_one_message:
        raise ExportError("the model is larger than 2 GB: write it to a file")
    with BytesIO() as file:
        _stream(model, file)
        return file.getvalue()


def split_off_large_tensors(model: WeightedModel) -> tuple[ModelProto, dict[str, Array]]:
    """Return a message that refers to its large tensors as if in a file, and those tensors.

    For a session that receives the tensors as external initializers, so that nothing is copied;
    they are contiguous and must outlive the session.
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
        set_location(header, _NO_FILE, 0, array.nbytes)
        skeleton.graph.initializer.append(header)
        tensors[name] = np.ascontiguousarray(array)
    return skeleton, tensors


def write_directly(
    model: WeightedModel | ModelProto, path: Path, *, external: bool = False
) -> None:
    """Write without a temporary name: for a path that `atomic_path` gave. Raises OSError.

    Above 2 GB, or if `external`, the weights go to another file beside it.
    """
    weighted = WeightedModel(model, {}) if isinstance(model, ModelProto) else model
    if external:
        weighted = _take_tensors_out(weighted)
    if (external and weighted.tensors) or not weighted.fits_one_message:
        weighted = _write_external(weighted, path.with_name(path.name + DATA_SUFFIX))
    with path.open("wb", buffering=0) as file:
        _stream(weighted, file)


def _take_tensors_out(model: WeightedModel) -> WeightedModel:
    """Return the model with the large initializers of its message as arrays."""
    large = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.skeleton.graph.initializer
        if tensor.ByteSize() >= _SMALL and tensor.data_type != TensorProto.STRING
    }
    if not large:
        return model
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    kept = [tensor for tensor in skeleton.graph.initializer if tensor.name not in large]
    set_repeated_field(skeleton.graph.initializer, kept)
    return WeightedModel(skeleton, {**large, **model.tensors})


def _header(name: str, array: Array) -> TensorProto:
    """Return a tensor message without its values."""
    data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, data_type=data_type, dims=array.shape)


def set_location(header: TensorProto, location: str, offset: int, length: int) -> None:
    """Make a tensor refer to bytes in another file."""
    header.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        header.external_data.add(key=key, value=str(value))


def _stream(model: WeightedModel, file: BinaryIO) -> None:
    """Write one ModelProto; the tensors go to the file without a copy in memory.

    A message's fields may have any order, so that the tensors follow the rest of the graph:
    ModelProto.graph is field 7, GraphProto.initializer 5, TensorProto.raw_data 9 (onnx.proto).
    """
    without_graph = ModelProto()
    without_graph.CopyFrom(model.skeleton)
    without_graph.ClearField("graph")
    graph = model.skeleton.graph.SerializeToString(deterministic=True)
    tensors = []
    for name, array in model.tensors.items():
        start = _header(name, array).SerializeToString() + _tag(9) + _varint(array.nbytes)
        prefix = _tag(5) + _varint(len(start) + array.nbytes) + start
        tensors.append((prefix, array))
    length = len(graph) + sum(len(prefix) + array.nbytes for prefix, array in tensors)
    _write_all(file, [without_graph.SerializeToString(deterministic=True)])
    _write_all(file, [_tag(7) + _varint(length), graph])
    for some in _in_groups(tensors):
        _write_all(file, [part for prefix, array in some for part in (prefix, _bytes(array).data)])


def _in_groups(tensors: Sequence[tuple[bytes, Array]]) -> Iterator[list[tuple[bytes, Array]]]:
    """Divide tensors, so that few are copied at once where their order in memory is another."""
    group: list[tuple[bytes, Array]] = []
    for pair in tensors:
        group.append(pair)
        if len(group) == _MANY or sum(array.nbytes for _, array in group) >= _MANY_BYTES:
            yield group
            group = []
    yield group


def _write_all(file: BinaryIO, parts: Sequence[bytes | memoryview]) -> None:
    """Write all parts, to a file of the system in as few calls as it takes.

    Each call waits for Python's lock afterwards, which a framework may hold on another thread.
    """
    if isinstance(file, BytesIO):
        file.writelines(parts)
        return
    views = deque(memoryview(part) for part in parts if len(part))
    while views:
        # Windows has no call for several; either may write less than it is given.
        several = hasattr(os, "writev")
        written = os.writev(file.fileno(), views) if several else file.write(views[0])
        while views and written >= len(views[0]):
            written -= len(views.popleft())
        if written:
            views[0] = views[0][written:]


def _bytes(array: Array) -> NDArray[np.uint8]:
    """Return the values in row-major order, little-endian, as ONNX stores them."""
    contiguous = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return contiguous.reshape(-1).view(np.uint8)


def _tag(field: int) -> bytes:
    """Return the tag of a protobuf field that has a length and that many bytes."""
    return bytes([field << 3 | 2])


def _varint(number: int) -> bytes:
    """Return a number as a protobuf varint."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _write_external(model: WeightedModel, data: Path) -> WeightedModel:
    """Write the tensors to `data` and return a model that refers to it."""
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    with data.open("wb") as file:
        for name, array in model.tensors.items():
            file.write(bytes(-file.tell() % _ALIGNMENT))
            header = _header(name, array)
            set_location(header, data.name, file.tell(), array.nbytes)
            file.write(_bytes(array).data)
            skeleton.graph.initializer.append(header)
    return WeightedModel(skeleton, {})
