"""One ONNX node as a kind with hyperparameters and roles, in the units of all frameworks.

The readers are in one file a family, found here without a list.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil

from parity.network import kinds
from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import (
    READERS,
    NodeReading,
    NodeView,
    Static,
    list_present_roles,
)

__all__ = ["NodeReading", "NodeView", "Static", "read_node"]


@functools.cache
def _import_readers() -> None:
    """Import the files of this folder, which register their readers."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def read_node(view: NodeView) -> NodeReading:
    """Return what a node is; an operator that is not known here is opaque."""
    _import_readers()
    reader = READERS.get(view.operation)
    if reader is not None:
        return reader(view)
    # A kind that states its operator has no settings but those of the operator's attributes.
    plain = kinds.find_by_operator(view.operation)
    if plain is None or view.domain:
        return NodeReading(OPAQUE, roles=list_present_roles(view))
    stated = {
        setting.name: setting.convert(view.attributes[setting.onnx])
        for setting in plain.hyperparameters
        if setting.onnx in view.attributes
    }
    return NodeReading(plain.name, stated)
