"""The outputs of a live model as a flat list, and its inputs as its call takes them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


def flatten_outputs(value: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """Yield each tensor of a tuple, dict or data class with its name: `output[0]`, `output[key]`.

    What is None is left out.
    """
    if value is None:
        return
    if dataclasses.is_dataclass(value) and not isinstance(value, Mapping):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten_outputs(item, f"{name}[{key}]")
    elif isinstance(value, tuple | list):
        fields = getattr(value, "_fields", range(len(value)))
        for key, item in zip(fields, value, strict=True):
            yield from flatten_outputs(item, f"{name}[{key}]")
    else:
        yield name, value


def bind_inputs(
    call: Callable[..., Any], inputs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the positional and the named arguments of a call with these inputs.

    They are named where the callable has arguments of all of their names, and else in their order.
    """
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    if set(inputs) <= set(parameters):
        return (), dict(inputs)
    return tuple(inputs.values()), {}
