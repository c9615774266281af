"""A process that has imported a runtime, of which every child of a test is a copy.

    python -m tests.child_template RUNTIME --control DESCRIPTOR

A fork takes no import. A copy knows nothing of the copies before it: neither a model nor a file of
a user's was ever in the template. `tests.shared_children` starts templates.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import socket
import sys

from parity.processes import worker
from parity.processes.warm import sockets, spare


def fork_for_commands(control: int, output: int) -> None:
    """Fork a copy for each request on the socket `control`; return in the copies alone.

    A request comes with the copy's three streams and the socket on which its exit code is sent;
    the answer holds its process. `output` is what the import has printed.
    """
    exits: dict[int, tuple[int, socket.socket]] = {}
    count = 0
    # What is here stays, and need not be looked at again by each copy.
    gc.freeze()
    with socket.socket(fileno=control) as connection:
        sockets.send(connection, {})
        while True:
            ready, _, _ = select.select([connection, *exits], [], [])
            for process in exits.keys() & set(ready):
                _report_exit(process, *exits.pop(process))
            if connection not in ready:
                continue
            try:
                message, (*streams, exit_socket) = sockets.receive(connection, 4)
            except (EOFError, OSError):
                os._exit(0)
            count += 1
            if count == 2:
                _import_what_exports_need()
            pid = os.fork()
            if pid == 0:
                os.close(exit_socket)
                break
            for stream in streams:
                os.close(stream)
            process = os.pidfd_open(pid)
            exits[process] = (pid, socket.socket(fileno=exit_socket))
            sockets.send(connection, {"pid": pid}, [process])
    for process, (_, other) in exits.items():
        os.close(process)
        other.close()
    # Its own position in the file, which the copies would share.
    with open(f"/proc/self/fd/{output}", "rb", buffering=0) as printed:
        spare._attach(message, streams, printed.fileno())


def _import_what_exports_need() -> None:
    """Import what takes PyTorch's copies two seconds each; the first copy may be the only one."""
    if "torch" in sys.modules:
        importlib.import_module("torch.export._trace")
        importlib.import_module("exporters.torch.translations").torchlib()
    gc.freeze()


def _report_exit(process: int, pid: int, connection: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(process)
    with contextlib.suppress(OSError), connection:
        sockets.send(connection, {"exit": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    spare.wait_for_command = fork_for_commands
    worker.main(sys.argv[1], int(sys.argv[3]))
