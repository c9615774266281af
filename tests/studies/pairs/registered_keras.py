"""Registered Keras twins as files."""

from __future__ import annotations

import keras

from parity.network import architectures
from parity.runtimes.keras.load import build_initialized_twin


def twin(name: str, size: int = 64) -> keras.Model:
    """Return the twin with seeded weights."""
    spec = architectures.get(name, image_size=(size, size))
    return build_initialized_twin(spec, seed=0)
