"""What a recorded call of PyTorch is: its kind, hyperparameters, weights, and operands in order.

The readers are in one file a family, found here without a list.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil

from parity.network.graph import OPAQUE
from parity.runtimes.torch.calls import Call
from parity.runtimes.torch.operations.reading import (
    READERS,
    Operation,
    find_kind,
    list_input,
    split_axes,
)
from parity.runtimes.torch.operations.shape import complete

__all__ = ["Operation", "complete", "describe", "split_axes"]


@functools.cache
def _import_readers() -> None:
    """Import the files of this folder, which register their readers."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def describe(call: Call, *, axes: str = "") -> Operation:
    """Return what a call is; `axes` are those of its first operand, where they are known.

    What no kind has is opaque.
    """
    if call.is_opaque:
        return Operation(OPAQUE)
    _import_readers()
    reader = READERS.get(call.name)
    operation: Operation | None = None
    if reader is not None:
        operation = reader(call.name, {**call.arguments, "_axes": axes})
    elif (kind := find_kind(call.name, {})) is not None and not kind.roles:
        operation = Operation(kind.name, {}, list_input(call.arguments), keeps_axes=True)
    if operation is None:
        return Operation(OPAQUE)
    return operation
