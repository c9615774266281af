"""The variables of a Keras model, Keras's and TensorFlow's own, by path."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import keras


def name_variables(model: Any) -> dict[str, Any]:
    """Return the variables of a model by path: Keras's, and TensorFlow's own in its layers.

    A path that two variables share is followed by `:2` for the second.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name, variable in _iterate_variables(model):
        if id(variable) in seen:
            continue
        seen.add(id(variable))
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name}:{number}"
        found[unique] = variable
    return found


def _iterate_variables(model: Any) -> Iterator[tuple[str, Any]]:
    for variable in model.variables:
        if variable._value is not None:
            yield variable.path, variable
    tf = importlib.import_module("tensorflow")
    for layer in model._flatten_layers():
        for attribute, value in list(vars(layer).items()):
            if not _may_hold_variables(type(value)):
                continue
            members: Iterator[Any] = iter(())
            if isinstance(value, tf.Variable):
                members = iter((value,))
            elif isinstance(value, tf.Module) and not isinstance(value, keras.layers.Layer):
                members = iter(value.variables)
            elif isinstance(value, list | tuple) and value and isinstance(value[0], tf.Variable):
                members = (item for item in value if isinstance(item, tf.Variable))
            for number, variable in enumerate(members):
                name = attribute if number == 0 else f"{attribute}_{number}"
                yield f"{layer.path or layer.name}/{name}", variable


_CLASSES: dict[type, bool] = {}


def _may_hold_variables(cls: type) -> bool:
    """Return whether a value of a class may be, or have, variables of TensorFlow.

    Each run asks it of every attribute of every layer, and TensorFlow's own check is slow.
    """
    if cls not in _CLASSES:
        tf = importlib.import_module("tensorflow")
        _CLASSES[cls] = issubclass(cls, (tf.Variable, tf.Module, list, tuple))
    return _CLASSES[cls]


def handle_of(variable: Any) -> Any:
    """Return the resource handle of a variable of Keras or of TensorFlow."""
    return raw_variable(variable).handle


def dtype_of(variable: Any) -> str:
    """Return the dtype of a variable, by NumPy's name."""
    return str(raw_variable(variable).dtype.name)


def raw_variable(variable: Any) -> Any:
    """Return TensorFlow's own variable."""
    return variable._value if isinstance(variable, keras.Variable) else variable
