"""Keras's weight files, read by the names of layers and without running anything they hold."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from parity.errors import WeightError
from parity.network import kinds
from parity.network.kind import Role
from parity.network.table import LayerTable, Row

Array = NDArray[Any]

MEMBER = "model.weights.h5"
"""The weights inside a `.keras` archive, which is a zip file."""


def read(path: Path, table: LayerTable) -> dict[str, Array]:
    """The weights of a `.weights.h5` or `.keras` file by canonical name and layout.

    The architecture that a `.keras` file describes is not built, so no code of its can run. Raises
    `WeightError` for a file that is damaged, links out of itself, or names unknown layers.
    """
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                source: Any = io.BytesIO(archive.read(MEMBER))
        else:
            source = path
        with h5py.File(source, "r") as file:
            return _read(file, path, table)
    except KeyError as error:
        raise WeightError(f"{path}: is no Keras model: it has no {MEMBER}") from error
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightError(f"{path}: cannot be read as Keras weights: {reason}") from error


def _read(file: Any, path: Path, table: LayerTable) -> dict[str, Array]:
    rows = {row.keras: row for row in table.rows if row.keras}
    found: dict[str, Array] = {}
    for layer, variables in _layers(file, path):
        if not variables:
            continue
        row = rows.get(layer)
        if row is None or not row.weights:
            for index, array in enumerate(variables):
                found[f"{layer}/{index}"] = array
            continue
        for name, role, array in _named(row, variables, path):
            found[name] = np.ascontiguousarray(role.from_keras(array))
    return found


def _named(row: Row, variables: list[Array], path: Path) -> Iterator[tuple[str, Role, Array]]:
    roles = kinds.get(row.kind).roles
    if len(variables) > len(roles):
        raise WeightError(
            f"{path}: layer '{row.keras}' has {len(variables)} variables, a {row.kind} at most "
            f"{len(roles)}"
        )
    names = {weight.role: weight.name for weight in row.weights}
    for role, array in zip(roles, variables, strict=False):
        yield names.get(role.name, f"{row.keras}/{role.name}"), role, array


def _layers(file: Any, path: Path) -> Iterator[tuple[str, list[Array]]]:
    """Each layer's name and variables, in Keras's order."""
    if not isinstance(file.get("layers", getlink=True), h5py.HardLink):
        raise WeightError(f"{path}: holds no layers; is it written by Keras 3's save_weights?")
    for key in file["layers"]:
        group = _own(file["layers"], key, path)
        variables = _own(group, "vars", path)
        name = variables.attrs.get("name")
        if len(variables) and not isinstance(name, str):
            raise WeightError(f"{path}: '{key}' has no layer name; save it with a newer Keras 3")
        numbers = sorted(variables, key=lambda text: (len(text), text))
        yield str(name), [_array(variables, number, path) for number in numbers]


def _own(group: Any, key: str, path: Path) -> Any:
    # A link may lead to any file of the machine; Keras itself writes none.
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise WeightError(f"{path}: '{key}' is a link, or missing; Keras writes no such file")
    return group[key]


def _array(group: Any, key: str, path: Path) -> Array:
    data = _own(group, key, path)
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise WeightError(f"{path}: '{data.name}' is not stored in the file itself")
    array: Array = data[()]
    return array
