"""The lines of the model's own code: where a function is called, where an error is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType, FrameType

import torch
from torch import nn

TORCH_FOLDER = str(Path(torch.__file__).resolve().parent)
_OWN_FILES = {
    str(Path(__file__).with_name(f"{name}.py")) for name in ("recorder", "float64", "tensors")
}
"""The recorder runs between PyTorch's code and the model's."""


class SourceFinder:
    """Finds the line of the model's own code that runs."""

    def __init__(self, model: nn.Module) -> None:
        modules = {type(module).__module__ for module in model.modules()}
        files = {getattr(sys.modules.get(name), "__file__", None) for name in modules}
        self._files = {file for file in files if file and not file.startswith(TORCH_FOLDER)}
        self._ranks: dict[CodeType, int] = {}

    def find(self) -> str:
        """Return `file.py:12`, the innermost line of a file that defines a module of the model.

        Where there is none, of any file that is not PyTorch's; empty if there is none either.
        """
        frame: FrameType | None = sys._getframe(1)
        other = ""
        while frame is not None:
            code = frame.f_code
            rank = self._ranks.get(code)
            if rank is None:
                rank = self._ranks[code] = self._rank(code.co_filename)
            if rank == _MODEL:
                return _format(frame)
            if rank == _OTHER and not other:
                other = _format(frame)
            if rank == _ROOT and code.co_name == "call_model":
                break
            frame = frame.f_back
        return other

    def locate(self, error: BaseException) -> str:
        """Return the innermost line of the model's own code in an error's traceback."""
        found = ""
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            rank = self._rank(code.co_filename)
            if rank == _ROOT and code.co_name == "call_model":
                # What called the model is no code of it.
                found = ""
            if rank == _MODEL or (rank == _OTHER and not found):
                found = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
            trace = trace.tb_next
        return found

    def _rank(self, file: str) -> int:
        if file in _OWN_FILES:
            return _ROOT
        if file in self._files:
            return _MODEL
        return _TORCH if file.startswith(TORCH_FOLDER) else _OTHER


_MODEL, _OTHER, _TORCH, _ROOT = range(4)


def _format(frame: FrameType) -> str:
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def locate_error(model: nn.Module, error: BaseException) -> str:
    """Return the line of the model's own code, `net.py:12`, at which an error was raised."""
    return SourceFinder(model).locate(error)
