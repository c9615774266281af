"""Inputs to verify an export on: ranges that the model takes, normal, extreme and tied values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.random
import onnx
from numpy.typing import NDArray
from onnx import GraphProto

from exporters.graph.edits import all_nodes, read_attribute
from exporters.graph.simplification import shapes_of

Array = NDArray[Any]

BATCH = "batch"
"""The name of the sizes that count samples."""

UNKNOWN_SIZE = 32
"""What a size that varies, other than the batch's, is drawn with if nothing is known."""

_RANGES = ((-1000, 1000), (0, 1000), (-10, 10), (0, 100), (0, 10), (0, 3), (0, 1))
"""Ranges of integers, widest first, that are tried where the graph does not say what is legal."""

_LARGEST = 200.0
"""The largest magnitude of an extreme input: past what exp and its like can take in float32."""

_SMALL = 10

_TIES = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


@dataclass(frozen=True)
class InputSpec:
    """One input of a graph: sizes (a string where one varies), and what its values may be.

    `low` and `high` bound integers, both included; floats are drawn by `kind` ("normal",
    "positive" or "unit", within 0 and 1).
    """

    name: str
    dtype: np.dtype[Any]
    sizes: tuple[int | str, ...]
    low: int = 0
    high: int = 1
    kind: str = "normal"
    words: tuple[str, ...] = ("", "a", "b", "unknown")

    @property
    def is_text(self) -> bool:
        """Return whether the values are strings, of which `words` are some."""
        return self.dtype.kind == "O"

    @property
    def is_integer(self) -> bool:
        """Return whether the values are integers or booleans."""
        return self.dtype.kind in "biu"

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape where the sizes that vary are those of `sizes`."""
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.sizes)

    @property
    def batch_axis(self) -> int | None:
        """Return the axis that counts samples, None if there is none."""
        return self.sizes.index(BATCH) if BATCH in self.sizes else None


def describe_inputs(values: Sequence[onnx.ValueInfoProto]) -> list[InputSpec]:
    """Return what a graph says about its inputs."""
    specs = []
    for value in values:
        tensor = value.type.tensor_type
        sizes: list[int | str] = []
        for axis, dim in enumerate(tensor.shape.dim):
            unnamed = f"{value.name}_{axis}" if axis else BATCH
            known = dim.dim_value if dim.HasField("dim_value") else dim.dim_param or unnamed
            sizes.append(known)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        specs.append(InputSpec(value.name, dtype, tuple(sizes)))
    return specs


def varying_sizes(specs: Sequence[InputSpec]) -> list[str]:
    """Return the names of the sizes that vary."""
    return list(dict.fromkeys(s for spec in specs for s in spec.sizes if isinstance(s, str)))


def draw_normal(specs: Sequence[InputSpec], sizes: Mapping[str, int], *, seed: int) -> list[Array]:
    """Draw floats by each input's kind, and integers from its whole range, its ends included.

    Half of the integers are small ones, since most of what goes wrong with negative or odd numbers
    shows there and not in the rounding of large ones.
    """
    rng = np.random.default_rng(seed)
    return [_draw(spec, spec.shape(sizes), rng) for spec in specs]


def add_words(specs: Sequence[InputSpec], graph: GraphProto) -> list[InputSpec]:
    """Return the inputs with the keys of the graph's look-up tables, for those that are strings."""
    keys = [
        key.decode()
        for node in all_nodes(graph)
        for key in read_attribute(node, "keys_strings", ())
    ]
    return [replace(spec, words=(*spec.words, *keys)) if spec.is_text else spec for spec in specs]


