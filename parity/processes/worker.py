"""The child process: imports one framework, then answers requests until its input ends."""

from __future__ import annotations

import gc
import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from parity.errors import ParityError, RuntimeMissing
from parity.processes import probe


def main(runtime: str) -> None:
    """Serve requests on standard input; answers are JSON lines on standard output."""
    # Ctrl-C reaches the whole process group; the parent decides what becomes of its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Frameworks print to standard output at will; only answers may travel there.
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()
    try:
        package = os.environ.get("PARITY_RUNTIMES", "parity.runtimes")
        with _uncollected():
            served: Any = importlib.import_module(f"{package}.{runtime}.runtime").Runtime()
        failure = None
    except ImportError as error:
        served = None
        failure = _missing(runtime, error)
    while True:
        request = json.loads(requests.get())
        answer = _failed(request["id"], failure) if failure else _serve(served, request)
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


@contextmanager
def _uncollected() -> Iterator[None]:
    """While open, no garbage is looked for, and what is made stays out of later searches.

    An import makes a million objects, nearly all of which live as long as the process: searching
    them takes a fifth of TensorFlow's import, and a part of every model that is built after it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _listen(stream: TextIO, requests: queue.SimpleQueue[str]) -> None:
    """Queue requests; when the parent is gone, leave at once, whatever is being computed."""
    for line in stream:
        requests.put(line)
    os._exit(0)


def _serve(served: Any, request: dict[str, Any]) -> dict[str, Any]:
    operation = request["op"]
    try:
        if operation.startswith("_") or not hasattr(served, operation):
            raise ParityError(f"unknown operation '{operation}'")
        result = getattr(served, operation)(**request["args"])
        return {"id": request["id"], "result": result if result is not None else {}}
    except ParityError as error:
        return _failed(request["id"], error)
    except ImportError as error:
        return _failed(request["id"], _missing(type(served).__module__.rpartition(".")[2], error))
    except Exception as error:  # noqa: BLE001 (the boundary of the process: it must answer)
        return _failed(request["id"], error)


def _failed(identity: int, error: Exception) -> dict[str, Any]:
    message = " ".join(str(error).split()) or type(error).__name__
    return {
        "id": identity,
        "error": {
            "type": type(error).__name__,
            "message": message[:2000],
            "traceback": "".join(traceback.format_exception(error)),
        },
    }


def _missing(runtime: str, error: ImportError) -> RuntimeMissing:
    remedy = probe.INSTALL.get(runtime, "install it")
    return RuntimeMissing(f"{runtime}: {error}; {remedy}")


if __name__ == "__main__":
    main(sys.argv[1])
