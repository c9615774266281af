"""The child process: it imports one runtime, then answers requests until its input ends."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO

from parity.errors import ParityError, RequirementError, UnsupportedRequestError
from parity.processes import registry
from parity.processes.garbage import no_garbage_collection
from parity.processes.protocol import (
    GOODBYE,
    OperationFailure,
    OperationRequest,
    OperationResponse,
)

RESET = "reset"
"""The operation that forgets the model and everything that was computed from it."""


def main(runtime: str, control: int | None = None) -> None:
    """Read requests from standard input and write responses to standard output, as JSON lines.

    `control` is the socket of the server of `parity warm`, if this is a warm child: its standard
    streams come from there, once the framework is imported and a command takes the child.
    """
    # Ctrl-C reaches the whole process group; the parent decides when its children end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if control is None:
        channel, requests = _open_streams()
        server, failure = _create_server(runtime)
    else:
        # Not at the top: a child that is started as ever needs no sockets.
        from parity.processes.warm import spare

        with spare.early_output() as output:
            server, failure = _create_server(runtime)
            if failure is None:
                with no_garbage_collection():
                    spare.import_what_models_need(runtime)
            spare.wait_for_command(control, output)
        channel, requests = _open_streams()
    while True:
        request = OperationRequest.from_line(requests.get())
        if failure is not None:
            response = OperationResponse(request.identity, failure=failure)
        elif request.operation == RESET:
            server = _create_again(server)
            response = OperationResponse(request.identity, {})
        else:
            response = _execute(runtime, server, request)
        channel.write(response.to_line())
        channel.flush()


def _open_streams() -> tuple[TextIO, queue.SimpleQueue[str]]:
    """Return where responses are written, and the requests as they come."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Frameworks print to standard output, which is for responses alone.
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(
        target=_queue_requests, args=(sys.stdin, requests, channel.fileno()), daemon=True
    )
    reader.start()
    return channel, requests


def _create_server(runtime: str) -> tuple[Any, OperationFailure | None]:
    """Import a runtime; return what executes its operations, or why it cannot be imported."""
    try:
        with no_garbage_collection():
            return importlib.import_module(registry.get(runtime).module).Runtime(), None
    except ImportError as error:
        return None, _describe_import_error(runtime, error)
    except ParityError as error:
        return None, OperationFailure.from_exception(error)


def _create_again(server: Any) -> Any:
    """Return a new object of the runtime's operations, which knows nothing of the earlier ones.

    A runtime whose framework keeps something for all models, such as the numbers in the names of
    layers, has the class method `clear_framework_state`.
    """
    runtime = type(server)
    del server
    getattr(runtime, "clear_framework_state", lambda: None)()
    # Models refer to themselves.
    gc.collect()
    return runtime()


def _queue_requests(stream: TextIO, requests: queue.SimpleQueue[str], output: int) -> None:
    """Queue requests; exit immediately when the parent is gone, even during an operation.

    A parent that has only closed the requests reads from `output` that the process ends: it need
    not wait until the system has freed the memory.
    """
    for line in stream:
        requests.put(line)
    with contextlib.suppress(OSError):
        os.write(output, GOODBYE.encode())
    os._exit(0)


def _execute(runtime: str, server: Any, request: OperationRequest) -> OperationResponse:
    """Execute an operation: call the public method of `server` that has its name."""
    try:
        if request.operation.startswith("_") or not hasattr(server, request.operation):
            raise UnsupportedRequestError(
                f"{runtime}: the runtime does not implement '{request.operation}'"
            )
        result = getattr(server, request.operation)(**request.arguments)
        return OperationResponse(request.identity, result if result is not None else {})
    except ImportError as error:
        failure = _describe_import_error(runtime, error)
    except Exception as error:  # noqa: BLE001 (the process must always respond)
        failure = OperationFailure.from_exception(error)
    return OperationResponse(request.identity, failure=failure)


def _describe_import_error(runtime: str, error: ImportError) -> OperationFailure:
    """Return the failure of an import, with the command that installs the runtime's packages."""
    remedy = registry.get(runtime).install_command
    return OperationFailure.from_exception(RequirementError(f"{runtime}: {error}; {remedy}"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[3]) if sys.argv[2:3] == ["--control"] else None)
