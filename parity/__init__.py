"""Are a network's Keras, PyTorch and ONNX versions the same, and if not, where and why?

    compare   Say whether a model is the same in every framework; returns a `Report`.
    capture   Save what every subject computes, to be judged later or elsewhere.
    diff      Judge saved captures, without running anything; returns a `Report`.
    check     Run the cases of a parity.toml, and hold them against locked figures.
    convert   Turn a checkpoint into another framework's, bit for bit.
    export    Export a model to ONNX, and prove the file.

Each is loaded when it is first used: importing this package loads neither NumPy nor a framework,
which run in processes of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parity.version import __version__

if TYPE_CHECKING:
    from parity.commands.capture import capture
    from parity.commands.check import check
    from parity.commands.compare import compare
    from parity.commands.convert import convert
    from parity.commands.diff import diff
    from parity.commands.export import export
    from parity.report.model import Report

__all__ = [
    "Report",
    "__version__",
    "capture",
    "check",
    "compare",
    "convert",
    "diff",
    "export",
]

_HOMES = {
    "Report": "parity.report.model",
    "capture": "parity.commands.capture",
    "check": "parity.commands.check",
    "compare": "parity.commands.compare",
    "convert": "parity.commands.convert",
    "diff": "parity.commands.diff",
    "export": "parity.commands.export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'parity' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    # `help` and completion show what is not loaded yet, too.
    return sorted({*globals(), *__all__})
