"""A file's graph without the weights: a session maps those from the file, and copies none.

A session that is given the path of a file reads all of it, and copies each tensor out of the
message. Tensors that lie in another file are mapped into memory instead; that other file may be the
same one, since a tensor's values are a run of bytes in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto

from exporters.errors import ExportError
from exporters.graph.serialization import set_location

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""The numbers of fields: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data."""

_LARGE = 2**16
"""Bytes of a tensor from which on its values stay in the file."""

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
"""The wire types of protobuf."""


def read_without_tensors(path: Path) -> ModelProto:
    """Return the model of a file, whose large tensors refer to their bytes in that file.

    Raises ExportError where it is no ONNX model, from its first byte to its last.
    """
    try:
        with path.open("rb") as file:
            return _read_model(file, path.name, os.fstat(file.fileno()).st_size)
    except (DecodeError, EOFError) as error:
        raise ExportError(f"not a valid ONNX file: {error}") from error


def _read_model(file: BufferedReader, name: str, size: int) -> ModelProto:
    others, graph, tensors = bytearray(), bytearray(), []
    for field, start, body, end in _fields(file, size):
        if field != _GRAPH:
            others += _read(file, start, end)
            continue
        for inner, inner_start, inner_body, inner_end in _fields(file, end, body):
            if inner == _INITIALIZER and inner_end - inner_body >= _LARGE:
                tensors.append(_read_tensor(file, name, inner_body, inner_end))
            else:
                graph += _read(file, inner_start, inner_end)
    model = ModelProto()
    model.ParseFromString(bytes(others))
    model.graph.ParseFromString(bytes(graph))
    model.graph.initializer.extend(tensors)
    return model


def _read_tensor(file: BufferedReader, name: str, start: int, end: int) -> TensorProto:
    """Return a tensor of the file `name`, with the place of its values if those are raw bytes."""
    header, place = bytearray(), None
    for field, field_start, body, field_end in _fields(file, end, start):
        if field == _RAW_DATA:
            place = (body, field_end - body)
        else:
            header += _read(file, field_start, field_end)
    tensor = TensorProto()
    tensor.ParseFromString(bytes(header))
    if place is not None:
        set_location(tensor, name, *place)
    return tensor


def _fields(file: BufferedReader, end: int, start: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field of a message between two places: number, start, start of its value, end.

    Raises EOFError where a field passes the end of the message.
    """
    position = start
    while position < end:
        file.seek(position)
        tag = _read_varint(file)
        body = file.tell()
        wire = tag & 7
        if wire == _VARINT:
            _read_varint(file)
            after = file.tell()
        elif wire == _BYTES:
            length = _read_varint(file)
            body = file.tell()
            after = body + length
        elif wire in (_FIXED_32, _FIXED_64):
            after = body + (4 if wire == _FIXED_32 else 8)
        else:
            raise DecodeError(f"a field of an unknown kind at byte {position}")
        if after > end:
            raise EOFError(f"a field at byte {position} is longer than what it is in")
        yield tag >> 3, position, body, after
        position = after


def _read(file: BufferedReader, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _read_varint(file: BufferedReader) -> int:
    number = shift = 0
    while shift < 70:
        byte = file.read(1)
        if not byte:
            raise EOFError("the file ends within a field")
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
        shift += 7
    raise DecodeError("a number is longer than ten bytes")
