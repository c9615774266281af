"""The child's side of a warm start: import, say that it is ready, become the child of a command."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parity.network import architectures, kinds
from parity.processes.warm import identity, sockets


@contextmanager
def early_output() -> Iterator[int]:
    """While open, keep what the framework prints; yields the file that it is kept in."""
    output = os.memfd_create("parity-early-output")
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        yield output
    finally:
        os.close(output)


def import_what_models_need(runtime: str) -> None:
    """Import the modules of parity and NumPy that other children import for their first model."""
    kinds.registry()
    families = {architectures.get(name).family for name in architectures.all_names()}
    names = [f"parity.network.models.{family}.{runtime}" for family in sorted(families)]
    for name in ("numpy.random", "parity.network.arrays", *names):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def wait_for_command(control: int, output: int) -> None:
    """Wait until a command takes this process, then give it the command's streams and place.

    What was printed before goes to the command's log. The process ends if the server does.
    """
    with socket.socket(fileno=control) as connection:
        try:
            sockets.send(connection, {"foreign": identity.list_user_files(sys.modules)})
            message, descriptors = sockets.receive(connection, 3)
        except (EOFError, OSError):
            os._exit(0)
    _attach(message, descriptors, output)


def _attach(message: Any, descriptors: list[int], output: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for target, descriptor in enumerate(descriptors):
        # Inheritable, as the streams of any process are.
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.lseek(output, 0, os.SEEK_SET)
    while part := os.read(output, 2**16):
        os.write(2, part)
    os.environ.clear()
    os.environ.update(message["variables"])
    # The folder that `tempfile` has found was the server's.
    tempfile.tempdir = None
    os.umask(message["umask"])
    os.chdir(message["folder"])
