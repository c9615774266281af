"""`module:callable` names of functions that build a user's own model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.errors import UsageError


def resolve(name: str) -> Callable[[], Any]:
    """Import the callable `package.module:attribute`, from the working folder first.

    Raises `UsageError` for text of another form, a module or an attribute that does not exist.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise UsageError(f"'{name}': expected module:callable, such as mynet.build:resnext")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] == error.name.split(".")[0]:
            raise UsageError(f"'{name}': no module '{error.name}' in {folder}") from error
        raise
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"'{name}': {module_name} has no '{attribute}'")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"'{name}': {attribute} is not a callable that returns a model")
    return found  # type: ignore[no-any-return]


def call(name: str) -> Any:
    """Call `package.module:attribute` and return its result; its errors become `UsageError`."""
    build = resolve(name)
    try:
        return build()
    except Exception as error:
        raise UsageError(f"'{name}' raised {type(error).__name__}: {error}") from error
