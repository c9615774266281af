"""A session of ONNX Runtime on the CPU, and the process that holds one on another's behalf.

Run as a script it is that process: `session_process` starts it and sends it pickled requests. It
imports NumPy and ONNX Runtime alone, so that it is ready before a model is traced.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import pickle
import re
import sys
import threading
from collections.abc import Iterator, Sequence
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
    in the layout of the kernels of this machine, none with what follows a convolution or a product
    multiplied in, and no node is given the place of its result in an arena, which grows by powers
    of two.
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
        return onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(_COPYING_OPTIMIZERS) if save_memory else None,
        )
    except Exception as error:  # ONNX Runtime's own exception types share no base class
        # Without the path of a temporary file and the place in ONNX Runtime's own source.
        reason = re.sub(
            r"^(.* failed:|\[ONNX.*? : [A-Z_]+ : )(/\S+:\d+ .*?\) )?", "", first_line(error)
        )
        raise ExportError(f"ONNX Runtime does not load it: {reason}") from error


_COPYING_OPTIMIZERS = ("ConvBNFusion", "ConvMulFusion", "MatMul_BatchNormalization_Fusion")
"""ONNX Runtime's optimisations whose results are other weights, as large as those of the file."""


@contextlib.contextmanager
def return_file_pages(path: Path) -> Iterator[None]:
    """While open, take the pages of a mapped file out of this process soon after they are read.

    They stay in the system's cache of files, which has them since the file was written, and are
    read again from there. A page that a session had changed would get the file's values back. No
    file may be mapped or unmapped in the meantime. Does nothing where the system is no Linux.
    """
    mappings = _find_mappings(path)
    if not mappings:
        yield
        return
    is_done = threading.Event()

    def work() -> None:
        while not is_done.wait(_INTERVAL):
            _return_pages(mappings)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
        _return_pages(mappings)


_INTERVAL = 0.005
"""Seconds between two looks."""


def _find_mappings(path: Path) -> list[tuple[int, int]]:
    """Return address and length of what is mapped of a file, or of the one with its weights."""
    prefix = os.path.realpath(path)
    found = []
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            addresses, _, _, _, _, *name = line.rstrip("\n").split(maxsplit=5)
            if name and name[0].startswith(prefix):
                start, end = (int(address, 16) for address in addresses.split("-"))
                found.append((start, end - start))
    return found


def _return_pages(mappings: Sequence[tuple[int, int]]) -> None:
    madvise = ctypes.CDLL(None).madvise
    for start, length in mappings:
        # The call fails for pages that are locked, which may stay.
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


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
    mapped: Path | None = None  # the file, where its pages are not to stay in memory
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
                mapped = Path(path) if save_memory else None
                session = open_session(Path(path), message=message, save_memory=save_memory)
                answer = [value.name for value in session.get_outputs()]
            elif kind == "run":
                with return_file_pages(mapped) if mapped else contextlib.nullcontext():
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
