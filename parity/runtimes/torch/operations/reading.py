"""What a reader of calls returns, the registry of readers, and what several of them use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from parity.network import kinds
from parity.network.graph import OPAQUE
from parity.network.kind import Kind
from parity.runtimes.torch.calls import Operand

Arguments = Mapping[str, Any]


@dataclass
class Operation:
    """A call as its kind has it.

    `operands` are the tensors and numbers that the kind's operator takes, in its order; `weights`
    those that have a role in it. `axes` names the axes of the first output, where the kind states
    them; `keeps_axes` is set where they are those of the first operand.
    """

    kind: str
    hyper: dict[str, Any] = field(default_factory=dict)
    operands: list[Any] = field(default_factory=list)
    weights: dict[str, Operand] = field(default_factory=dict)
    axes: str = ""
    input_axes: str = ""
    keeps_axes: bool = False


Reader = Callable[[str, Arguments], Operation | None]
"""From a function's name and its arguments to what it is; None where no kind has it."""

READERS: dict[str, Reader] = {}


def register_reader(names: str) -> Callable[[Reader], Reader]:
    """Register the reader of the functions of these names."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(names.split(), reader))
        return reader

    return register


def list_input(arguments: Arguments) -> list[Any]:
    return [arguments["input"]] if "input" in arguments else []


def find_kind(name: str, hyper: Mapping[str, Any]) -> Kind | None:
    """Return the kind of a function with these hyperparameters, those with a condition first."""
    for kind in _kinds_of(name):
        if kind.condition is None or kind.condition(hyper):
            return kind
    return None


@functools.cache
def _kinds_of(name: str) -> tuple[Kind, ...]:
    """Return the kinds that name a function, those with a condition and with fewer roles first."""
    found = [kind for kind in kinds.registry().values() if name in kind.torch_functions]
    return tuple(sorted(found, key=lambda kind: (kind.condition is None, len(kind.roles))))


_SPATIAL = {1: "T", 2: "H W", 3: "D H W"}


def channels_first(rank: int) -> str:
    """Return the axes of a tensor whose channels are axis 1."""
    if rank == 2:
        return "N C"
    return f"N C {_SPATIAL[rank - 2]}" if rank - 2 in _SPATIAL else ""


def channels_last(rank: int) -> str:
    """Return the axes of a tensor whose channels are the last axis."""
    if rank == 2:
        return "N C"
    return f"N {_SPATIAL[rank - 2]} C" if rank - 2 in _SPATIAL else ""


@functools.cache
def split_axes(axes: str) -> tuple[str, ...]:
    """Return the names of the axes, one that joins several in parentheses."""
    found: list[str] = []
    for token in axes.split():
        if found and found[-1].count("(") > found[-1].count(")"):
            found[-1] += f" {token}"
        else:
            found.append(token)
    return tuple(found)


def shape_of(operand: Any) -> tuple[int, ...]:
    return tuple(operand.tensor.shape)


def normalise_axis(value: int, rank: int) -> int:
    return int(value) % max(rank, 1)


def list_axes(value: Any, rank: int) -> list[int]:
    """Return axes from 0, in order; none given are none."""
    if value is None:
        return []
    values = value if isinstance(value, tuple | list) else (value,)
    return sorted(normalise_axis(item, rank) for item in values if item is not None)


def repeat_per_axis(value: Any, count: int) -> list[int]:
    values = list(value) if isinstance(value, tuple | list) else [value]
    values = values * count if len(values) == 1 else values
    return [int(item) for item in values]


def read_layer(
    name: str, hyper: dict[str, Any], given: Arguments, roles: str, axes: str = "",
    *, input_axes: str | None = None,
) -> Operation:  # fmt: skip
    """Return a layer of one input whose weights are the arguments in `roles`, `weight=kernel`."""
    kind = find_kind(name, hyper)
    weights = {}
    for pair in roles.split():
        argument, role = pair.split("=")
        if isinstance(given.get(argument), Operand):
            weights[role] = given[argument]
    read = axes if input_axes is None else input_axes
    found = kind.name if kind is not None else OPAQUE
    if len(split_axes(axes)) != given["input"].tensor.ndim and input_axes is None:
        axes = read = ""
    return Operation(found, hyper, [given["input"]], weights, axes, read)
