"""Canonical weights: seeded, loaded, saved, hashed, and checked strictly against a layer table.

The canonical form is a mapping (on disk a safetensors file) from torchvision's names to float32
arrays in PyTorch's layouts: convolutions (O, I/groups, H, W), dense layers (O, I).
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from parity import files
from parity.errors import WeightError
from parity.network.checkpoint_fit import (
    WRAPPER_PREFIXES,
    TensorTypes,
    batch_counters,
    join_first,
    require_fit,
)
from parity.text import printable, quote

if TYPE_CHECKING:
    from parity.network.spec import ModelSpec
    from parity.network.table import LayerTable, Row, Weight
from parity.numerics.rounding import round_to_bits

Array = NDArray[Any]
STATISTIC_BITS = 8

_METADATA = "__metadata__"

_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
_FOREIGN_DTYPES = {"BF16": "bfloat16"}
# Tensors start at a multiple of this, so that a mapped file can be used without a copy.
_ALIGNMENT = 64
# The keys under which training scripts save a state dict: timm's list, averaged weights included.
_WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")
# The first bytes of other files that users pass as a safetensors file.
_FOREIGN_STARTS = {
    b"PK\x03\x04": "it is a zip archive, as .pth and .keras are: `parity convert` reads those",
    b"\x89HDF": "it is an HDF5 file, as .weights.h5 is: `parity convert` reads those",
    b"\x80": "it is a Python pickle, as old .pth files are: `parity convert` reads those",
    b"version https://git-lfs": "it is a Git LFS pointer: `git lfs pull` fetches the file itself",
    b"<": "it is a web page, not the file it links to",
}


def init(spec: ModelSpec, *, seed: int) -> dict[str, Array]:
    """Return random float32 weights by canonical name; batch-norm statistics are not calibrated
    yet.

    Kernels are He-normal over the fan-in (He et al., 2015, eq. 10), dense ones LeCun-normal. Gamma
    is drawn from U[0.5, 1.5] and beta and biases from N(0, 0.1²), so that an error in any of them
    is visible; mean is 0 and variance 1. Each tensor has a generator of its own, seeded by `seed`
    and its name, so it does not depend on the order or on the rest of the model.
    """
    pairs = list(spec.table().weights())
    with ThreadPoolExecutor(_threads()) as pool:
        arrays = pool.map(lambda pair: _draw(*pair, seed=seed), pairs)
        return {weight.name: array for (_, weight), array in zip(pairs, arrays, strict=True)}


def load(path: str | Path, table: LayerTable) -> dict[str, Array]:
    """Map the weights of a safetensors file that fits `table` exactly, by canonical name.

    They are in the table's order, in a private mapping of the file: pages are read at their first
    use, and writing to an array does not change the file. torchvision's counters of batches
    (`bn1.num_batches_tracked`, int64 scalars) are kept where the file has them; inference does not
    use them. Raises `WeightError` for anything else that `check` refuses, and for a file that is
    missing, truncated or not a safetensors file.
    """
    path = Path(path)
    header, start = _read_header(path)
    found = _types(header)
    require_fit(found, table, source=path.name)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    weights = {name: _view(mapped, header[name], start) for name in _names(table) if name in header}
    _require_finite(weights, table, source=path.name)
    return weights


def read_types(path: str | Path) -> TensorTypes:
    """Return the dtype's name and the shape of each tensor of a safetensors file, from its header.

    Raises `WeightError` for a file that is missing, truncated or not a safetensors file.
    """
    return _types(_read_header(Path(path))[0])


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; none for a file of another format."""
    try:
        with files.open_regular(path), safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError):
        return {}


def check(weights: Mapping[str, Array], table: LayerTable, *, source: str) -> None:
    """Raise `WeightError` unless `weights` are exactly those of `table`: names, shapes, float32.

    NaN, Inf and negative variances are refused as well. Counters of batches are optional.
    The message begins with `source` and names the first few weights of each problem, expected
    against found, and the reason where it is certain.
    """
    for name, array in weights.items():
        if not isinstance(array, np.ndarray):
            kind = type(array).__name__
            raise WeightError(f"{source}: {printable(name)}: expected an array, found a {kind}")
    found = {name: (array.dtype.name, array.shape) for name, array in weights.items()}
    require_fit(found, table, source=source)
    _require_finite(weights, table, source=source)