def _draw(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if spec.is_text:
        return rng.choice(np.asarray(spec.words, object), shape)
    if spec.is_integer:
        wide = rng.integers(spec.low, spec.high, shape, endpoint=True)
        low, high = max(spec.low, -_SMALL), min(spec.high, _SMALL)
        if low < high:
            small = rng.integers(low, high, shape, endpoint=True)
            wide = np.where(rng.random(shape) < 0.5, small, wide)
        flat = wide.reshape(-1)
        if flat.size >= 2:
            flat[rng.choice(flat.size, 2, replace=False)] = spec.low, spec.high
        return flat.reshape(shape).astype(spec.dtype)
    if spec.kind == "unit":
        return rng.random(shape, np.float32).astype(spec.dtype)
    array = rng.standard_normal(shape, np.float32)
    return (np.abs(array) if spec.kind == "positive" else array).astype(spec.dtype)


def draw_extremes(
    specs: Sequence[InputSpec], sizes: Mapping[str, int], *, seed: int, largest: float = _LARGEST
) -> list[Array]:
    """Draw floats whose magnitudes spread evenly, in logarithm, from a thousandth to `largest`."""
    rng = np.random.default_rng(seed)
    arrays = []
    for spec in specs:
        array = _draw(spec, spec.shape(sizes), rng)
        if not spec.is_integer and not spec.is_text:
            exponents = rng.uniform(-3.0, math.log10(largest), array.shape)
            signs = 1.0 if spec.kind != "normal" else rng.choice((-1.0, 1.0), array.shape)
            array = np.asarray(signs * 10.0**exponents).astype(spec.dtype)
        arrays.append(array)
    return arrays


def draw_ties(specs: Sequence[InputSpec], sizes: Mapping[str, int], *, seed: int) -> list[Array]:
    """Draw floats among a few multiples of a half, so that many are equal, and many are zero."""
    rng = np.random.default_rng(seed)
    arrays = []
    for spec in specs:
        array = _draw(spec, spec.shape(sizes), rng)
        if not spec.is_integer and not spec.is_text:
            array = rng.choice(_TIES, array.shape).astype(spec.dtype)
            array = np.abs(array) if spec.kind != "normal" else array
        arrays.append(array)
    return arrays


def find_domain(
    specs: Sequence[InputSpec],
    legal: Mapping[str, int],
    accepts: Callable[[Sequence[InputSpec]], bool],
    example: Sequence[Array] | None = None,
) -> list[InputSpec]:
    """Return the inputs with the widest ranges of integers that the model accepts.

    `legal` gives, by input, the size of a table that it is an index into (`gathered_sizes`).
    `accepts` runs the model on inputs drawn by the specifications and returns whether it computes
    finite numbers. Each integer input is widened alone, while the others have their narrowest.
    """
    narrow = [_narrowest(spec, example[i] if example else None) for i, spec in enumerate(specs)]
    found = list(narrow)
    for index, spec in enumerate(specs):
        if not spec.is_integer or spec.dtype == np.bool_:
            continue
        for candidate in _candidates(spec, legal.get(spec.name), narrow[index]):
            if accepts([*narrow[:index], candidate, *narrow[index + 1 :]]):
                found[index] = candidate
                break
    return found


def with_kind(specs: Sequence[InputSpec], kind: str) -> list[InputSpec]:
    """Return the inputs with floats drawn otherwise."""
    return [spec if spec.is_integer or spec.is_text else replace(spec, kind=kind) for spec in specs]


def _narrowest(spec: InputSpec, example: Array | None) -> InputSpec:
    if example is not None and example.size and spec.is_integer:
        return replace(spec, low=int(example.min()), high=int(example.max()))
    return spec


def _candidates(spec: InputSpec, legal: int | None, narrow: InputSpec) -> Iterator[InputSpec]:
    limits = np.iinfo(spec.dtype)
    ranges = _RANGES if legal is None else ((-legal, legal - 1), (0, legal - 1), *_RANGES)
    for least, most in ranges:
        low, high = max(least, limits.min), min(most, limits.max)
        # What the example shows is legal; a narrower range would leave some of it out.
        if (low, high) != (narrow.low, narrow.high) and low <= narrow.low and high >= narrow.high:
            yield replace(spec, low=low, high=high)


def gathered_sizes(graph: GraphProto, tensors: Mapping[str, Array]) -> dict[str, int]:
    """Return, by input, the smallest size of a table that it is an index into, where known.

    `tensors`: the weights that are not in the graph.
    """
    shapes = shapes_of(graph) | {name: array.shape for name, array in tensors.items()}
    origin = {value.name: value.name for value in graph.input}
    found: dict[str, int] = {}
    for node in all_nodes(graph):
        if node.op_type in _SAME_VALUES and node.input and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        elif node.op_type in ("Gather", "GatherElements") and node.input[1] in origin:
            shape = shapes.get(node.input[0], ())
            axis = read_attribute(node, "axis", 0)
            size = shape[axis] if -len(shape) <= axis < len(shape) else None
            if isinstance(size, int) and size > 0:
                name = origin[node.input[1]]
                found[name] = min(size, found.get(name, size))
    return found


_SAME_VALUES = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
