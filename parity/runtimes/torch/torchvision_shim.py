"""Imports torchvision where its compiled operators do not load, beside another build of PyTorch.

Its classifiers need none of them, but the import registers fake kernels for operators whose names
the compiled library would have defined. The names are defined here, without kernels, and only
after the plain import has failed.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
)

_libraries: list[torch.library.Library] = []
"""Libraries define their operators as long as they live."""


def import_torchvision() -> tuple[ModuleType, str | None]:
    """Return torchvision, and a note if the shim was needed; raises ImportError."""
    try:
        return importlib.import_module("torchvision"), None
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _OPERATORS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _libraries.append(library)
    note = "torchvision's compiled operators do not load; its classifiers do not need them"
    return importlib.import_module("torchvision"), note
