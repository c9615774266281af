"""The weights of Keras models: found by a table's row, read, and written bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.errors import TableError, WeightError
from parity.network import kinds
from parity.network.table import LayerTable, Row, Weight, canonical_name, parse_torch_point
from parity.network.trained_layout import WeightMap, number_weights
from parity.runtimes.keras import grouped_convolutions
from parity.runtimes.keras import layers as keras_layers
from parity.runtimes.keras.variables import name_variables

Array = NDArray[Any]


def find_weights(model: keras.Model, row: Row) -> Iterator[Weight]:
    """Yield the weights of a row's layer, in canonical shapes.

    They have no name where the row's tensor is no PyTorch module's own.
    """
    if not row.keras or (row.torch and parse_torch_point(row.torch).is_input):
        return
    variables = grouped_convolutions.variables(keras_layers.find_layer(model, row.keras))
    for role in kinds.get(row.kind).roles:
        variable = variables.get(role.keras)
        if variable is not None:
            shape = role.from_keras(np.asarray(variable)).shape
            yield Weight(role.name, canonical_name(row, role.name), role.keras, tuple(shape))


def read_weights(model: keras.Model, rows: Iterable[Row]) -> dict[str, Array]:
    """Return the model's weights by canonical name, in PyTorch's layout, as float32."""
    return {
        weight.name: np.ascontiguousarray(
            kinds.get(row.kind).role(weight.role).from_keras(np.asarray(variable)),
            dtype=np.float32,
        )
        for row, weight, variable in _variables(model, rows)
    }


def write_weights(model: keras.Model, rows: Iterable[Row], values: Mapping[str, Array]) -> None:
    """Copy canonical weights into the variables that the table pairs them with.

    Raises `TableError` for another shape, and `WeightError` if the variable then has other bits.
    """
    for row, weight, variable in _variables(model, rows):
        value = np.asarray(values[weight.name])
        role = kinds.get(row.kind).role(weight.role)
        value = role.to_keras(value, shape=tuple(variable.shape))
        if tuple(variable.shape) != value.shape:
            raise TableError(
                f"{row.name}/{weight.role}: Keras's '{row.keras}' has the shape "
                f"{tuple(variable.shape)}, the table says {value.shape}"
            )
        value = np.ascontiguousarray(value)
        variable.assign(value)
        actual = np.asarray(variable)
        bits = f"u{value.itemsize}"
        if actual.dtype == value.dtype and not np.array_equal(actual.view(bits), value.view(bits)):
            raise WeightError(f"{weight.name}: Keras holds other bits than it was given")


def map_weights(model: keras.Model, table: LayerTable) -> WeightMap:
    """Return which canonical numbers of a table's weights each variable of the model holds."""
    found = list(_variables(model, table.rows))
    shapes = {weight.name: weight.shape for _, weight, _ in found}
    numbers = number_weights(shapes)
    names = {id(variable): name for name, variable in name_variables(model).items()}
    held: dict[str, Array] = {}
    for row, weight, variable in found:
        role = kinds.get(row.kind).role(weight.role)
        value = role.to_keras(numbers[weight.name], shape=tuple(variable.shape))
        is_group = isinstance(variable, grouped_convolutions.GroupVariable)
        parts = variable.variables if is_group else [variable]
        for part, own in zip(np.split(value, len(parts), axis=-1), parts, strict=True):
            held[names[id(own)]] = part
    return WeightMap.from_numbers(shapes, held, source="the Keras model")


def _variables(model: keras.Model, rows: Iterable[Row]) -> Iterator[tuple[Row, Weight, Any]]:
    """Yield each weight of the rows with its variable; raises `TableError` for a missing one."""
    for row in rows:
        if not (row.weights and row.keras):
            continue
        layer = keras_layers.find_layer(model, row.keras)
        variables = grouped_convolutions.variables(layer)
        for weight in row.weights:
            if weight.keras not in variables:
                raise TableError(
                    f"{row.name}/{weight.role}: the Keras layer '{row.keras}' has no "
                    f"'{weight.keras}'; it has {', '.join(variables) or 'no weights'}"
                )
            yield row, weight, variables[weight.keras]
