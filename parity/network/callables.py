"""`module:callable` references: how somebody's own twin is named on the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.errors import UsageError


def resolve(reference: str) -> Callable[[], Any]:
    """The callable that `package.module:name` names, looked for in the working folder first.

    Raises `UsageError` when the text, the module or the name is wrong.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (colon and module_name and attribute):
        raise UsageError(f"'{reference}': expected module:callable, such as mynet.build:resnext")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] == error.name.split(".")[0]:
            raise UsageError(f"'{reference}': no module '{error.name}' in {folder}") from error
        raise
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise UsageError(f"'{reference}': {module_name} has no '{attribute}'")
        found = getattr(found, name)
    if not callable(found):
        raise UsageError(f"'{reference}': {attribute} is no callable that returns a model")
    return found  # type: ignore[no-any-return]


def call(reference: str) -> Any:
    """What the referenced callable returns; an error of its own is told with its type."""
    build = resolve(reference)
    try:
        return build()
    except Exception as error:
        raise UsageError(f"'{reference}' raised {type(error).__name__}: {error}") from error
