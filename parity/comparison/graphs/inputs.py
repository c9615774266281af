"""The inputs of models that are read into graphs: what they declare, what the user gives."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from parity import files
from parity.comparison.graphs.request import GraphRequest
from parity.errors import InputError, UsageError
from parity.network import inputs
from parity.network.alignment import families
from parity.network.graph import OPAQUE, Graph
from parity.network.inputs import preprocessing
from parity.network.inputs.preprocessing import Preprocessing
from parity.numerics.npz import READING_ERRORS, save_npz
from parity.processes.model_files import require_file
from parity.text import one_line, quote, suggest

Array = NDArray[Any]

_MANY, _FEW, _SAMPLED = 256, 16, 65_536
"""The least size and the most different values of an input that repeats them, and how many of its
numbers are looked at."""

DEFAULT_IMAGE = 224
DEFAULT_LENGTH = 16
"""The length of an axis that may have any, such as the tokens of a text."""


@dataclass(frozen=True)
class DeclaredInput:
    """One input as its model states it; see `parity.runtimes.graph_framework.InputSpec`."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    origin: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeclaredInput:
        """Return the input of a child's answer."""
        shape = None if data["shape"] is None else tuple(data["shape"])
        return cls(data["name"], shape, data["dtype"], data["origin"])


class ChosenArray(NamedTuple):
    """The array of one input, where it comes from, and whether it was made of a photograph."""

    array: Array
    source: str
    is_photograph: bool = False


