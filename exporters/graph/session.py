"""A session of ONNX Runtime on the CPU, and the process that holds one on another's behalf.

Run as a script it is that process: `session_process` starts it and sends it pickled requests. It
imports NumPy and ONNX Runtime alone, so that it is ready before a model is traced.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import onnxruntime

from exporters.errors import ExportError, first_line


def open_session(
    path: Path, *, message: bytes = b"", save_memory: bool = False
) -> onnxruntime.InferenceSession:
    """Return a session with ONNX Runtime's default optimisations. Raises ExportError.

    `message` is the file's model, whose large tensors refer to files beside it; without one the
    file is read. With `save_memory` no more copies of the weights are made than needed: none
    in the layout of the kernels of this machine, and no node is given the place of its result in an
    arena, which grows by powers of two.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what fails is raised
    # Waiting threads that spin would take the cores from the framework, whose turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if save_memory:
        _map_large_blocks()
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if message:
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(path.parent))
    model = message or str(path)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exception types share no base class
        # Without the path of a temporary file and the place in ONNX Runtime's own source.
        reason = re.sub(
            r"^(.* failed:|\[ONNX.*? : [A-Z_]+ : )(/\S+:\d+ .*?\) )?", "", first_line(error)
        )
        raise ExportError(f"ONNX Runtime does not load it: {reason}") from error


def _map_large_blocks() -> None:
    """Have the C library map each large block by itself, which it returns when that is freed."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


_M_MMAP_THRESHOLD = -3

_LARGE_BLOCK_BYTES = 2**20


def serve() -> None:
    """Answer requests until the input ends.

    A request is ("load", path, message, save_memory), ("run", {input: array}) or ("close",); the
    answer is the names of the outputs, the arrays, or None; an ExportError's message is answered as
    ("error", message).
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
                path, message, save_memory = arguments
                session = open_session(Path(path), message=message, save_memory=save_memory)
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
