"""Keras's weight files, read by layer names, without running any code that they contain."""

from __future__ import annotations

import io
import lzma
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from parity import files
from parity.errors import WeightError
from parity.network import checkpoint_fit, kinds
from parity.network.kind import Role
from parity.network.table import LayerTable, Row
from parity.text import one_line, quote

Array = NDArray[Any]

MEMBER = "model.weights.h5"
"""The weights inside a `.keras` archive, which is a zip file."""

MAX_RATIO = 4
"""How many times its stored size data may be: weights can hardly be compressed."""
_SMALL = 2**24
"""Bytes that any compressed data may have."""

# What h5py and zipfile raise for damaged files.
_READING_ERRORS = (
    OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError, NotImplementedError,
    EOFError, MemoryError, ArithmeticError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip

_OPTIMIZER = "optimizer"
"""The group of a compiled model's optimizer."""
_OLDER_FORM = ("layer_names", "model_weights")
"""What the `.h5` files of Keras 2 have at their top: an attribute, or a group in a whole model."""


def read(path: Path, table: LayerTable) -> dict[str, Array]:
    """Return the weights of a `.weights.h5` or `.keras` file by canonical name and layout.

    The architecture in a `.keras` file is not built, so that none of its code can run. Names,
    shapes and dtypes are checked before any values are read. Raises `WeightError` for a file that
    is damaged, has links to other files, or does not fit.
    """
    with _open(path) as file:
        found = dict(_find_weights(file, path, table))
        types = {name: (each.data.dtype.name, each.shape) for name, each in found.items()}
        checkpoint_fit.require_fit(types, table, source=str(path))
        return {name: each.read() for name, each in found.items()}


def require_stored(path: Path) -> None:
    """Raise `WeightError` unless a Keras file stores what it claims; see `_require_stored`.

    For a file that Keras itself will read, and whose claims it would believe.
    """

    def check(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            _require_stored(node, path)

    with _open(path) as file:
        file.visititems(check)


def read_shapes(path: Path) -> Counter[tuple[int, ...]] | None:
    """Return how many arrays of each shape a `.weights.h5` or `.keras` file has for the model.

    The optimizer's are left out, and links are not followed. None for an `.h5` file of Keras's
    older form. Raises `WeightError` for a damaged file.
    """
    shapes: Counter[tuple[int, ...]] = Counter()

    def count(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and name.partition("/")[0] != _OPTIMIZER:
            _require_stored(node, path)
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
        files.require_regular(path)
        source: Any = _read_member(path) if path.suffix == ".keras" else path
        with h5py.File(source, "r") as file:
            yield file
    except _READING_ERRORS as error:
        reason = one_line(str(error), longest=160) or type(error).__name__
        raise WeightError(f"{path}: cannot be read as Keras weights: {reason}") from error


def _read_member(path: Path) -> io.BytesIO:
    """Return the weights inside a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        if MEMBER not in archive.namelist():
            raise WeightError(f"{path}: is no Keras model: it has no {MEMBER}")
        member = archive.getinfo(MEMBER)
        # Keras compresses nothing, and weights hardly can be.
        if member.file_size > max(_SMALL, MAX_RATIO * member.compress_size):
            raise WeightError(
                f"{path}: {MEMBER} is {member.compress_size:,} bytes that claim to be "
                f"{member.file_size:,}; Keras writes no such file"
            )
        return io.BytesIO(archive.read(member))


@dataclass(frozen=True)
class _StoredWeight:
    """A weight that is still in the file; `role` says how it is turned into canonical layout."""

    data: Any
    role: Role | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape."""
        shape = tuple(self.data.shape)
        return shape if self.role is None else self.role.canonical_shape(shape)

    def read(self) -> Array:
        array: Array = self.data[()]
        return np.ascontiguousarray(array if self.role is None else self.role.from_keras(array))


def _find_weights(file: Any, path: Path, table: LayerTable) -> Iterator[tuple[str, _StoredWeight]]:
    """Yield the weights with their canonical names, those of unknown layers with other names.

    Raises `WeightError` where two layers have one name, since only one of them could be meant.
    """
    rows = {row.keras: row for row in table.rows if row.keras}
    seen: set[str] = set()
    for layer, variables in _iterate_layers(file, path):
        if not variables:
            continue
        if layer in seen:
            raise WeightError(f"{path}: two groups are both the layer {quote(layer)}")
        seen.add(layer)
        row = rows.get(layer)
        if row is None or not row.weights:
            for index, data in enumerate(variables):
                yield f"{layer}/{index}", _StoredWeight(data)
            continue
        yield from _pair_with_roles(row, variables, path)


def _pair_with_roles(
    row: Row, variables: list[Any], path: Path
) -> Iterator[tuple[str, _StoredWeight]]:
    """Yield each variable of a row's layer with its canonical name and role, by their order."""
    roles = kinds.get(row.kind).roles
    if len(variables) > len(roles):
        raise WeightError(
            f"{path}: layer '{row.keras}' has {len(variables)} variables, a {row.kind} at most "
            f"{len(roles)}"
        )
    names = {weight.role: weight.name for weight in row.weights}
    for role, data in zip(roles, variables, strict=False):
        yield names.get(role.name, f"{row.keras}/{role.name}"), _StoredWeight(data, role)


def _iterate_layers(file: Any, path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Yield each layer's name and datasets, in Keras's order."""
    if not isinstance(file.get("layers", getlink=True), h5py.HardLink):
        raise WeightError(f"{path}: holds no layers; is it written by Keras 3's save_weights?")
    for key in file["layers"]:
        group = _member(file["layers"], key, path)
        variables = _member(group, "vars", path)
        name = variables.attrs.get("name")
        if len(variables) and not isinstance(name, str):
            raise WeightError(f"{path}: '{key}' has no layer name; save it with a newer Keras 3")
        numbers = sorted(variables, key=lambda text: (len(text), text))
        yield str(name), [_find_dataset(variables, number, path) for number in numbers]


def _member(group: Any, key: str, path: Path) -> Any:
    """Return a member of an HDF5 group; raises `WeightError` for a link or a missing one."""
    # A link may lead to any file of the machine; Keras itself writes none.
    is_group = isinstance(group, h5py.Group)
    if not is_group or not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise WeightError(f"{path}: {quote(key)} is a link, or missing; Keras writes no such file")
    return group[key]


def _find_dataset(group: Any, key: str, path: Path) -> Any:
    data = _member(group, key, path)
    if not isinstance(data, h5py.Dataset):
        raise WeightError(f"{path}: {quote(key)} is no array; Keras writes no such file")
    _require_stored(data, path)
    return data


def _require_stored(data: Any, path: Path) -> None:
    """Raise `WeightError` unless a dataset holds numbers, all of them in the file itself.

    HDF5 fills in what was never written, so that a small file can claim any size.
    """
    name = quote(data.name)
    if data.external or data.is_virtual:
        raise WeightError(f"{path}: {name} is not stored in the file itself")
    if data.dtype.kind not in "fiub" or data.shape is None:
        raise WeightError(f"{path}: {name} holds no plain numbers, but {data.dtype}")
    stored = data.id.get_storage_size()
    claimed = math.prod(data.shape) * data.dtype.itemsize
    is_stored = stored >= claimed if data.id.get_create_plist().get_nfilters() == 0 else stored > 0
    if claimed and (not is_stored or claimed > max(_SMALL, MAX_RATIO * stored)):
        raise WeightError(
            f"{path}: {name} claims {claimed:,} bytes, of which {stored:,} are in the file"
        )
