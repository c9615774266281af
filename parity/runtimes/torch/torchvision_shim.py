"""The import of torchvision where its compiled operators do not load.

torchvision's ordinary wheels are built for CUDA. Beside a CPU build of PyTorch its library does not
load, and its import fails, since it registers fake kernels for operators that do not exist then.
The operators (box suppression and the like) are needed by no classifier, so their names are enough.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path

import torch

NOTE = (
    "torchvision's compiled operators do not load beside this PyTorch; its models run without them"
)

_MISSING = "operator torchvision::"
_REGISTERED = re.compile(r"register_fake\(\s*['\"]torchvision::(\w+)['\"]")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
"""Of `nms`; no operator is called, so that one schema serves for all."""

_libraries: list[torch.library.Library] = []
"""The definitions live as long as these objects."""


def import_torchvision() -> tuple[str, ...]:
    """Import torchvision if it is installed; return a note if that took the operators' names."""
    if importlib.util.find_spec("torchvision") is None:
        return ()
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if not is_missing_operator(error):
            raise
        define_operators()
        importlib.import_module("torchvision")
    return (NOTE,) if _libraries else ()


def is_missing_operator(error: BaseException | None) -> bool:
    """Return whether an error is that of torchvision's import without its operators."""
    return isinstance(error, RuntimeError) and _MISSING in str(error)


def define_operators() -> None:
    """Define the operators that torchvision's import registers fake kernels for, by name."""
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "_meta_registrations.py").read_text(encoding="utf-8")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in dict.fromkeys(_REGISTERED.findall(source)):
        library.define(f"{name}{_SCHEMA}")
    _libraries.append(library)
    # What was imported in part is imported again.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
