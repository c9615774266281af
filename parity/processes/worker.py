"""The child process: imports one runtime, then answers requests until its input ends."""

from __future__ import annotations

import gc
import importlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from parity.errors import ParityError, RuntimeMissing
from parity.processes import registry
from parity.processes.protocol import OperationFailure, OperationRequest, OperationResponse


def main(runtime: str) -> None:
    """Serve requests on standard input; responses are JSON lines on standard output."""
    # Ctrl-C reaches the whole process group; the parent decides what becomes of its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Frameworks print to standard output at will; only responses may travel there.
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_queue_requests, args=(sys.stdin, requests), daemon=True).start()
    try:
        with _no_garbage_collection():
            served: Any = importlib.import_module(registry.get(runtime).module).Runtime()
        failure = None
    except ImportError as error:
        served, failure = None, _describe_missing(runtime, error)
    except ParityError as error:
        served, failure = None, OperationFailure.from_exception(error)
    while True:
        request = OperationRequest.from_line(requests.get())
        if failure is not None:
            response = OperationResponse(request.identity, failure=failure)
        else:
            response = _respond(runtime, served, request)
        channel.write(response.to_line())
        channel.flush()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """While open, do not collect garbage; then exempt all objects from later collections.

    An import makes a million objects, nearly all of which live as long as the process: searching
    them takes a fifth of TensorFlow's import, and a part of every model that is built after it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _queue_requests(stream: TextIO, requests: queue.SimpleQueue[str]) -> None:
    """Queue requests; when the parent is gone, exit at once, whatever is being computed."""
    for line in stream:
        requests.put(line)
    os._exit(0)


def _respond(runtime: str, served: Any, request: OperationRequest) -> OperationResponse:
    """Do an operation: call the public method of `served` that has its name."""
    try:
        if request.operation.startswith("_") or not hasattr(served, request.operation):
            raise ParityError(f"unknown operation '{request.operation}'")
        result = getattr(served, request.operation)(**request.arguments)
        return OperationResponse(request.identity, result if result is not None else {})
    except ImportError as error:
        failure = _describe_missing(runtime, error)
    except Exception as error:  # noqa: BLE001 (the boundary of the process: it must answer)
        failure = OperationFailure.from_exception(error)
    return OperationResponse(request.identity, failure=failure)


def _describe_missing(runtime: str, error: ImportError) -> OperationFailure:
    """Return the failure of an import, with how to install the runtime's packages."""
    remedy = registry.get(runtime).install_command
    return OperationFailure.from_exception(RuntimeMissing(f"{runtime}: {error}; {remedy}"))


if __name__ == "__main__":
    main(sys.argv[1])
