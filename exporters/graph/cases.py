"""The cases that a file is verified on: which inputs, at which N and other sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.graph.framework_runs import REPLICATES, Case, perturb, take_rows
from exporters.graph.samples import (
    BATCH,
    UNKNOWN_SIZE,
    InputSpec,
    draw_extremes,
    draw_normal,
    draw_ties,
    varying_sizes,
)

Array = NDArray[Any]

_NUMBERS = 4096


_MOST_ROWS = 128


_MOST_WORK = 100_000_000
"""Numbers that an additional case tries for a small input; its most rows; weights times rows."""


class Cases:
    """Makes the cases of one graph's inputs.

    `rows` is the largest N, `extra` that of the additional cases; `sizes` are the values of the
    sizes that vary beside it; `largest` is the largest magnitude of an extreme input.
    """

    def __init__(
        self,
        specs: Sequence[InputSpec],
        batches: Sequence[int],
        sizes: Mapping[str, Sequence[int]],
        largest: float,
    ) -> None:
        self.specs = list(specs)
        self.has_batch = BATCH in varying_sizes(specs)
        self.batches = tuple(sorted(batches)) if self.has_batch else (1,)
        self.rows = max(self.batches)
        self.fewest_rows = min(2, self.rows)
        self.extra = self.fewest_rows
        self.sizes = {
            name: tuple(sizes.get(name, (UNKNOWN_SIZE,)))
            for name in varying_sizes(specs)
            if name != BATCH
        }
        self.axes = tuple(spec.batch_axis for spec in specs)
        self.largest = largest

    def sample(self, sample: Sequence[Array]) -> Case:
        """Return the case of a caller's sample. Raises ExportError."""
        return self.make("sample", self._complete(sample), self.batches)

    def normal(self, specs: Sequence[InputSpec], seed: int) -> Case:
        """Return the case of usual inputs, drawn by other specifications than its own."""
        arrays = draw_normal(specs, self.draw_sizes(self.rows), seed=seed)
        return self.make("normal", arrays, self.batches)

    def of_size(self, name: str, value: int) -> Case:
        """Return the case of another value of a size."""
        sizes = self.draw_sizes(self.fewest_rows, **{name: value})
        arrays = draw_normal(self.specs, sizes, seed=3 + value)
        return self.make(f"{name}={value}", arrays, (self.fewest_rows,))

    def additional(self) -> dict[str, Case]:
        """Return the additional cases by label, of `extra` rows: "more", "extreme" and "ties"."""
        cases: dict[str, Case] = {}
        sizes = self.draw_sizes(self.extra)
        if self.extra > self.rows:
            # A few numbers miss what is rarely wrong.
            cases["more"] = self.make("more", draw_normal(self.specs, sizes, seed=4), (self.extra,))
        if not all(spec.is_integer for spec in self.specs):
            cases["extreme"] = self.extreme(self.largest)
            # The order of equal numbers and the sign of 0 count.
            ties = draw_ties(self.specs, sizes, seed=6)
            cases["ties"] = self.make("ties", ties, (self.extra,), copy=False)
        return cases

    def extreme(self, largest: float) -> Case:
        """Return a case of floats up to a magnitude, of `extra` rows."""
        arrays = draw_extremes(self.specs, self.draw_sizes(self.extra), seed=5, largest=largest)
        return replace(self.make("extreme", arrays, (self.extra,)), largest=largest)

    def set_extra_rows(self, weights: int, fewest: int) -> None:
        """Set the N of the additional cases: more for a small input, to try more numbers.

        One sample of a large input tries enough, the fewest rows. `weights`: how many numbers the
        model's weights have.
        """
        if not self.has_batch:
            self.extra = 1
            return
        numbers = max(self._count_numbers(), 1)
        wanted = min(_MOST_ROWS, _NUMBERS // numbers, _MOST_WORK // max(weights, 1))
        self.extra = max(fewest if self.is_large() else self.fewest_rows, wanted)

    def is_large(self) -> bool:
        """Return whether one sample of the inputs tries enough numbers."""
        return self._count_numbers() >= _NUMBERS

    def _count_numbers(self) -> int:
        """Return how many numbers the inputs of one sample have."""
        return sum(math.prod(spec.shape(self.draw_sizes(1))) for spec in self.specs)

    def draw_sizes(self, batch: int, **sizes: int) -> dict[str, int]:
        """Return a value of every size that varies: N, those given, and the first of the others."""
        return {name: values[0] for name, values in self.sizes.items()} | {BATCH: batch} | sizes

    def make(
        self, label: str, arrays: Sequence[Array], batches: Sequence[int], *, copy: bool = True
    ) -> Case:
        rows = max(batches)
        arrays = [np.array(array) for array in arrays]
        if copy and rows > 1:
            for index, (array, axis) in enumerate(zip(arrays, self.axes, strict=True)):
                if axis is not None:
                    first = take_rows(array, axis, slice(0, 1))
                    last = take_rows(array, axis, slice(rows - 1, rows))
                    last[...] = perturb(first, seed=REPLICATES, index=index)
        return Case(label, arrays, self.axes, rows, tuple(batches), inputs_too=copy)

    def _complete(self, sample: Sequence[Array]) -> list[Array]:
        """Return the sample with as many rows as the largest N, made of its own where it is short.

        A row is repeated with its numbers a little smaller, or its integers in another order.
        """
        if isinstance(sample, np.ndarray | str) or not isinstance(sample, Sequence):
            raise ExportError(
                "sample: expected a list of one array for each input, found"
                f" {type(sample).__name__}"
            )
        if len(sample) != len(self.specs):
            raise ExportError(
                f"sample: expected {len(self.specs)} arrays, one for each input"
                f" ({', '.join(spec.name for spec in self.specs)}), found {len(sample)}"
            )
        arrays = []
        for spec, given in zip(self.specs, sample, strict=True):
            array, axis = np.asarray(given), spec.batch_axis
            if array.ndim != len(spec.sizes):
                raise ExportError(
                    f"sample of {spec.name!r}: expected {len(spec.sizes)} axes"
                    f" {list(spec.sizes)}, found the shape {list(array.shape)}"
                )
            array = array.astype(spec.dtype, copy=False)
            while axis is not None and array.shape[axis] < self.rows:
                if not array.shape[axis]:
                    raise ExportError(f"sample of {spec.name!r}: it has no row")
                row = take_rows(array, axis, slice(0, 1))
                if spec.is_integer:
                    row = np.roll(row.reshape(-1), array.shape[axis]).reshape(row.shape)
                else:
                    row = row * row.dtype.type(1.0 - 0.125 * array.shape[axis])
                array = np.concatenate([array, row.astype(spec.dtype)], axis)
            if axis is not None:
                array = take_rows(array, axis, slice(0, self.rows))
            arrays.append(array)
        return arrays
