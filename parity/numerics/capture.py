"""A capture file: one subject's tensors on one input, as safetensors with a manifest.

Space for the header is reserved first; the tensors are written as they are produced and the header
at the end. Files are read in chunks. Neither the writer nor the reader holds more than one tensor
in memory. Any safetensors reader opens the file; the manifest is JSON under the key ``parity`` of
the format's ``__metadata__``.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from parity import files
from parity.errors import CaptureError, OutputError
from parity.numerics.checksum import ALIGNMENT, CHUNK, Checksum, allocate_aligned, compute_checksum
from parity.text import printable

Array = NDArray[Any]

SCHEMA = "parity.capture/3"
"""Version 3: the digest covers names, shapes and places of the tensors too."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
# The safetensors format allows headers up to this size (its MAX_HEADER_SIZE).
_MAX_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class _TensorEntry:
    """A tensor's place in the file: byte offsets count from the end of the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        return self.begin + self.size * self.dtype.itemsize


class CaptureWriter:
    """Writes a capture as its tensors are produced; use it as a context manager.

    ``manifest`` may be changed until ``close`` (the seconds of a run are known at its end). The
    file appears under its name only when it is complete; after an exception no file remains.
    """

    def __init__(self, path: str | Path, manifest: Mapping[str, Any]) -> None:
        self.manifest: dict[str, Any] = dict(manifest)
        self._path = Path(path)
        self._part = files.PartialFile(self._path)
        self._entries: dict[str, _TensorEntry] = {}
        self._checksums: dict[str, str] = {}
        self._end = 0
        # Some 1,000 rows fit; a longer header moves the tensors once, at the end.
        self._reserved = 2**18
        try:
            self._file: BinaryIO = self._part.path.open("wb")
            self._file.seek(self._reserved)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}") from error

    def add(self, name: str, array: Array) -> None:
        """Append one tensor (NCHW, batch first; float16, float32 or float64).

        Raises CaptureError for a duplicate name or an unsupported dtype, OutputError when the disk
        is full.
        """
        if name in self._entries or name == "__metadata__":
            raise CaptureError(f"{self._path.name}: the row {name!r} was added twice")
        dtype = array.dtype.newbyteorder("<")
        if dtype not in _CODES:
            raise CaptureError(
                f"{self._path.name}: {name}: expected float16, float32 or float64, "
                f"found {array.dtype}"
            )
        entry = _TensorEntry(dtype, tuple(array.shape), self._end)
        flat = np.ascontiguousarray(array, dtype=dtype).reshape(-1)
        try:
            self._file.write(flat.view(np.uint8).data)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._entries[name] = entry
        self._checksums[name] = compute_checksum(flat)
        self._end = entry.end

    def close(self) -> None:
        """Write the header and give the file its name. Raises OutputError."""
        header = _encode_header({**self.manifest, "checksums": self._checksums}, self._entries)
        try:
            self._file.close()
            _write_header(self._part.path, header, self._reserved)
            self._part.commit()
        except OSError as error:
            self._discard()
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _discard(self) -> None:
        self._file.close()
        self._part.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error_type is None:
            self.close()
        else:
            self._discard()


def update_manifest(path: str | Path, facts: Mapping[str, Any]) -> None:
    """Add `facts`, plain data, to the manifest of a capture; the tensors are not rewritten.

    Raises CaptureError for a file that is not a capture, OutputError when it cannot be written.
    """
    with CaptureReader(path) as reader:
        header = _encode_header({**reader.manifest, **facts}, reader._entries)
        reserved = reader._start
    try:
        _write_header(Path(path), header, reserved)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def _encode_header(manifest: Mapping[str, Any], entries: Mapping[str, _TensorEntry]) -> bytes:
    """Return the header's JSON: the tensors' entries, and the manifest with its digest."""
    complete = {**manifest, "schema": SCHEMA}
    tensors = {
        name: {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.end],
        }
        for name, entry in entries.items()
    }
    digest = _digest(complete, entries)
    metadata = {"parity": json.dumps({**complete, "digest": digest}, sort_keys=True)}
    return json.dumps({"__metadata__": metadata, **tensors}).encode()


def _digest(manifest: Mapping[str, Any], entries: Mapping[str, _TensorEntry]) -> str:
    """Return the SHA-256 of a manifest without its digest and of the entries, to detect edits."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    places = [
        [name, _CODES[entry.dtype], list(entry.shape), entry.begin]
        for name, entry in sorted(entries.items())
    ]
    text = json.dumps([content, places], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write_header(path: Path, header: bytes, reserved: int) -> None:
    """Write the header in front of the tensors, which begin at `reserved`.

    A header that does not fit moves the tensors.
    """
    size = len(header) + 8
    if size > reserved:
        start = -(-size // ALIGNMENT) * ALIGNMENT
        with files.atomic_write(path) as copy, path.open("rb") as source, copy.open("wb") as target:
            source.seek(reserved)
            target.seek(start)
            shutil.copyfileobj(source, target, 2**20)
        reserved = start
    with path.open("r+b") as file:
        file.write((reserved - 8).to_bytes(8, "little"))
        file.write(header.ljust(reserved - 8))


class CaptureReader:
    """Reads a capture, whole tensors or chunks of them; use it as a context manager.

    Data is read with ``preadv`` into buffers, not memory-mapped: mapped pages count as this
    process's memory, and truncating a mapped file kills the process. Reading from several threads
    is safe. Raises CaptureError for a file that is truncated, edited or not a capture.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = files.open_regular(self.path)
        except OSError as error:
            raise CaptureError(f"{self.path}: cannot be read: {error.strerror}") from error
        try:
            self._start, header = self._read_header()
            self.manifest = self._read_manifest(header)
            self._entries = {name: self._parse_entry(name, value) for name, value in header.items()}
            self._check_layout()
            self._check_digest()
        except BaseException:
            self._file.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """The rows in the order of capture."""
        return tuple(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a row's tensor, batch first."""
        return self._find(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype of a row's tensor: float16, float32 or float64."""
        return self._find(name).dtype

    def nbytes(self, name: str) -> int:
        """Return the size of a row's tensor in bytes."""
        entry = self._find(name)
        return entry.end - entry.begin

    def read(self, name: str) -> Array:
        """Return a row's whole tensor as a new array, after its checksum is verified."""
        entry = self._find(name)
        flat = np.empty(entry.size, entry.dtype)
        self._read_into(flat, entry.begin, name)
        self._verify_checksum(name, compute_checksum(flat))
        return flat.reshape(entry.shape)

    def chunks(self, name: str) -> Iterator[Array]:
        """Yield a row's tensor in C order, in flat chunks of ``CHUNK`` elements.

        All chunks share one buffer: each overwrites the one before. The checksum is verified after
        the last chunk.
        """
        entry = self._find(name)
        buffer = allocate_aligned(min(CHUNK, entry.size), entry.dtype)
        total = Checksum()
        for start in range(0, entry.size, CHUNK):
            piece = buffer[: min(CHUNK, entry.size - start)]
            self._read_into(piece, entry.begin + start * entry.dtype.itemsize, name)
            total.add(piece)
            yield piece
        self._verify_checksum(name, total.hex())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _find(self, name: str) -> _TensorEntry:
        try:
            return self._entries[name]
        except KeyError:
            raise CaptureError(f"{self.path}: has no row {name!r}") from None

    def _read_into(self, piece: Array, begin: int, name: str) -> None:
        view = piece.view(np.uint8).data
        offset = 0
        while offset < len(view):
            count = os.preadv(self._file.fileno(), [view[offset:]], self._start + begin + offset)
            if count == 0:
                raise CaptureError(f"{self.path}: {name}: the file ends too early (truncated?)")
            offset += count

    def _verify_checksum(self, name: str, found: str) -> None:
        expected = self.manifest["checksums"].get(name)
        if found != expected:
            raise CaptureError(
                f"{self.path}: {name}: expected checksum {expected}, found {found}; "
                "the file was changed after the capture; capture it again"
            )

    def _format_error(self, reason: str) -> CaptureError:
        return CaptureError(f"{self.path}: is not a parity capture: {reason}")

    def _read_header(self) -> tuple[int, dict[str, Any]]:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, _MAX_HEADER):
            raise self._format_error("it has no safetensors header (truncated?)")
        try:
            header = json.loads(self._file.read(length))
        except (ValueError, RecursionError) as error:
            raise self._format_error("its header is not JSON") from error
        if not isinstance(header, dict):
            raise self._format_error("its header is not a JSON object")
        return 8 + length, header

    def _read_manifest(self, header: dict[str, Any]) -> dict[str, Any]:
        metadata = header.pop("__metadata__", None)
        try:
            manifest = json.loads(metadata["parity"])
            schema, checksums = manifest["schema"], manifest["checksums"]
        except (TypeError, KeyError, ValueError, RecursionError) as error:
            raise self._format_error("it holds no manifest") from error
        if schema != SCHEMA:
            found = printable(str(schema))
            raise CaptureError(
                f"{self.path}: expected schema {SCHEMA}, found {found}; capture it again"
            )
        if not isinstance(checksums, dict):
            raise self._format_error("its checksums are not a JSON object")
        return dict(manifest)

    def _check_digest(self) -> None:
        try:
            digest = _digest(self.manifest, self._entries)
        except (ValueError, RecursionError) as error:
            raise self._format_error("its manifest is nested too deeply") from error
        if self.manifest.get("digest") != digest:
            raise CaptureError(
                f"{self.path}: its header was changed after the capture; capture it again"
            )

    def _parse_entry(self, name: str, value: Any) -> _TensorEntry:
        try:
            dtype = _DTYPES[value["dtype"]]
            begin, end = map(operator.index, value["data_offsets"])
            entry = _TensorEntry(dtype, tuple(map(operator.index, value["shape"])), begin)
            is_consistent = min(entry.shape, default=0) >= 0 and begin >= 0 and entry.end == end
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise self._format_error(
                f"the header's entry for {printable(name)} is malformed"
            ) from error
        if not is_consistent:
            raise self._format_error(f"{printable(name)}: its shape does not fit its offsets")
        return entry

    def _check_layout(self) -> None:
        end = 0
        for name, entry in sorted(self._entries.items(), key=lambda item: item[1].begin):
            if entry.begin != end:
                raise self._format_error(
                    f"{printable(name)}: its data overlaps other data or leaves a gap"
                )
            end = entry.end
        expected, found = self._start + end, os.fstat(self._file.fileno()).st_size
        if expected != found:
            raise CaptureError(
                f"{self.path}: expected {expected} bytes, found {found} (truncated?)"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
