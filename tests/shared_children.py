"""Children that many tests share, so that a framework is imported once and not in every test.

`parity check` and `parity sweep` run their cases so (`parity.commands.comparison_runner`): a child
forgets its model between two comparisons. A child that starts is a copy of a process that has
imported its framework (`tests.child_template`). With the variable PARITY_TEST_COLD no child is
shared or copied and every command is a process of its own, as a user's is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from parity.commands.comparison_runner import MOST_COMPARISONS
from parity.processes.child import Child
from parity.processes.subjects import parse_child_name
from parity.processes.variables import child_variables
from parity.processes.warm import sockets
from parity.processes.warm.client import WarmProcess

ROOT = Path(__file__).resolve().parents[1]
COLD = bool(os.environ.get("PARITY_TEST_COLD"))

_SOURCE = re.compile(r'[^"\s:,=]*\.py(?=[":,])')
"""A user's Python file, alone or in a reference such as net.py:build."""

_IGNORED_VARIABLES = ("PYTEST_CURRENT_TEST", "PARITY_CACHE", "COLUMNS", "TMPDIR")
"""The test's name is a variable; the caches are the parent's."""

_MOST_TEMPLATES = 6
"""A template takes half a gigabyte at most."""

Key = tuple[Any, ...]
Sources = Mapping[str, tuple[int, int]]


class SharedChild(Child):
    """A child that closes only its work: its process goes back to the pool.

    A failure of any kind, another folder of user's code and a file of it that has changed end the
    process, as does code that it was told to run in place of a file.
    """

    def __init__(self, pool: ChildPool, key: Key, name: str, **options: Any):
        self._pool, self._key = pool, key
        self._sources: dict[Path, Sources] = {}
        self._is_unchanged = True
        self._is_reusable = True
        self.uses = 1
        super().__init__(name, **options)

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self._is_reusable &= "replace" not in operation
        self._note_sources(json.dumps(arguments, default=str))
        try:
            return super().call(operation, **arguments)
        except BaseException:
            self._is_reusable = False
            raise

    def _note_sources(self, text: str) -> None:
        """Note the folders of the Python files in a request; start anew for another one's code.

        A process that has the state of this command goes on: its command would have done so.
        """
        folders = {Path(file).parent.resolve() for file in _SOURCE.findall(text)}
        folders = {each for each in folders if not each.is_relative_to(ROOT)}
        new = folders - self._sources.keys()
        if self._is_unchanged and not new:
            return
        if (self._sources or not self._is_unchanged) and folders:
            if self._state_requests:
                self._is_reusable = False
            else:
                self.suspend()
                self._sources = {}
                self._is_unchanged = True
                new = folders
        self._sources.update({each: _describe_sources(each) for each in new})

    def begin_test(self) -> None:
        """Begin the work of another command, whose code may have changed."""
        self.uses += 1
        self._is_unchanged = all(
            _describe_sources(each) == found for each, found in self._sources.items()
        )

    def kill(self) -> None:
        self._is_reusable = False
        super().kill()

    def close(self) -> None:
        if self._is_reusable and not (self._is_suspended or self._is_closed):
            with contextlib.suppress(Exception):
                self.reset()
                self._pool.put(self._key, self)
                return
        super().close()

    def end(self) -> None:
        """End the process."""
        super().close()


class ChildPool:
    """The children of this process that nobody uses now."""

    def __init__(self) -> None:
        self._free: dict[Key, list[SharedChild]] = {}

    def take(self, name: str, **options: Any) -> SharedChild:
        """Return a free child of the same name, options, variables and folder, or a new one."""
        variables = child_variables(
            parse_child_name(name), own_interpreter=True, gpu=bool(options.get("gpu"))
        )
        key = (name, os.getcwd(), tuple(sorted(options.items())), _describe_variables(variables))
        free = self._free.get(key, [])
        if free:
            child = free.pop()
            child.begin_test()
            return child
        # Its folder for temporary files outlives the command.
        before, tempfile.tempdir = tempfile.tempdir, None
        try:
            return SharedChild(self, key, name, **options)
        finally:
            tempfile.tempdir = before

    def put(self, key: Key, child: SharedChild) -> None:
        if child.uses >= MOST_COMPARISONS:
            child.end()
        else:
            self._free.setdefault(key, []).append(child)

    def close(self) -> None:
        """End all free children."""
        for free in self._free.values():
            for child in free:
                child.end()
        self._free.clear()


class Template:
    """A process that has imported a runtime, and the parent's side of its copies."""

    def __init__(self, runtime: str, variables: Mapping[str, str]) -> None:
        """Start it; `variables` are all its environment variables."""
        self._lock = threading.Lock()
        self._is_ready = False
        self._control, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", "tests.child_template", runtime, "--control"]
            self._process = subprocess.Popen(
                [*command, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env=dict(variables),
            )

    def fork(self, variables: Mapping[str, str], log: IO[bytes]) -> WarmProcess | None:
        """Return a copy, whose standard error is `log`; None if the template has ended."""
        child_stdin, stdin = os.pipe()
        stdout, child_stdout = os.pipe()
        connection, exit_socket = socket.socketpair()
        descriptors = [child_stdin, child_stdout, log.fileno(), exit_socket.fileno()]
        umask = os.umask(0o077)
        os.umask(umask)
        message = {"variables": dict(variables), "folder": os.getcwd(), "umask": umask}
        try:
            with self._lock:
                if not self._is_ready:
                    sockets.receive(self._control)
                    self._is_ready = True
                sockets.send(self._control, message, descriptors)
                answer, (process,) = sockets.receive(self._control, 1)
        except (EOFError, OSError, ValueError):
            for each in (stdin, stdout):
                os.close(each)
            connection.close()
            return None
        finally:
            for each in (child_stdin, child_stdout):
                os.close(each)
            exit_socket.close()
        return WarmProcess(
            answer["pid"],
            process,
            connection,
            os.fdopen(stdin, "w", encoding="utf-8"),
            os.fdopen(stdout, "r", encoding="utf-8"),
        )

    def end(self) -> None:
        """End the template; its copies go on."""
        self._process.kill()
        self._process.wait()
        self._control.close()


class TemplatePool:
    """The templates of this process; its `take` is that of `parity.processes.warm.client`."""

    def __init__(self) -> None:
        self._templates: dict[Key, Template] = {}
        self._lock = threading.Lock()

    def take(
        self, runtime: str, variables: Mapping[str, str], log: IO[bytes]
    ) -> WarmProcess | None:
        """Return a new child with these variables; None if one has to be started."""
        key = (runtime, _describe_variables(variables))
        with self._lock:
            template = self._templates.pop(key, None) or Template(runtime, variables)
            self._templates[key] = template
            oldest = [*self._templates][:-_MOST_TEMPLATES]
            ended = [self._templates.pop(each) for each in oldest]
        for each in ended:
            each.end()
        return template.fork(variables, log)

    def close(self) -> None:
        """End all templates."""
        for template in self._templates.values():
            template.end()
        self._templates.clear()


def _describe_variables(variables: Mapping[str, str]) -> Key:
    """Return the environment variables that a child depends on."""
    return tuple(sorted((k, v) for k, v in variables.items() if k not in _IGNORED_VARIABLES))


def _describe_sources(folder: Path) -> Sources:
    """Return the time of change and the size of each Python file in a folder."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        with contextlib.suppress(OSError):
            status = path.stat()
            found[path.name] = (status.st_mtime_ns, status.st_size)
    return found
