"""What an ONNX file states of its model: preprocessing, class names, axes; read without ONNX.

They are `metadata_props` of the file, JSON under names that begin with `parity.`; other programs
read them with `onnx.load(F).metadata_props` or `session.get_modelmeta().custom_metadata_map`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from parity import files
from parity.errors import InputError
from parity.network.inputs.preprocessing import Preprocessing
from parity.text import one_line
from parity.version import __version__

PREPROCESSING, CLASSES = "parity.preprocessing", "parity.classes"
AXES, VERSION = "parity.axes", "parity.version"

SUFFIX = ".onnx"

LONGEST = 16 * 2**20
"""Bytes of one entry; what is longer is no metadata of ours."""

# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: ModelProto.metadata_props is field 14, of
# StringStringEntryProto, whose key is field 1 and whose value is field 2.
_METADATA, _KEY, _VALUE = 14, 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class StatedModel:
    """What a file states; None and () where it does not."""

    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()


def build_properties(
    *,
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    axes: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the metadata of an ONNX file; what is not known is left out.

    `size` is (height, width) in pixels, `axes` the order of the axes by input or output: "NCHW".
    """
    found = {VERSION: __version__}
    if preprocessing is not None:
        sizes = {} if size is None else {"size": list(size)}
        found[PREPROCESSING] = _write({**sizes, **preprocessing.to_json()})
    if classes:
        found[CLASSES] = _write(list(classes))
    if axes:
        found[AXES] = _write(dict(axes))
    return found


def _write(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


def read_stated_model(path: Path) -> StatedModel:
    """Return what an ONNX file states of its model.

    Raises `InputError` for an entry of parity's that is damaged.
    """
    properties = read_properties(path)
    try:
        classes = json.loads(properties.get(CLASSES, "[]"))
        stated = properties.get(PREPROCESSING)
        if not isinstance(classes, list):
            raise TypeError(f"{CLASSES} is no list")
        return StatedModel(
            None if stated is None else Preprocessing.from_json(json.loads(stated)),
            tuple(map(str, classes)),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = one_line(f"{type(error).__name__} {error}", longest=120)
        raise InputError(
            f"{path}: its metadata {PREPROCESSING} or {CLASSES} cannot be read: {reason}; export "
            "it again"
        ) from error


def read_properties(path: Path) -> dict[str, str]:
    """Return the `metadata_props` of an ONNX file; {} of one that is no such file.

    Only the entries themselves are read: the weights are skipped.
    """
    try:
        with files.open_regular(path) as file:
            return dict(_read_entries(file))
    except (OSError, EOFError, UnicodeDecodeError, ValueError):
        # The runtime that loads the file says what is wrong with it.
        return {}


def _read_entries(file: BinaryIO) -> Iterator[tuple[str, str]]:
    while (tag := _read_varint(file)) is not None:
        field, kind = tag >> 3, tag & 7
        if kind == _LENGTH:
            length = _require(_read_varint(file))
            if field == _METADATA and length <= LONGEST:
                yield _read_entry(file.read(length))
            else:
                file.seek(length, 1)
        elif kind == _VARINT:
            _require(_read_varint(file))
        elif kind in (_FIXED64, _FIXED32):
            file.seek(8 if kind == _FIXED64 else 4, 1)
        else:
            raise ValueError(f"wire type {kind}")


def _read_entry(data: bytes) -> tuple[str, str]:
    texts, place = {_KEY: "", _VALUE: ""}, 0
    while place < len(data):
        tag, place = _take_varint(data, place)
        length, place = _take_varint(data, place)
        if tag & 7 != _LENGTH or place + length > len(data):
            raise ValueError("an entry of strings has another field")
        texts[tag >> 3] = data[place : place + length].decode("utf-8")
        place += length
    return texts[_KEY], texts[_VALUE]


def _read_varint(file: BinaryIO) -> int | None:
    """Return the next integer, seven bits a byte, the lowest first; None at the end."""
    value, shift = 0, 0
    while byte := file.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
        if shift > 63:
            raise ValueError("an integer is too long")
    if shift:
        raise EOFError
    return None


def _take_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the integer at a place and the place behind it."""
    value, shift = 0, 0
    while place < len(data) and shift <= 63:
        byte = data[place]
        value, place, shift = value | (byte & 0x7F) << shift, place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("an integer is cut off")


def _require(value: int | None) -> int:
    if value is None:
        raise EOFError
    return value
