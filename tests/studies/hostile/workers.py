"""Processes that have imported a framework, and become a worker of parity by a fork.

A comparison starts a process for each framework, whose import takes seconds; a campaign of
thousands cannot wait for that. `Zygote` imports it once and forks at every request. The program
`LAUNCHER` stands in for the interpreter that parity starts: it hands its standard streams to the
zygote, and ends as the worker does.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path

LAUNCHER = """
import array, json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
text = json.dumps({"variables": dict(os.environ), "folder": os.getcwd()}).encode()
fds = array.array("i", [0, 1, 2]).tobytes()
link.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
for number in (0, 1, 2):
    os.close(number)
status = int.from_bytes(link.recv(4), "little", signed=True)
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


def serve(runtime: str, path: str) -> None:
    """Import a runtime, then fork a worker at each request, until the parent has ended."""
    # The parent holds the other end of standard input.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import importlib

    from parity.processes import registry

    importlib.import_module(registry.get(runtime).module)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        link, _ = server.accept()
        pid = os.fork()
        if pid == 0:
            server.close()
            _handle(link, runtime)
        link.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def _handle(link: socket.socket, runtime: str) -> None:
    """Fork the worker itself, and report how it ended; its peak memory goes to a file."""
    text, ancillary, _, _ = link.recvmsg(2**20, socket.CMSG_SPACE(12))
    fds = array.array("i")
    for _, _, data in ancillary:
        fds.frombytes(data[:12])
    request = json.loads(text)
    pid = os.fork()
    if pid == 0:
        for target, source in enumerate(fds):
            os.dup2(source, target)
        os.closerange(3, 256)
        os.environ.clear()
        os.environ.update(request["variables"])
        with contextlib.suppress(OSError):
            os.chdir(request["folder"])
        sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        sys.path.insert(0, request["folder"])
        import tempfile

        tempfile.tempdir = None
        from parity.processes import worker

        try:
            worker.main(runtime)
        except BaseException:  # noqa: BLE001 (a worker that fails to start ends with 1)
            os._exit(1)
        os._exit(0)
    for fd in fds:
        os.close(fd)
    threading.Thread(target=_end_with_launcher, args=(link, pid), daemon=True).start()
    _, status, usage = os.wait4(pid, 0)
    log = request["variables"].get("PARITY_TEST_PEAKS")
    if log:
        with open(log, "a", encoding="utf-8") as file:
            print(usage.ru_maxrss, usage.ru_utime + usage.ru_stime, file=file)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        link.send(code.to_bytes(4, "little", signed=True))
    os._exit(0)


def _end_with_launcher(link: socket.socket, pid: int) -> None:
    """Kill the worker when the launcher has ended, as a signal to the worker itself would."""
    link.recv(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Zygotes:
    """The zygotes of some runtimes, and the launcher that reaches them."""

    def __init__(self, folder: Path, runtimes: tuple[str, ...]):
        import subprocess

        self._folder = folder
        (folder / "launcher.py").write_text(LAUNCHER)
        self._processes = {
            name: subprocess.Popen(
                [sys.executable, "-m", "tests.studies.hostile.workers", name, self._socket(name)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            )
            for name in runtimes
        }
        for name, process in self._processes.items():
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the zygote of {name} did not start")

    def _socket(self, name: str) -> str:
        return str(self._folder / f"{name}.socket")

    def install(self) -> None:
        """Let this process start its workers through the zygotes."""
        import subprocess

        original = subprocess.Popen
        sockets = {name: self._socket(name) for name in self._processes}
        launcher = str(self._folder / "launcher.py")

        class Popen(original):  # type: ignore[misc, valid-type]
            def __init__(self, args: object, *rest: object, **options: object) -> None:
                if isinstance(args, list) and args[1:3] == ["-m", "parity.processes.worker"]:
                    args = [sys.executable, "-SE", launcher, sockets[args[3]]]
                super().__init__(args, *rest, **options)

        subprocess.Popen = Popen  # type: ignore[misc]

    def close(self) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.argv[1], sys.argv[2])
