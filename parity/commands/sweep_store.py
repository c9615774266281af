"""The folder of a sweep's results: one file for each cell, named by its address.

    DIR/cells/ADDRESS-MACHINE.json

A file is written completely or not at all, and never changed. So a sweep that was interrupted goes
on, and the folders of two people are merged by copying the files of one into the other.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity import files
from parity.commands.cell_address import SCHEMA
from parity.errors import OutputError, UsageError
from parity.processes.file_lock import lock_file, read_owner
from parity.report import codec
from parity.report.model import Report

_LOCK = ".lock"
_CELLS = "cells"


@dataclass(frozen=True)
class CellRecord:
    """The stored result of one cell: what `parity.cell/1` holds."""

    address: str
    hardware: Mapping[str, str | None]
    seconds: float
    report: Mapping[str, Any]
    """The report as JSON data, `parity.report/1`."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {
            "schema": SCHEMA,
            "address": self.address,
            "hardware": dict(self.hardware),
            "seconds": self.seconds,
            "report": dict(self.report),
        }

    def read_report(self) -> Report:
        """Return the report; raises `UsageError` if it is malformed."""
        return codec.from_json(self.report)


@dataclass
class SweepStore:
    """A folder of results; `notes` has a sentence for each damaged file."""

    folder: Path
    notes: list[str] = field(default_factory=list)

    def find(self, address: str, machines: Sequence[str]) -> CellRecord | None:
        """Return a cell's result on one of these kinds of machines, or None.

        A file that cannot be read is no result; it is replaced when the cell has run again.
        """
        for machine in machines:
            path = self._path(address, machine)
            if not path.is_file():
                continue
            try:
                return _read(path, address)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.notes.append(f"{path.name}: is damaged ({error}); the cell was run again")
        return None

    def save(self, record: CellRecord, machine: str) -> None:
        """Write a cell's result. Raises `OutputError`."""
        text = json.dumps(record.to_json(), allow_nan=False, separators=(",", ":"))
        files.write_text(self._path(record.address, machine), text + "\n")

    def _path(self, address: str, machine: str) -> Path:
        return self.folder / _CELLS / f"{address}-{machine}.json"


@contextmanager
def open_store(folder: Path) -> Iterator[SweepStore]:
    """Open the folder of a sweep, which is created; no other sweep can open it meanwhile.

    Raises `UsageError` if another sweep has, and `OutputError` if it cannot be written.
    """
    files.require_writable_folder(folder)
    with contextlib.ExitStack() as stack:
        try:
            (folder / _CELLS).mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_file(folder / _LOCK, wait=False))
        except BlockingIOError:
            owner = read_owner(folder / _LOCK)
            process = f" (process {owner})" if owner else ""
            raise UsageError(
                f"{folder}: another sweep is running in this folder{process}; wait for it, or give "
                "another --out"
            ) from None
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
        yield SweepStore(folder)


def _read(path: Path, address: str) -> CellRecord:
    data = json.loads(files.read_text(path))
    if data["schema"] != SCHEMA or data["address"] != address:
        raise ValueError("it is of another cell")
    record = CellRecord(address, data["hardware"], float(data["seconds"]), data["report"])
    try:
        record.read_report()
    except UsageError as error:
        raise ValueError(str(error)) from error
    return record
