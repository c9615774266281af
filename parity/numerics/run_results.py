"""Saved runs in the JSON of Polygraphy: the outputs of runners by name.

The form is that of `polygraphy.comparator.RunResults.save` (`polygraphy/json/serde.py` and
`polygraphy/comparator/struct.py` of version 0.53): every array is a base64-encoded `.npy` file.
A file is read as plain JSON; no object of it is unpickled.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from parity import files
from parity.errors import InputError
from parity.numerics.npz import READING_ERRORS
from parity.text import one_line, quote

Array = NDArray[Any]
Runs = dict[str, dict[str, Array]]
"""The outputs by name, by the name of their runner."""

LONGEST = 2**30
"""Bytes of a file of saved runs that is read."""

_MARKER = "polygraphy_class"
_KINDS = "biufc"
"""NumPy's kinds of numbers; those of no size would make any shape fit."""

_VERSIONS = ((1, 0), (2, 0), (3, 0))


def write_run_results(path: str | Path, runs: Mapping[str, Mapping[str, Array]]) -> None:
    """Write the outputs of runners as one iteration each, for `polygraphy run --load-outputs`.

    Raises `OutputError` if the file cannot be written, `InputError` for an array of objects.
    """
    results = {
        "lst": [
            [
                runner,
                [
                    {
                        "outputs": {
                            name: _encode(array, f"{path}: {quote(runner)}: {quote(name)}")
                            for name, array in outputs.items()
                        },
                        "runtime": None,
                        "runner_name": runner,
                        _MARKER: "IterationResult",
                    }
                ],
            ]
            for runner, outputs in runs.items()
        ],
        _MARKER: "RunResults",
    }
    files.write_text(path, json.dumps(results))


def read_run_results(path: str | Path) -> Runs:
    """Return the outputs of a file of `write_run_results` or of Polygraphy's `RunResults.save`.

    Raises `InputError` for a file that cannot be read or is of another form, for a runner of
    several iterations, and for arrays of objects, which Polygraphy does not write either.
    """
    try:
        results = json.loads(files.read_bytes(path, longest=LONGEST))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {one_line(str(error), longest=160)}") from error
    runs: Runs = {}
    for entry in _read_list(_read_object(results, "RunResults", str(path)), "lst", str(path)):
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise InputError(f"{path}: lst: expected pairs of a runner and its iterations")
        runner, iterations = entry
        place = f"{path}: {quote(runner)}"
        if runner in runs:
            raise InputError(f"{place}: is listed twice; save each runner once")
        if not isinstance(iterations, list) or len(iterations) != 1:
            found = len(iterations) if isinstance(iterations, list) else quote(iterations)
            raise InputError(
                f"{place}: expected 1 iteration, found {found}; save it with --iterations 1"
            )
        iteration = _read_object(iterations[0], "IterationResult", place)
        runs[runner] = _read_outputs(iteration.get("outputs"), place)
    if not runs:
        raise InputError(f"{path}: holds no runner")
    return runs


def _encode(array: Array, place: str) -> dict[str, Any]:
    content = io.BytesIO()
    try:
        np.save(content, np.asanyarray(array), allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{place}: {one_line(str(error), longest=160)}") from error
    encoded = {"array": base64.b64encode(content.getvalue()).decode(), _MARKER: "ndarray"}
    return {"values": encoded, _MARKER: "LazyArray"}


def _read_outputs(outputs: object, place: str) -> dict[str, Array]:
    if not isinstance(outputs, dict) or not outputs:
        raise InputError(f"{place}: outputs: expected an object with arrays, found none")
    arrays = {}
    for name, value in outputs.items():
        own = f"{place}: {quote(name)}"
        is_lazy = _has_class(value, "LazyArray", "LazyNumpyArray")
        array = value.get("values") if is_lazy else value
        if _has_class(array, "Tensor"):
            raise InputError(f"{own}: holds a PyTorch tensor; save NumPy arrays")
        arrays[name] = _decode(_read_object(array, "ndarray", own).get("array"), own)
    return arrays


def _decode(text: object, place: str) -> Array:
    """Return the array of a base64-encoded `.npy` file, which must be as long as it says."""
    if not isinstance(text, str):
        raise InputError(f"{place}: expected a base64 text, found {quote(text)}")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{place}: is not base64: {error}") from error
    try:
        return _load(content)
    except READING_ERRORS as error:
        reason = one_line(str(error), longest=160) or type(error).__name__
        raise InputError(f"{place}: is no .npy array: {reason}") from error


def _load(content: bytes) -> Array:
    """Return the array of the bytes of a `.npy` file; raises ValueError and `READING_ERRORS`.

    NumPy allocates what a header states before it reads; so the size is checked first.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in _VERSIONS:
        raise ValueError(f"its version {version} is unknown")
    # NumPy has no public reader of version 3, which is version 2 in UTF-8.
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never loaded")
    if dtype.kind not in _KINDS:
        raise ValueError(f"expected numbers, found {dtype}")
    expected, found = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if min(shape, default=0) < 0 or expected != found:
        raise ValueError(f"its header states {expected} bytes, and {found} follow")
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


def _read_object(value: object, name: str, place: str) -> dict[str, Any]:
    """Return an object of JSON that is marked as one of Polygraphy's class `name`."""
    if _has_class(value, name):
        return value
    found = quote(value.get(_MARKER)) if isinstance(value, dict) else quote(value)
    raise InputError(
        f"{place}: expected Polygraphy's {name}, found {found}; save it with "
        "`polygraphy run --save-outputs FILE.json`"
    )


def _has_class(value: object, *names: str) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and value.get(_MARKER) in names


def _read_list(value: Mapping[str, Any], key: str, place: str) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        raise InputError(f"{place}: {key}: expected a list, found {quote(found)}")
    return found