def save(
    path: str | Path, weights: Mapping[str, Array], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; equal arguments give equal bytes, and the file is replaced whole.

    The safetensors package is not used to write: it copies every tensor, and orders the metadata
    at random in some releases. Raises `OutputError`, and `WeightError` for a dtype other than
    float16, float32, float64 and int64.
    """
    path = Path(path)
    for name, array in weights.items():
        if array.dtype.newbyteorder("<") not in _CODES:
            raise WeightError(f"{path.name}: {name}: cannot hold {array.dtype}, only float32")
    # The format wants wider dtypes first, so that everything is aligned.
    order = sorted(weights, key=lambda name: (-weights[name].dtype.itemsize, name))
    with files.atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(_header({name: weights[name] for name in order}, metadata or {}))
        for name in order:
            file.write(_bytes(weights[name]))


def digest(weights: Mapping[str, Array]) -> str:
    """Return the SHA-256, in hexadecimal, of the sorted (name, dtype, shape, SHA-256 of the bytes).

    Counters of batches are left out: Keras has none, and weights that are copied through it keep
    their digest.
    """
    names = sorted(name for name in weights if not name.endswith(".num_batches_tracked"))
    with ThreadPoolExecutor(_threads()) as pool:
        sums = pool.map(lambda name: hashlib.sha256(_bytes(weights[name])).hexdigest(), names)
        total = hashlib.sha256()
        for name, checksum in zip(names, sums, strict=True):
            dtype, shape = weights[name].dtype.newbyteorder("<").str, list(weights[name].shape)
            total.update(json.dumps([name, dtype, shape, checksum]).encode())
    return total.hexdigest()


def describe_differences(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> list[str]:
    """Return a line for each weight that is not bitwise equal: the count and the largest
    difference.

    `expected` and `actual` fit one table, so that shapes are equal; absent ones are skipped.
    """
    lines = []
    for name, right in expected.items():
        found = actual.get(name)
        if found is None or _bytes(found) == _bytes(right):
            continue
        count = int(np.count_nonzero(found != right))
        with np.errstate(all="ignore"):
            gap = np.abs(found.astype(np.float64) - right.astype(np.float64))
        # NaN on one side counts as the largest difference; on both, its bits may differ.
        gap[np.isnan(gap)] = np.inf
        gap[np.isnan(found) & np.isnan(right)] = 0.0
        at = tuple(map(int, np.unravel_index(int(np.argmax(gap)), gap.shape)))
        lines.append(
            f"{name}: {count} of {right.size} values differ, the most at {at}: expected "
            f"{right[at]:.9g}, found {found[at]:.9g}"
        )
    return lines


def round_statistics(statistics: Array) -> NDArray[np.float32]:
    """Return float64 statistics rounded to 8 significant bits, as float32.

    Two frameworks' statistics in float64 differ by some 2⁻⁵⁰; rounded this coarsely they are
    bitwise equal, so that the weights have one hash whichever framework calibrates them. Raises
    `WeightError` for NaN and Inf.
    """
    if not np.isfinite(statistics).all():
        raise WeightError("calibrated batch-norm statistics are not finite")
    return round_to_bits(statistics, STATISTIC_BITS).astype(np.float32)


def unwrap_state_dict(checkpoint: object, *, source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the state dict inside a training script's checkpoint, and notes on what was removed.

    Known are one of `{"state_dict": …}`, `{"model": …}` and their averaged (`_ema`) twins, and a
    prefix `module.` or `_orig_mod.` that every name has. Several wrappers at once, or names that
    are not text, raise `WeightError`.
    """
    if not isinstance(checkpoint, Mapping):
        kind = type(checkpoint).__name__
        raise WeightError(
            f"{source}: expected a state dict, found a {kind}: save model.state_dict()"
        )
    wrappers = [key for key in _WRAPPERS if isinstance(checkpoint.get(key), Mapping)]
    if len(wrappers) > 1:
        both = " and ".join(map(repr, wrappers))
        raise WeightError(f"{source}: ambiguous, it holds {both}: save only the one to be used")
    notes = [f"{source}: taken from its entry {wrapper!r}" for wrapper in wrappers]
    state: dict[Any, Any] = dict(checkpoint[wrappers[0]] if wrappers else checkpoint)
    if invalid := [name for name in state if not isinstance(name, str)]:
        raise WeightError(f"{source}: expected names of weights, found the key {quote(invalid[0])}")
    for prefix in WRAPPER_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            notes.append(f"{source}: the prefix {prefix!r} was taken off every name")
    return state, tuple(notes)


def _threads() -> int:
    return min(4, os.cpu_count() or 1)


def _draw(row: Row, weight: Weight, *, seed: int) -> Array:
    name = hashlib.sha256(weight.name.encode()).digest()
    words = np.frombuffer(name, dtype="<u4").tolist()
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *words])))
    match weight.role:
        case "mean":
            return np.zeros(weight.shape, np.float32)
        case "variance":
            return np.ones(weight.shape, np.float32)
        case "gamma":
            return generator.random(weight.shape, np.float32) + np.float32(0.5)
        case "kernel":
            gain = 1.0 if row.kind == "dense" else 2.0
            deviation = math.sqrt(gain / math.prod(weight.shape[1:]))
        case _:
            deviation = 0.1
    values = generator.standard_normal(weight.shape, np.float32)
    values *= np.float32(deviation)
    return values


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the entries of a valid safetensors file by name, and the offset of its data."""
    try:
        with files.open_regular(path) as file:
            first = file.read(32)
        # The package checks offsets, overlaps and lengths, which a hostile file may get wrong.
        with safetensors.safe_open(path, framework="numpy"), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except OSError as error:
        raise WeightError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        reason = next(
            (text for start, text in _FOREIGN_STARTS.items() if first.startswith(start)),
            "it is empty" if not first else f"is it truncated? ({_one_line(error)})",
        )
        raise WeightError(f"{path}: is not a readable safetensors file: {reason}") from error
    header.pop(_METADATA, None)
    return header, 8 + length


def _types(header: Mapping[str, Any]) -> TensorTypes:
    return {
        name: (_dtype_name(entry["dtype"]), tuple(entry["shape"])) for name, entry in header.items()
    }


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _dtype_name(code: str) -> str:
    return np.dtype(_DTYPES[code]).name if code in _DTYPES else _FOREIGN_DTYPES.get(code, code)


def _view(mapped: mmap.mmap, entry: Mapping[str, Any], start: int) -> Array:
    array = np.frombuffer(
        mapped,
        dtype=_DTYPES[entry["dtype"]],
        count=math.prod(entry["shape"]),
        offset=start + entry["data_offsets"][0],
    ).reshape(entry["shape"])
    # Other writers may leave the data at any byte, which frameworks cannot use in place.
    return array if array.flags.aligned else array.copy()


def _header(weights: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, array in weights.items():
        code = _CODES[array.dtype.newbyteorder("<")]
        begin, end = end, end + array.nbytes
        entries[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    length = -(-(len(text) + 8) // _ALIGNMENT) * _ALIGNMENT - 8
    return length.to_bytes(8, "little") + text.ljust(length)


def _bytes(array: Array) -> memoryview:
    """Return the array's bytes in C order, little-endian; copied only where they are not."""
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data


def _names(table: LayerTable) -> Iterator[str]:
    yield from (weight.name for _, weight in table.weights())
    yield from batch_counters(table)


def _require_finite(weights: Mapping[str, Array], table: LayerTable, *, source: str) -> None:
    bad, negative = [], []
    for _, weight in table.weights():
        array = weights[weight.name]
        # A sum is finite only if every term is, and costs a third of isfinite; but it may overflow.
        with np.errstate(all="ignore"):
            suspect = not np.isfinite(array.sum())
        if suspect and (count := array.size - np.count_nonzero(np.isfinite(array))):
            first = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
            bad.append(
                f"{weight.name} has {count} among {array.size}, first {array[first]} at {first}"
            )
        elif weight.role == "variance" and (array < 0).any():
            negative.append(weight.name)
    if bad:
        raise WeightError(f"{source}: NaN or Inf: {join_first(bad)}")
    if negative:
        raise WeightError(f"{source}: batch-norm variance below 0: {join_first(negative)}")
