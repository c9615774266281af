"""Models of keras.applications, with zero weights or those of a file; nothing is downloaded."""

from __future__ import annotations

from typing import Any

import keras

from parity.processes.references import WEIGHTS, ModelReference
from parity.runtimes.keras.load import zero_initializers
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.zoo_models import require_known_model


def list_names() -> list[str]:
    """Return the names of all models."""
    return [name for name in dir(keras.applications) if name[0].isupper()]


def load(reference: ModelReference) -> LoadedModel:
    """Build `keras:NAME`; `weights` is a file, other options are the builder's arguments."""
    require_known_model(reference, list_names())
    options: dict[str, Any] = dict(reference.options)
    checkpoint = options.pop(WEIGHTS, None)
    with zero_initializers():
        model = getattr(keras.applications, reference.target)(weights=checkpoint, **options)
    return LoadedModel(model, reference.text, brings_weights=checkpoint is not None)
