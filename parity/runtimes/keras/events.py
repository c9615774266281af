"""What a recording of a Keras model holds: its operations, with what each reads and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where a tensor that depends on weights alone comes from.

    `names` are the variables' paths. `order` is the permutation of the axes of the one weight that
    it is, as `numpy.transpose` takes it. `is_exact` is whether it has the weight's values, in
    another shape perhaps; otherwise it is computed from them.
    """

    names: tuple[str, ...]
    order: tuple[int, ...] | None
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that an operation reads: data with its id, or weights, or a constant.

    `value` is a constant's value, if it is small.
    """

    shape: tuple[int, ...]
    dtype: str
    id: str = ""
    weight: WeightSource | None = None
    value: Array | None = None


def name_operand(number: int, place: int) -> str:
    """Return the id of an operand that is a constant, or computed from weights alone."""
    return f"{number}<{place}"


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that an operation makes."""

    id: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Event:
    """An operation on data, after it ran.

    `name` is TensorFlow's own, or that of the function or the class of the layer that made it of
    several. `arguments` are an operation's attributes, or a function's arguments with an `Operand`
    in the place of each tensor. `layer` is the innermost layer that runs.
    """

    number: int
    name: str
    operands: tuple[Operand, ...]
    outputs: tuple[Output, ...]
    arguments: Mapping[str, Any]
    path: str
    layer: Any
    source: str
