"""Builds the models of keras.applications; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from parity.errors import UsageError
from parity.text import quote, suggest


def load(name: str, options: Mapping[str, Any]) -> keras.Model:
    """Return the application of this name; its weights are random, or those of a file."""
    known = [
        each
        for each in dir(keras.applications)
        if each[0].isupper() and callable(getattr(keras.applications, each))
    ]
    if name not in known:
        raise UsageError(f"keras.applications has no model {quote(name)}{suggest(name, known)}")
    try:
        return getattr(keras.applications, name)(**{"weights": None, **options})
    except (TypeError, ValueError, OSError) as error:
        lines = str(error).strip().splitlines()
        raise UsageError(f"keras:{name}: {lines[0] if lines else type(error).__name__}") from error
