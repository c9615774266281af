"""Saved runs of Polygraphy beside captures: the outputs of subjects are written as one, and judged.

A saved run states neither its model nor its weights nor its input, and no shape of a reference. So
it is judged only by the reference of a capture, at the model's outputs, and taken as a run on the
same input.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from parity import temporary
from parity.commands.saved_captures import (
    REFERENCE,
    SUFFIX,
    SavedComparison,
    read_comparison,
)
from parity.comparison import identity
from parity.errors import InputError
from parity.numerics.capture import CaptureReader, CaptureWriter
from parity.numerics.run_results import Array, read_run_results, write_run_results
from parity.report.model import SubjectFacts
from parity.text import printable, quote

RUN_SUFFIX = ".json"


def is_saved_run(path: Path) -> bool:
    """Return whether a path names a saved run, by its suffix, and not captures."""
    return path.suffix.lower() == RUN_SUFFIX and not path.is_dir()


def write_outputs(path: str | Path, captures: Mapping[str, Path]) -> None:
    """Write the model outputs of saved captures, by subject; the reference's are left out.

    The runners have the subjects' names, and the outputs the names of their rows, in PyTorch's
    order of axes. Raises `OutputError`.
    """
    with CaptureReader(captures[REFERENCE]) as reference:
        outputs = read_comparison(reference).outputs
    runs = {}
    for name, file in captures.items():
        if name != REFERENCE:
            with CaptureReader(file) as reader:
                runs[name] = {row: reader.read(row) for row in outputs if row in reader}
    write_run_results(path, runs)


@contextlib.contextmanager
def open_saved_run(path: Path, reference: CaptureReader) -> Iterator[dict[str, CaptureReader]]:
    """Yield captures of the runners of a saved run, by runner, with the identity of `reference`.

    They hold the model's outputs alone. Raises `InputError` for a file that is no saved run, and
    for a runner that has none of the outputs.
    """
    comparison = read_comparison(reference)
    manifest = {key: reference.manifest[key] for key in identity.LABELS}
    manifest["depth"] = comparison.depth
    manifest["facts"] = dataclasses.asdict(SubjectFacts("a saved run of Polygraphy", "unknown"))
    with temporary.working_folder(None) as folder, contextlib.ExitStack() as stack:
        readers: dict[str, CaptureReader] = {}
        for index, (runner, arrays) in enumerate(read_run_results(path).items()):
            # "|" separates the two names of a pair.
            name = printable(runner).replace("|", "_")
            place = f"{path}: {name}"
            if name in readers or name == REFERENCE:
                raise InputError(f"{place}: cannot be the name of a runner here; rename it")
            file = folder / f"{index}{SUFFIX}"
            with CaptureWriter(file, {**manifest, "subject": name}) as writer:
                for row, array in _pair_outputs(arrays, comparison, place).items():
                    writer.add(row, _to_floating(array, f"{place}: {printable(row)}"))
            readers[name] = stack.enter_context(CaptureReader(file))
        yield readers


def _pair_outputs(
    arrays: Mapping[str, Array], comparison: SavedComparison, place: str
) -> dict[str, Array]:
    """Return the arrays by the rows of the model's outputs: by name, or the only one of each."""
    rows: Sequence[str] = comparison.outputs
    found = {row: arrays[row] for row in rows if row in arrays}
    if not found and len(rows) == len(arrays) == 1:
        return {rows[0]: next(iter(arrays.values()))}
    if not found:
        expected = ", ".join(map(quote, rows))
        names = ", ".join(map(quote, list(arrays)[:8]))
        raise InputError(f"{place}: expected the outputs {expected}, found {names}; rename them")
    return found


def _to_floating(array: Array, place: str) -> Array:
    """Return an array of a dtype that a capture holds; integers and booleans become float64."""
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize > np.dtype(np.float64).itemsize:
        raise InputError(f"{place}: expected float16, float32 or float64, found {array.dtype}")
    return array