@dataclass(frozen=True)
class InputArrays:
    """The arrays that one model is given, by name, in its own axes."""

    arrays: Mapping[str, Array]
    source: str
    """Where they come from, for the report."""
    has_photograph: bool = False
    """Whether one of them was made of a photograph, which is preprocessed."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the names, shapes and values."""
        checksum = hashlib.sha256()
        for name, array in self.arrays.items():
            checksum.update(repr((name, array.shape, array.dtype.str)).encode())
            checksum.update(np.ascontiguousarray(array).data)
        return checksum.hexdigest()

    @cached_property
    def repeats_values(self) -> bool:
        """Whether all floating inputs have a few values many times: zeros, a checkerboard."""
        floats = [array for array in self.arrays.values() if array.dtype.kind == "f"]
        # An odd stride meets all channels of an axis whose length is a power of two.
        samples = [array.reshape(-1)[:: array.size // _SAMPLED | 1] for array in floats]
        return any(array.size >= _MANY for array in floats) and all(
            len(np.unique(sample)) <= _FEW for sample in samples
        )

    def save(self, path: Path) -> Path:
        """Write the arrays to an `.npz` file and return it."""
        save_npz(path, self.arrays)
        return path


def choose_inputs(
    request: GraphRequest,
    declared: Sequence[DeclaredInput],
    example: Mapping[str, Array] | None,
    *,
    seed: int,
    others: Sequence[Sequence[DeclaredInput]] = (),
    chosen: Sequence[InputArrays] = (),
    preprocess: str | Preprocessing | None = None,
) -> InputArrays:
    """Return the inputs of one model.

    In this order: what the user gives by name, the example that the model's callable returned, what
    the model declares, what one of the `others` declares at the same place. An axis that may have
    any length has that of the inputs `chosen` for other models. `preprocess` is what a photograph
    is given, by default what the request names. Raises `UsageError`
    with the option to type where nothing gives a shape, `InputError` for what does not fit.
    """
    for name in (*request.inputs, *request.shapes):
        known = [spec.name for each in (declared, *others) for spec in each]
        if name not in known:
            hint = suggest(name, known, otherwise=f"there are: {', '.join(dict.fromkeys(known))}")
            raise UsageError(f"no model has an input called {quote(name)}{hint}")
    prepared = preprocess or request.preprocess or preprocessing.DEFAULT
    found = {
        spec.name: _choose_array(request, spec, position, example, others, chosen, seed, prepared)
        for position, spec in enumerate(declared)
    }
    return InputArrays(
        {name: each.array for name, each in found.items()},
        ", ".join(dict.fromkeys(each.source for each in found.values())),
        any(each.is_photograph for each in found.values()),
    )


def _choose_array(
    request: GraphRequest,
    spec: DeclaredInput,
    position: int,
    example: Mapping[str, Array] | None,
    others: Sequence[Sequence[DeclaredInput]],
    chosen: Sequence[InputArrays],
    seed: int,
    preprocess: str | Preprocessing,
) -> ChosenArray:
    if spec.name in request.inputs:
        return ChosenArray(*_load_array(spec, request.inputs[spec.name]))
    shape, dtype = spec.shape, spec.dtype
    given = request.shapes.get(spec.name)
    if given is None and example is not None and spec.name in example:
        array = example[spec.name]
        is_float = np.asarray(array).dtype.kind == "f"
        is_placeholder = spec.name in find_placeholders(example)
        if not is_float or (request.input is None and not is_placeholder):
            if is_float and is_image(array.shape):
                _require_image_size(request, array.shape)
            return ChosenArray(array, "the example")
        shape, dtype = array.shape, dtype or str(array.dtype)
    if given is not None:
        shape = given
    if shape is None:
        other = _find_declared(position, others)
        shape, dtype = (other.shape, dtype or other.dtype) if other is not None else (None, dtype)
    if shape is None:
        raise UsageError(
            f"nothing states the shape of the input '{spec.name}': give --shape "
            f"{spec.name}=1x3x224x224, or the array with --input {spec.name}=FILE.npy"
        )
    if None in shape and given is None:
        shape = _fill_from_others(shape, position, chosen)
    return _make_array(request, shape, dtype or "float32", position, seed, preprocess)


def find_placeholders(example: Mapping[str, Array]) -> frozenset[str]:
    """Return the inputs of an example whose numbers say nothing, as those of `torch.zeros`.

    Where every sample and position is alike, neither a mask nor an axis, a kernel's order or a
    padding shows. If one input varies they are meant; of several only zeros are placeholders, since
    a mask is one everywhere, too.
    """
    varying = [a for a in map(np.asarray, example.values()) if a.size and (a != a.flat[0]).any()]
    floats = {
        name: array
        for name, array in ((name, np.asarray(each)) for name, each in example.items())
        if array.dtype.kind == "f" and array.size > 1
    }
    if varying or not floats:
        return frozenset()
    return frozenset(n for n, array in floats.items() if len(example) == 1 or not array.any())


def _fill_from_others(
    shape: Sequence[int | None], position: int, chosen: Sequence[InputArrays]
) -> tuple[int | None, ...]:
    """Return a shape whose open axes have the lengths of another model's input at the same place.

    Lengths that both have are taken out first, wherever they stand: axes may be in another order.
    """
    for inputs_of_other in chosen:
        arrays = list(inputs_of_other.arrays.values())
        if position >= len(arrays) or arrays[position].ndim != len(shape):
            continue
        lengths = list(arrays[position].shape)
        for size in shape:
            if size is not None and size in lengths:
                # Channels are behind the batch, and last where they are not second.
                lengths.remove(size)
        if len(lengths) == sum(size is None for size in shape):
            left = iter(lengths)
            return tuple(next(left) if size is None else size for size in shape)
    return tuple(shape)


def _find_declared(
    position: int, others: Sequence[Sequence[DeclaredInput]]
) -> DeclaredInput | None:
    for declared in others:
        if position < len(declared) and declared[position].shape is not None:
            return declared[position]
    return None


def _load_array(spec: DeclaredInput, value: Any) -> tuple[Array, str]:
    """Return the user's array; an integer input takes integers as they are."""
    if isinstance(value, np.ndarray):
        _require_fit(spec, value, "the array")
        return value, "array"
    path = Path(value)
    mapped = map_npy(path)
    _require_fit(spec, mapped, str(path))
    return np.array(mapped, order="K"), path.name


def map_npy(path: Path) -> Array:
    """Return the array of an `.npy` file, mapped: what its header claims takes no memory.

    Raises `UsageError` if there is no such file, and `InputError` if it holds no array.
    """
    require_file(str(path))
    with files.open_regular(path) as file:
        if file.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
            raise InputError(f"{path}: expected one array, an .npy file, found another format")
    try:
        return npy.open_memmap(path, mode="r")
    except (OSError, *READING_ERRORS) as error:
        text = one_line(str(error), longest=160) or type(error).__name__
        reason = "it holds objects" if "Python objects" in text else text
        raise InputError(f"{path}: cannot be read as an .npy file: {reason}") from None


def _require_fit(spec: DeclaredInput, array: Array, label: str) -> None:
    """Raise `InputError` unless an array has finite numbers of the input's shape and kind."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"{label}: the input '{spec.name}' takes numbers, found {array.dtype}")
    if spec.dtype and (np.dtype(spec.dtype).kind == "f") != (array.dtype.kind == "f"):
        raise InputError(
            f"{label}: the input '{spec.name}' takes {spec.dtype}, found {array.dtype}"
        )
    if spec.shape is not None and not _fits(spec.shape, array.shape, spec.origin):
        raise InputError(
            f"{label}: the input '{spec.name}' takes {format_shape(spec.shape)}, found "
            f"{format_shape(array.shape)}"
        )
    # Last, since it alone reads the numbers.
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{label}: the input '{spec.name}' has NaN or infinity")


def _fits(declared: Sequence[int | None], found: Sequence[int], origin: str) -> bool:
    """Return whether an array of the shape `found` can be an input; an example shows any batch."""
    if len(declared) != len(found):
        return False
    fixed = 1 if origin == "example" else 0
    return all(a in (None, b) for a, b in zip(declared[fixed:], found[fixed:], strict=True))


def format_shape(shape: Sequence[int | None]) -> str:
    """Return `?x3x224x224`."""
    return "x".join("?" if size is None else str(size) for size in shape)


def _make_array(
    request: GraphRequest,
    shape: Sequence[int | None],
    dtype: str,
    position: int,
    seed: int,
    preprocess: str | Preprocessing,
) -> ChosenArray:
    """Return a photograph for an image, seeded noise for other numbers, zeros and ones else."""
    if np.dtype(dtype).kind == "f" and is_image(shape) and position == 0:
        return _load_image(request, shape, seed, preprocess)
    sizes = fill_shape(shape, batch=request.batch)
    rng = np.random.default_rng([seed, position])
    if np.dtype(dtype).kind == "f":
        return ChosenArray(rng.standard_normal(sizes).astype(dtype), f"random, seed {seed}")
    # The ids that the model takes are known once it has been read: 0 and 1 are always among them.
    return ChosenArray(rng.integers(0, 2, sizes).astype(dtype), f"random, seed {seed}")


def is_image(shape: Sequence[int | None]) -> bool:
    """Return whether an input looks like a batch of images: four axes, 1 or 3 channels."""
    return len(shape) == 4 and (shape[1] in (1, 3) or shape[3] in (1, 3))


def _find_sizes(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Return the height and the width of an image's shape, channels first or last."""
    return tuple(shape[2:4] if shape[1] in (1, 3) else shape[1:3])


def _require_image_size(request: GraphRequest, shape: Sequence[int | None]) -> None:
    """Raise `UsageError` if the user asks for another size than that of a model's input."""
    size = _find_sizes(shape)
    if request.image_size not in (None, size):
        raise UsageError(
            f"--image-size: the model's input is {size[0]}x{size[1]} pixels; give the size to the "
            "model that takes it, such as resnet50,image_size=64, or its input's --shape"
        )


def _load_image(
    request: GraphRequest,
    shape: Sequence[int | None],
    seed: int,
    preprocess: str | Preprocessing,
) -> ChosenArray:
    first = shape[1] in (1, 3)
    channels = shape[1] if first else shape[3]
    given = request.image_size or (DEFAULT_IMAGE, DEFAULT_IMAGE)
    height, width = (
        size if size is not None else default
        for size, default in zip(_find_sizes(shape), given, strict=True)
    )
    _require_image_size(request, (1, channels, height, width))
    batch = request.batch if shape[0] is None or request.batch else shape[0]
    assert channels is not None
    source = inputs.load(
        request.input,
        (channels, height, width),
        batch=batch,
        seed=seed,
        preprocess=preprocess,
    )
    array = source.array if first else np.ascontiguousarray(source.array.transpose(0, 2, 3, 1))
    return ChosenArray(
        array, source.source or source.source_type, inputs.takes_preprocessing(request.input)
    )


def fill_shape(shape: Sequence[int | None], *, batch: int | None) -> tuple[int, ...]:
    """Return a shape without open axes: the batch is 1 unless it is given."""
    sizes = [DEFAULT_LENGTH if size is None else size for size in shape]
    if sizes and shape[0] is None:
        sizes[0] = batch or 1
    if math.prod(sizes) > 2**28:
        raise InputError(f"an input of {format_shape(sizes)} is too large")
    return tuple(sizes)


def redraw_integers(
    arrays: Mapping[str, Array], bounds: Mapping[str, int], *, seed: int
) -> dict[str, Array]:
    """Return the inputs with integers drawn anew below the bound that the model was found to have.

    `bounds` has the number of ids by input: the rows of the embedding that reads it.
    """
    result = dict(arrays)
    for position, (name, bound) in enumerate(bounds.items()):
        rng = np.random.default_rng([seed, 7, position])
        old = arrays[name]
        result[name] = rng.integers(0, bound, old.shape).astype(old.dtype)
    return result


def find_id_bounds(graph: Graph) -> dict[str, int]:
    """Return, for each integer input that an embedding reads, the number of ids that it takes."""
    ports = {port.tensor: port.name for port in graph.inputs}
    found: dict[str, int] = {}
    reach = dict(ports)
    for node in graph.nodes:
        sources = [reach[tensor] for tensor in node.inputs if tensor in reach]
        if node.kind == "embedding" and sources and node.parameters:
            rows = node.parameters[0].shape[0]
            found[sources[0]] = min(rows, found.get(sources[0], rows))
        elif (node.kind == OPAQUE or families.is_pass_through(node)) and sources:
            for tensor in node.outputs:
                if graph.tensors[tensor].dtype.startswith("int"):
                    reach[tensor] = sources[0]
    return found
