"""Nested structures of tensors: dictionaries, lists, tuples and data classes, with their names.

Keras and TensorFlow flatten a dictionary by its sorted keys. Here the order is the one in which it
was written, which is the order of a graph's inputs and outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def is_container(value: Any) -> bool:
    """Return whether a value holds others: a dictionary, list, tuple or data class."""
    return isinstance(value, (Mapping, list, tuple)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def children(value: Any) -> list[tuple[str, Any]]:
    """Return what a container holds, with its keys, field names or positions."""
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    if dataclasses.is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    fields = getattr(value, "_fields", None)  # of a named tuple
    keys = fields or [str(index) for index in range(len(value))]
    return list(zip(keys, value, strict=True))


def flatten(value: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """Return the leaves in the order in which they were written, without None."""
    return [leaf for _, leaf in named_leaves(value, is_leaf)]


def named_leaves(
    value: Any, is_leaf: Callable[[Any], bool] | None = None, name: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each leaf with the keys that lead to it, without None."""
    if value is None:
        return
    if is_container(value) and not (is_leaf and is_leaf(value)):
        for key, item in children(value):
            yield from named_leaves(item, is_leaf, (*name, key))
    else:
        yield name, value


def map_leaves(
    change: Callable[[Any], Any], value: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """Return a copy with `change` applied to each leaf, in written order; None stays."""
    if value is None:
        return None
    if not is_container(value) or (is_leaf and is_leaf(value)):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_leaves(change, item, is_leaf) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {key: map_leaves(change, item, is_leaf) for key, item in children(value)}
        return dataclasses.replace(value, **changed)
    items = [map_leaves(change, item, is_leaf) for item in value]
    if isinstance(value, tuple):
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return items


def same_structure(expected: Any, found: Any) -> bool:
    """Return whether two structures have the same containers and keys, in any order of keys."""
    if not is_container(expected) or expected is None:
        return not is_container(found)
    if not is_container(found) or isinstance(expected, Mapping) != isinstance(found, Mapping):
        return False
    left, right = dict(children(expected)), dict(children(found))
    return left.keys() == right.keys() and all(
        same_structure(item, right[key]) for key, item in left.items()
    )


def join(keys: tuple[str, ...]) -> str:
    """Return the name of a leaf: its keys, joined."""
    return "_".join(keys)
