"""Inputs for a PyTorch module that states none: dtypes and axis orders under which it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from parity.errors import GraphError, InputError
from parity.network.graph import Graph
from parity.runtimes.graph_framework import Array
from parity.runtimes.torch.graph_builder import count_operations
from parity.runtimes.torch.graphs import record
from parity.runtimes.torch.model_inputs import required_inputs

MAX_TRIALS = 64
"""So many runs are tried at most."""


@dataclass(frozen=True)
class InputGuess:
    """One input as a trial gave it to the model.

    `order` is the permutation of the given shape's axes. `below` is the number of rows of the
    embedding that reads the integers, None where there is none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    order: tuple[int, ...]
    below: int | None = None
    consumer: str = ""
    """The kind of the first operation that reads it."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {**asdict(self), "shape": list(self.shape), "order": list(self.order)}


def guess_inputs(
    model: nn.Module, shapes: Sequence[Sequence[int]], *, enough: int = MAX_TRIALS
) -> list[list[InputGuess]]:
    """Return the inputs under which the model runs, those that change least first.

    `shapes` are candidates for the model's required inputs, in their order, the batch first: of
    another model, as a rule. Each is tried as floats, then as integers, in every order of its axes
    behind the batch, until `enough` run. Raises `InputError` if there are fewer shapes than
    inputs, or if none runs; the message has the model's own error for the shapes as they are.
    """
    names = required_inputs(model)
    if len(shapes) < len(names):
        raise InputError(
            f"the model takes {', '.join(names)}: expected {len(names)} shapes, found {len(shapes)}"
        )
    options = [[*_list_options(shape)] for shape in shapes[: len(names)]]
    trials = sorted(itertools.product(*options), key=lambda trial: sum(o.cost for o in trial))
    found, first_error = [], ""
    for trial in trials[:MAX_TRIALS]:
        inputs = {name: option.draw() for name, option in zip(names, trial, strict=True)}
        try:
            graph = record(model, inputs)
        except GraphError as error:
            first_error = first_error or str(error)
            continue
        found.append(
            [
                _describe(graph, port.name, port.tensor, option)
                for port, option in zip(graph.inputs, trial, strict=True)
            ]
        )
        if len(found) >= enough:
            break
    if not found:
        raise InputError(
            f"the model runs with none of {len(trials[:MAX_TRIALS])} dtypes and axis orders of "
            f"{', '.join(str(tuple(shape)) for shape in shapes)}: {first_error}"
        )
    return found


def try_image_shapes(
    model: nn.Module, shapes: Sequence[Sequence[int]], *, enough: int
) -> tuple[list[list[int]], str]:
    """Return those of `shapes`, each (C, H, W), on which the model of one input runs.

    They are tried in their order until `enough` run. The text is the model's own error on the one
    that came furthest of those that do not run: it has the right channels, and another size.
    """
    (name,) = required_inputs(model)
    found, furthest, text = [], -1, ""
    for shape in shapes:
        image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
        try:
            record(model, {name: image})
        except GraphError as error:
            cause, operations = error.__cause__, count_operations(error)
            if operations > furthest:
                furthest = operations
                text = str(error) if cause is None else f"{type(cause).__name__}: {cause}"
            continue
        found.append([*shape])
        if len(found) >= enough:
            break
    return found, text


@dataclass(frozen=True)
class _Option:
    shape: tuple[int, ...]
    order: tuple[int, ...]
    dtype: str
    cost: int

    def draw(self) -> Array:
        """Return seeded noise, or zeros for integers: they are rows of every embedding."""
        if self.dtype == "int64":
            return np.zeros(self.shape, np.int64)
        return np.random.default_rng(0).standard_normal(self.shape).astype(np.float32)


def _list_options(shape: Sequence[int]) -> Iterator[_Option]:
    """Yield each dtype and order of the axes that gives another shape."""
    rank = len(shape)
    orders = [(0, *rest) for rest in itertools.permutations(range(1, rank))]
    if rank == 3:
        # Recurrent layers of PyTorch take time first unless they are told otherwise.
        orders.append((1, 0, 2))
    seen: set[tuple[tuple[int, ...], str]] = set()
    for dtype in ("float32", "int64"):
        for index, order in enumerate(orders):
            moved = tuple(int(shape[axis]) for axis in order)
            if (moved, dtype) in seen:
                continue
            seen.add((moved, dtype))
            # Any order of the axes as floats comes before integers.
            yield _Option(moved, order, dtype, index + (100 if dtype == "int64" else 0))


def _describe(graph: Graph, name: str, tensor: str, option: _Option) -> InputGuess:
    first = next(iter(graph.consumers.get(tensor, ())), None)
    rows = None
    for node in graph.consumers.get(tensor, ()):
        if node.kind == "embedding":
            rows = int(node.hyper["in"])
            break
    return InputGuess(
        name, option.shape, option.dtype, option.order, rows, "" if first is None else first.kind
    )
