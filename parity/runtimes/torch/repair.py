"""Repairs of PyTorch modules: the places of their constructors, and their state dicts."""

from __future__ import annotations

import sys
import weakref
from functools import wraps
from typing import Any

import torch
from torch import nn

from parity.errors import UsageError
from parity.runtimes.constructors import Place, find_construction
from parity.runtimes.repair import RepairOperations
from parity.runtimes.torch.source_lines import TORCH_FOLDER

_PLACES: weakref.WeakKeyDictionary[nn.Module, Place] = weakref.WeakKeyDictionary()
_OWN = (TORCH_FOLDER, __file__, find_construction.__code__.co_filename)


class TorchRepairs(RepairOperations):
    """`RepairOperations` for the one module of a child."""

    model: nn.Module

    def trace_constructors(self) -> None:
        initialise = nn.Module.__init__
        if hasattr(initialise, "_parity"):
            return

        @wraps(initialise)
        def construct(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            place = find_construction(self, sys._getframe(1), lambda file: file.startswith(_OWN))
            if place is not None:
                _PLACES[self] = place
            initialise(self, *args, **kwargs)

        construct._parity = True  # type: ignore[attr-defined]
        nn.Module.__init__ = construct  # type: ignore[method-assign]

    def find_constructor(self, path: str) -> tuple[Any, Place | None]:
        try:
            module = self.model.get_submodule(path)
        except AttributeError:
            return None, None
        return module, _PLACES.get(module)

    def write_weights_file(self, *, path: str, weights: str) -> None:
        if not path.endswith((".pth", ".pt")):
            raise UsageError(f"{path}: expected a PyTorch checkpoint, .pth or .pt")
        self.load_parameters(path=weights)  # type: ignore[attr-defined]
        torch.save(self.model.state_dict(), path)
