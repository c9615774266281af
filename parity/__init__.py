"""Are a network's Keras, PyTorch and ONNX versions the same, and if not, where and why?

`compare`, `export` and `convert` are what the command line calls; importing this package loads no
framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.commands.compare import compare
    from parity.commands.convert import convert
    from parity.commands.export import export

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "convert", "export"]

_HOMES = {
    "compare": "parity.commands.compare",
    "export": "parity.commands.export",
    "convert": "parity.commands.convert",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'parity' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
