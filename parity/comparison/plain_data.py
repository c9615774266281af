"""Data classes as JSON data, and back by the types of their fields."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np


def encode(value: Any) -> Any:
    """Return data classes, mappings with text keys, sequences, enums and numbers as JSON data.

    A field that is not compared is left out. JSON has no infinity; Python's reader and writer do.
    Raises TypeError for anything else.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value) if each.init and each.compare]
        return {name: encode(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a mapping without text keys is no plain data")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(encode(item) for item in value)
    if isinstance(value, np.generic):
        return encode(value.item())
    raise TypeError(f"{type(value).__name__} is no plain data")


def decode(hint: Any, data: Any) -> Any:
    """Return the value of type `hint` that `encode` gave as `data`.

    `hint` is made of data classes, enums, `tuple`, `list`, `frozenset`, `Mapping`, unions with
    None, and plain types. Raises TypeError for another one, and what a data class raises.
    """
    return _decoder(hint)(data)


@functools.cache
def _decoder(hint: Any) -> Callable[[Any], Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint in (bool, int, float, str, NoneType, object):
        return _identity
    if origin in (Union, UnionType):
        others = [each for each in arguments if each is not NoneType]
        if len(others) == 1:
            return functools.partial(_decode_optional, _decoder(others[0]))
    elif origin in (tuple, list, frozenset) or (
        isinstance(origin, type) and issubclass(origin, Mapping)
    ):
        return _container_decoder(origin, arguments)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        fields = [each for each in dataclasses.fields(hint) if each.init and each.compare]
        parts = {each.name: _decoder(hints[each.name]) for each in fields}
        return functools.partial(_decode_fields, hint, parts)
    raise TypeError(f"{hint} is no type of plain data")


def _container_decoder(origin: Any, arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        return functools.partial(_decode_places, tuple(map(_decoder, arguments)))
    if origin in (tuple, list, frozenset):
        return functools.partial(_decode_items, origin, _decoder(arguments[0]))
    return functools.partial(_decode_mapping, _decoder(arguments[1]))


def _identity(data: Any) -> Any:
    return data


def _decode_optional(part: Callable[[Any], Any], data: Any) -> Any:
    return None if data is None else part(data)


def _decode_places(parts: tuple[Callable[[Any], Any], ...], data: Any) -> Any:
    return tuple(part(item) for part, item in zip(parts, data, strict=True))


def _decode_items(origin: Any, part: Callable[[Any], Any], data: Any) -> Any:
    return origin(map(part, data))


def _decode_mapping(part: Callable[[Any], Any], data: Any) -> Any:
    return {key: part(item) for key, item in data.items()}


def _decode_fields(
    made: Callable[..., Any], parts: Mapping[str, Callable[[Any], Any]], data: Mapping[str, Any]
) -> Any:
    if data.keys() != parts.keys():
        raise TypeError(f"expected the fields {', '.join(parts)}, found {', '.join(data)}")
    return made(**{name: part(data[name]) for name, part in parts.items()})
