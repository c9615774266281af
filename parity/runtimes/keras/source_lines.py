"""The lines of the user's code: where a layer is constructed or called, where an error is."""

from __future__ import annotations

import sys
import sysconfig
import weakref
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import keras

from parity.runtimes.keras.doors import require_doors

_USER, _LIBRARY, _GRAPH, _SEQUENTIAL, _SAVING, _ROOT = range(6)
_RANKS: dict[CodeType, int] = {}
_CONSTRUCTED: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
"""Where each layer was constructed."""

_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_KERAS = str(Path(keras.__file__).parent)
_PARITY = str(Path(__file__).parents[2])
_RECORDER = str(Path(__file__).with_name("recorder.py"))


def _rank(code: CodeType) -> int:
    known = _RANKS.get(code)
    if known is None:
        known = _RANKS[code] = _compute_rank(code)
    return known


def _compute_rank(code: CodeType) -> int:
    file = code.co_filename
    if file == _RECORDER:
        return _ROOT if code.co_name == "run" else _LIBRARY
    if file.startswith(_KERAS):
        inside = file.removeprefix(_KERAS).replace("\\", "/")
        if inside.startswith("/src/applications/"):
            return _USER
        if code.co_name == "_run_through_graph":
            return _GRAPH
        if inside.startswith("/src/saving/"):
            return _SAVING
        return _SEQUENTIAL if inside == "/src/models/sequential.py" else _LIBRARY
    if file.startswith(_PARITY):
        return _USER if "/network/models/" in file.replace("\\", "/") else _LIBRARY
    if file.startswith("<"):
        return _LIBRARY
    if "/tensorflow/" in file.replace("\\", "/"):
        return _LIBRARY
    is_site = "site-packages" in file or "dist-packages" in file
    return _LIBRARY if file.startswith(_STANDARD_LIBRARY) and not is_site else _USER


def _format(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def find_source(stack: Sequence[Any] = ()) -> str:
    """Return `net.py:12`, the innermost line of the user's that runs.

    Of a functional model that is the line where the layer was called when the model was built, or
    else the line where it was constructed; empty where that is not known.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        rank = _rank(frame.f_code)
        if rank == _USER:
            return _format(frame)
        if rank == _GRAPH:
            source = _built_at(frame.f_locals.get("node"))
            if source:
                return source
        if rank == _ROOT:
            break
        frame = frame.f_back
    return next((_CONSTRUCTED[each] for each in reversed(stack) if each in _CONSTRUCTED), "")


def _built_at(node: Any) -> str:
    source = getattr(node, "_parity_source", "")
    return source or _CONSTRUCTED.get(getattr(node, "operation", None), "")


def locate_error(error: BaseException) -> str:
    """Return the innermost line of the user's in an error's traceback, `net.py:12`."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        if _rank(trace.tb_frame.f_code) == _USER:
            found = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _find_construction(operation: Any) -> str:
    """Return the user's line that constructs a layer; empty for one that a file describes."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        rank = _rank(frame.f_code)
        if rank == _SAVING:
            return ""
        is_constructor = frame.f_code.co_name == "__init__"
        if rank == _USER and not (is_constructor and frame.f_locals.get("self") is operation):
            return _format(frame)
        frame = frame.f_back
    return ""


def _find_call() -> str:
    """Return the user's line that calls a layer on a symbolic tensor."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        rank = _rank(frame.f_code)
        if rank == _USER:
            return _format(frame)
        if rank in (_SEQUENTIAL, _SAVING, _GRAPH):
            return ""
        frame = frame.f_back
    return ""


def keep_lines() -> None:
    """From now on, keep the line where each layer is constructed, and called to build a model."""
    if keras.backend.backend() != "tensorflow":
        return
    doors = require_doors()
    initialise, connect = doors.operation.__init__, doors.node.__init__
    if hasattr(initialise, "_parity_lines"):
        return

    @wraps(initialise)
    def construct(self: Any, name: Any = None) -> None:
        # Keras reads the parameters of this function.
        initialise(self, name=name)
        source = _find_construction(self)
        if source:
            _CONSTRUCTED[self] = source

    @wraps(connect)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        connect(self, *args, **kwargs)
        self._parity_source = _find_call()

    construct._parity_lines = True  # type: ignore[attr-defined]
    doors.operation.__init__ = construct
    doors.node.__init__ = call
