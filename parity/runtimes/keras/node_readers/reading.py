"""The result of reading an operation of Keras, the registry of readers, and their helpers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.network import kinds
from parity.runtimes.keras.events import Event, Operand

SPATIAL = {1: "T", 2: "H W", 3: "D H W"}


@dataclass
class NodeReading:
    """The kind of an operation, with its hyperparameters and the roles and axes of its tensors.

    `roles` are those of the weights, by the operand's position; `roles_by_name` those of a layer's
    own variables. `weight_axes` is the order of a weight's axes by role, as the operation reads it;
    a layer reads its variables as they are. `axes` names the axes of the first output,
    and `input_axes` those of the first data operand, where the kind states them; with `keeps_axes`
    the output has the operand's. `setting_inputs` are the positions of the operands that the
    hyperparameters state already.
    """

    kind: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    roles: Mapping[int, str] = field(default_factory=dict)
    weight_axes: Mapping[str, str] = field(default_factory=dict)
    roles_by_name: Mapping[str, str] = field(default_factory=dict)
    axes: str = ""
    input_axes: str = ""
    keeps_axes: bool = False
    setting_inputs: frozenset[int] = frozenset()


Reader = Callable[[Event], "NodeReading | None"]

READERS: dict[str, Reader] = {}


def register_reader(*names: str) -> Callable[[Reader], Reader]:
    """Return a decorator that registers the reader of the operations with these names."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(names, reader))
        return reader

    return register


def channels_last(rank: int) -> str:
    """Return the axes `N C`, `N T C`, `N H W C` or `N D H W C`; empty for another rank."""
    if rank == 2:
        return "N C"
    return f"N {SPATIAL[rank - 2]} C" if rank - 2 in SPATIAL else ""


def channels_first(rank: int) -> str:
    """Return the axes `N C`, `N C T`, `N C H W` or `N C D H W`; empty for another rank."""
    return f"N C {SPATIAL[rank - 2]}" if rank - 2 in SPATIAL else channels_last(rank)


def image_axes(rank: int, *, last: bool) -> str:
    """Return `channels_last(rank)` if `last`, else `channels_first(rank)`."""
    return channels_last(rank) if last else channels_first(rank)


def decode_text(value: Any) -> str:
    """Return a setting as text; TensorFlow's attributes are bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def spatial_values(value: Any, count: int) -> list[int]:
    """Return `count` integers, one a spatial axis; one number is repeated, None gives ones."""
    if value is None:
        return [1] * count
    if isinstance(value, Operand):
        value = value.value
    values = [int(item) for item in np.atleast_1d(np.asarray(value))]
    return values * count if len(values) == 1 else values


def has_channels_last(event: Event) -> bool:
    """Return whether the channels of an operation's images are the last axis."""
    stated = event.arguments.get("data_format")
    if stated is None:
        layer = event.layer
        stated = getattr(layer, "data_format", None) or "channels_last"
    return decode_text(stated) not in ("channels_first", "NCHW", "NCDHW", "NCW")


def first_data(event: Event) -> Operand:
    """Return the first operand that is data."""
    return next(operand for operand in event.operands if operand.id)


def read_integers(event: Event, index: int) -> list[int] | None:
    """Return the integers of a small constant operand, or None."""
    value = event.operands[index].value if index < len(event.operands) else None
    return None if value is None else [int(item) for item in value.reshape(-1)]


def sort_axes(values: Sequence[int], rank: int) -> list[int]:
    """Return axes in rising order, counted from the front."""
    return sorted(axis % max(rank, 1) for axis in values)


def find_weight(event: Event, start: int = 0) -> int | None:
    """Return the position of the first operand from `start` on that is a weight, or None."""
    return next(
        (i for i in range(start, len(event.operands)) if event.operands[i].weight is not None), None
    )


def read_layer(
    event: Event,
    kind: str,
    hyperparameters: dict[str, Any],
    axes: str,
    extra_roles: Mapping[str, str] | None = None,
) -> NodeReading:
    """Return the reading of a layer of `kind`, with its variables' roles by their paths.

    A variable's role follows from its name, by the kind's table or by `extra_roles`; `axes` are
    those of the input and of the output.
    """
    known = {role.keras: role.name for role in kinds.get(kind).roles if role.keras}
    known |= extra_roles or {}
    roles = {
        path: known[name] for path in list_weights(event) if (name := variable_name(path)) in known
    }
    return NodeReading(kind, hyperparameters, roles_by_name=roles, axes=axes, input_axes=axes)


def list_weights(event: Event) -> list[str]:
    """Return the names of the weights that an event reads, each once."""
    sources = [operand.weight for operand in event.operands if operand.weight is not None]
    return list(dict.fromkeys(name for source in sources for name in source.names))


def variable_name(path: str) -> str:
    """Return the last part of a variable's path."""
    return path.partition(":")[0].rpartition("/")[2]
