"""A session of ONNX Runtime on the CPU, and the process that holds one on another's behalf.

Run as a script it is that process: `session_process` starts it and sends it pickled requests. It
imports NumPy and ONNX Runtime alone, so that it is ready before a model is traced.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import onnxruntime

from exporters.errors import ExportError, first_line

_LARGE = 2**27
"""Bytes of a file from which on the memory that a session takes matters."""


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Return a session with ONNX Runtime's default optimisations. Raises ExportError."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what fails is raised
    # Waiting threads that spin would take the cores from the framework, whose turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _size(path) >= _LARGE:
        # Reordered copies of the weights speed up many runs, and here are few; an arena grows by
        # powers of two.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exception types share no base class
        # Without the path of a temporary file and the place in ONNX Runtime's own source.
        reason = re.sub(r"^.* failed:(/\S+:\d+ .*?\) )?", "", first_line(error))
        raise ExportError(f"ONNX Runtime does not load it: {reason}") from error


def _size(path: Path) -> int:
    """Return the bytes of a file and of the weights beside it."""
    data = path.with_name(path.name + ".data")
    return sum(each.stat().st_size for each in (path, data) if each.exists())


def serve() -> None:
    """Answer requests until the input ends.

    A request is ("load", path), ("run", {input: array}) or ("close",); the answer is the names of
    the outputs, the arrays, or None; an ExportError's message is answered as ("error", message).
    """
    # Whatever a library prints goes to the null device: the pipe carries answers alone.
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    session: Any = None
    while True:
        try:
            kind, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: object = None
        try:
            if kind == "load":
                session = None
                session = open_session(Path(arguments[0]))
                answer = [value.name for value in session.get_outputs()]
            elif kind == "run":
                answer = session.run(None, arguments[0])
            else:
                session = None
        except ExportError as error:
            answer = ("error", str(error))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's types share no base class
            answer = ("error", first_line(error))
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    serve()
