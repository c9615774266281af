"""Repairs of Keras models: the places of their constructors, weight files, settings of layers."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import keras

from parity.errors import UsageError
from parity.runtimes.constructors import Place, find_construction
from parity.runtimes.keras import doors, source_lines
from parity.runtimes.repair import RepairOperations

_PLACES: weakref.WeakKeyDictionary[Any, Place] = weakref.WeakKeyDictionary()
_LIBRARY = (
    str(Path(str(keras.__file__)).parent),
    str(Path(__file__).parent),
    find_construction.__code__.co_filename,
)


class KerasRepairs(RepairOperations):
    """`RepairOperations` for the one model of a child."""

    model: Any

    def trace_constructors(self) -> None:
        source_lines.keep_lines()
        operation = doors.require_doors().operation
        initialise = operation.__init__
        if hasattr(initialise, "_parity_places"):
            return

        @wraps(initialise)
        def construct(self: Any, name: Any = None) -> None:
            # Keras reads the parameters of this function.
            place = find_construction(
                self, sys._getframe(1), lambda file: file.startswith(_LIBRARY)
            )
            if place is not None:
                _PLACES[self] = place
            initialise(self, name=name)

        construct._parity_places = True  # type: ignore[attr-defined]
        operation.__init__ = construct

    def find_constructor(self, path: str) -> tuple[Any, Place | None]:
        layer = _find_layer(self.model, path)
        return layer, None if layer is None else _PLACES.get(layer)

    def write_weights_file(self, *, path: str, weights: str) -> None:
        self.load_parameters(path=weights)  # type: ignore[attr-defined]
        if path.endswith(".weights.h5"):
            self.model.save_weights(path)
        elif path.endswith((".keras", ".h5")):
            self.model.save(path)
        else:
            raise UsageError(f"{path}: expected a Keras file, .keras, .h5 or .weights.h5")

    def write_changed_model(
        self, *, path: str, changes: Mapping[str, Mapping[str, Any]], weights: str | None
    ) -> None:
        if not path.endswith((".keras", ".h5")):
            raise UsageError(f"{path}: expected a Keras model, .keras or .h5")
        if weights is not None:
            self.load_parameters(path=weights)  # type: ignore[attr-defined]
        by_layer = {id(_find_layer(self.model, name)): change for name, change in changes.items()}

        def copy(layer: Any) -> Any:
            config = layer.get_config()
            change = dict(by_layer.get(id(layer), {}))
            made = getattr(keras.layers, change.pop("class", ""), type(layer))
            return made.from_config({**config, **change})

        changed = keras.models.clone_model(self.model, clone_function=copy, recursive=True)
        changed.set_weights(self.model.get_weights())
        changed.save(path)


def _find_layer(model: Any, path: str) -> Any:
    """Return the layer of a path, `block/conv1`; None if there is none."""
    found = model
    for name in path.split("/"):
        layers = getattr(found, "_layers", ()) or getattr(found, "layers", ())
        match = next((each for each in _all_layers(layers) if each.name == name), None)
        if match is None:
            return None
        found = match
    return found


def _all_layers(layers: Any) -> list[Any]:
    """Return layers and those in lists of them, as a model's attributes hold them."""
    found = []
    for each in layers:
        if isinstance(each, list | tuple):
            found += _all_layers(each)
        elif hasattr(each, "name"):
            found.append(each)
    return found
