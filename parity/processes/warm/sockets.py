"""The private folder of the sockets, and the messages on them with file descriptors."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parity.errors import UsageError

_LENGTH = struct.Struct("!I")
_LONGEST = 2**24
"""Bytes of a message; the environment of a process is smaller."""

_CREDENTIALS = struct.Struct("3i")

TIMEOUT_S = 5.0
"""Seconds that the other side of a connection has for one message."""


def is_supported() -> bool:
    """Return whether this system has what warm children need: Linux has."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def find_folder(*, create: bool = False) -> Path | None:
    """Return the folder of this user's sockets; None if there is none and it is not created.

    It is `parity` in the runtime folder of the session, or else a folder of this user's in the one
    for temporary files. Raises `UsageError` for a folder, or a symbolic link in its place, that
    belongs to somebody else or that others may open.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime) and os.path.isdir(runtime):
        _require_private(Path(runtime))
        folder = Path(runtime) / "parity"
    else:
        folder = Path(tempfile.gettempdir()) / f"parity-warm-{os.getuid()}"
    if create:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise UsageError(f"{folder}: cannot be created: {error.strerror}") from error
    elif not os.path.lexists(folder):
        return None
    _require_private(folder)
    return folder


def _require_private(folder: Path) -> None:
    """Raise `UsageError` unless a folder is this user's own and nobody else's."""
    try:
        status = os.lstat(folder)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise UsageError(f"{folder}: expected a folder, found {kind}; remove it")
    if status.st_uid != os.getuid():
        raise UsageError(f"{folder}: belongs to user {status.st_uid}, not to you; remove it")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise UsageError(f"{folder}: others may open it (mode {mode:o}); chmod 700 it")


def socket_path(folder: Path, installation: str) -> Path:
    """Return the path of the socket of an installation (`identity.hash_installation`)."""
    return folder / f"warm-{installation[:16]}.sock"


def connect(path: Path) -> socket.socket | None:
    """Connect to a server of this user; None if none listens there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        connection.settimeout(TIMEOUT_S)
        connection.connect(os.fspath(path))
        if peer_user(connection) == os.getuid():
            return connection
    except OSError:
        pass
    connection.close()
    return None


def listen(path: Path) -> socket.socket:
    """Listen on a new socket that this user alone may open. Raises OSError."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode is that of the socket from its first moment.
        before = os.umask(0o177)
        try:
            server.bind(os.fspath(path))
        finally:
            os.umask(before)
        server.listen(64)
    except BaseException:
        server.close()
        raise
    return server


def peer_user(connection: socket.socket) -> int:
    """Return the number of the user on the other side of a connection, as the kernel knows it."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(data)[1]
    return user


def send(connection: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send a message with open files. Raises OSError."""
    data = json.dumps(message).encode()
    header = _LENGTH.pack(len(data))
    if descriptors:
        socket.send_fds(connection, [header], list(descriptors))
    else:
        connection.sendall(header)
    connection.sendall(data)


def receive(connection: socket.socket, count: int = 0) -> tuple[Any, list[int]]:
    """Return a message and at most `count` open files that came with it.

    Raises `EOFError` if the other side has closed, OSError and ValueError for anything else.
    """
    header, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, count)
    try:
        while 0 < len(header) < _LENGTH.size:
            header += _receive_some(connection, _LENGTH.size - len(header))
        if not header:
            raise EOFError
        (length,) = _LENGTH.unpack(header)
        if length > _LONGEST:
            raise ValueError(f"a message of {length} bytes")
        data = b""
        while len(data) < length:
            data += _receive_some(connection, length - len(data))
        return json.loads(data), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _receive_some(connection: socket.socket, count: int) -> bytes:
    part = connection.recv(count)
    if not part:
        raise EOFError
    return part
