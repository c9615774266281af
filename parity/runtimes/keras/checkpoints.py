"""Keras's weight files, read by layer names, without running any code that they contain."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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

_OPTIMIZER = "optimizer"
"""The group of a compiled model's optimizer."""
_OLDER_FORM = ("layer_names", "model_weights")
"""What the `.h5` files of Keras 2 have at their top: an attribute, or a group in a whole model."""


def read(path: Path, table: LayerTable) -> dict[str, Array]:
    """Return the weights of a `.weights.h5` or `.keras` file by canonical name and layout.

    The architecture in a `.keras` file is not built, so that none of its code can run. Raises
    `WeightError` for a file that is damaged or has links to other files.
    """
    with _open(path) as file:
        return _read_layers(file, path, table)


def read_shapes(path: Path) -> Counter[tuple[int, ...]] | None:
    """Return how many arrays of each shape a `.weights.h5` or `.keras` file has for the model.

    The optimizer's are left out, and links are not followed. None for an `.h5` file of Keras's
    older form. Raises `WeightError` for a damaged file.
    """
    shapes: Counter[tuple[int, ...]] = Counter()

    def count(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and name.partition("/")[0] != _OPTIMIZER:
            shapes[tuple(node.shape)] += 1

    with _open(path) as file:
        if _OLDER_FORM[0] in file.attrs or _OLDER_FORM[1] in file:
            return None
        file.visititems(count)
    return shapes


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open the HDF5 file of weights; raises `WeightError`, also for errors while it is read."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                source: Any = io.BytesIO(archive.read(MEMBER))
        else:
            source = path
        with h5py.File(source, "r") as file:
            yield file
    except KeyError as error:
        raise WeightError(f"{path}: is no Keras model: it has no {MEMBER}") from error
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightError(f"{path}: cannot be read as Keras weights: {reason}") from error


def _read_layers(file: Any, path: Path, table: LayerTable) -> dict[str, Array]:
    rows = {row.keras: row for row in table.rows if row.keras}
    weights: dict[str, Array] = {}
    for layer, variables in _iterate_layers(file, path):
        if not variables:
            continue
        row = rows.get(layer)
        if row is None or not row.weights:
            for index, array in enumerate(variables):
                weights[f"{layer}/{index}"] = array
            continue
        for name, role, array in _pair_with_roles(row, variables, path):
            weights[name] = np.ascontiguousarray(role.from_keras(array))
    return weights


def _pair_with_roles(
    row: Row, variables: list[Array], path: Path
) -> Iterator[tuple[str, Role, Array]]:
    """Yield each variable of a row's layer with its canonical name and role, by their order."""
    roles = kinds.get(row.kind).roles
    if len(variables) > len(roles):
        raise WeightError(
            f"{path}: layer '{row.keras}' has {len(variables)} variables, a {row.kind} at most "
            f"{len(roles)}"
        )
    names = {weight.role: weight.name for weight in row.weights}
    for role, array in zip(roles, variables, strict=False):
        yield names.get(role.name, f"{row.keras}/{role.name}"), role, array


def _iterate_layers(file: Any, path: Path) -> Iterator[tuple[str, list[Array]]]:
    """Yield each layer's name and variables, in Keras's order."""
    if not isinstance(file.get("layers", getlink=True), h5py.HardLink):
        raise WeightError(f"{path}: holds no layers; is it written by Keras 3's save_weights?")
    for key in file["layers"]:
        group = _member(file["layers"], key, path)
        variables = _member(group, "vars", path)
        name = variables.attrs.get("name")
        if len(variables) and not isinstance(name, str):
            raise WeightError(f"{path}: '{key}' has no layer name; save it with a newer Keras 3")
        numbers = sorted(variables, key=lambda text: (len(text), text))
        yield str(name), [_read_array(variables, number, path) for number in numbers]


def _member(group: Any, key: str, path: Path) -> Any:
    """Return a member of an HDF5 group; raises `WeightError` for a link or a missing one."""
    # A link may lead to any file of the machine; Keras itself writes none.
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise WeightError(f"{path}: '{key}' is a link, or missing; Keras writes no such file")
    return group[key]


def _read_array(group: Any, key: str, path: Path) -> Array:
    data = _member(group, key, path)
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise WeightError(f"{path}: '{data.name}' is not stored in the file itself")
    array: Array = data[()]
    return array
