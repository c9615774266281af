"""PyTorch networks of `torch_networks.py` with one edit of their source: `broken,NAME,NUMBER`.

`rewritten,NAME,NUMBER` changes no number.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import edits

SOURCE = Path(__file__).with_name("torch_networks.py")


def broken(name: str, number: int) -> Any:
    """Return the network called `name` with the fault of this number of its list."""
    return _build(name, number, edits.RULES)


def rewritten(name: str, number: int) -> Any:
    """Return the network called `name`, written otherwise, by the number of the list."""
    return _build(name, number, edits.SAME_FUNCTION)


def _build(name: str, number: int, rules: Sequence[edits.Rule]) -> Any:
    text = SOURCE.read_text(encoding="utf-8")
    edited = edits.list_edits(text, name, rules)[number].apply(text)
    # The lines keep their numbers, so that an operation is located in the original file.
    module = ModuleType(f"broken_{name}_{number}")
    sys.modules[module.__name__] = module
    exec(compile(edited, str(SOURCE), "exec"), vars(module))
    return getattr(module, name)()
