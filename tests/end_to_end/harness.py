"""Running `parity` as a user does, and looking at what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parity.commands.cli import console
from parity.commands.cli.main import main as run_command_line

ROOT = Path(__file__).resolve().parents[2]
MARK = "PARITY_TEST_RUN"

# What the installed script does. With `-m`, Python itself may end as one that Ctrl-C has killed.
# Whoever runs the tests in the background may have had Ctrl-C ignored.
_SCRIPT = (
    "import _signal, sys; _signal.signal(_signal.SIGINT, _signal.default_int_handler); "
    "from parity.__main__ import main; sys.exit(main())"
)


# Writes down what the parent asks of its children, one line a request.
_COUNTER = """
import os, sys
if "parity.processes.worker" not in sys.orig_argv:
    from parity.processes.child import Child
    ask = Child.call

    def call(self, operation, **arguments):
        with open(os.environ["PARITY_TEST_ASKED"], "a") as log:
            print(self.name, operation, file=log)
        return ask(self, operation, **arguments)

    Child.call = call
"""


@dataclass(frozen=True)
class Requests:
    """What commands that run in the environment `env` ask of their children."""

    log: Path
    env: dict[str, str]

    def take(self) -> list[str]:
        """The requests since the last call, such as "torch export_structure"."""
        found = self.log.read_text().splitlines()
        self.log.unlink()
        return found


def counted(folder: Path) -> Requests:
    """An environment in which requests are counted; `folder` is for that alone."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_COUNTER)
    log = folder / "asked"
    return Requests(log, {"PYTHONPATH": str(folder), "PARITY_TEST_ASKED": str(log)})


@dataclass(frozen=True)
class Done:
    """One finished command; `left` are its temporary folders, `running` its processes."""

    code: int
    out: str
    err: str
    left: tuple[str, ...]
    running: tuple[int, ...]
    seconds: float

    @property
    def error(self) -> str:
        """The one line that the command must have ended with."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"expected one line on stderr, found:\n{self.err}"
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.err
        assert not self.out
        return lines[0].removeprefix("error: ")

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report that `--json -` printed."""
        assert self.out.startswith("{"), f"no report; stderr:\n{self.err}"
        return json.loads(self.out)


class Running:
    """A `parity` command at work, in a session of its own."""

    def __init__(self, arguments: tuple[str, ...], scratch: Path, env: dict[str, str]) -> None:
        self.scratch = scratch
        self.identity = uuid.uuid4().hex
        scratch.mkdir(parents=True, exist_ok=True)
        path = [str(ROOT), *filter(None, [env.pop("PYTHONPATH", "")])]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path),
                "TMPDIR": str(scratch),
                MARK: self.identity,
                "COLUMNS": "100",
                **env,
            },
        )

    def children(self) -> dict[str, int]:
        """The process of each runtime that has been started."""
        found = {}
        for pid in processes(self.identity):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "parity.processes.worker" in words:
                    found[words[words.index("parity.processes.worker") + 1]] = pid
        return found

    def wait_for(self, condition: Callable[[], Any], timeout: float = 60.0) -> Any:
        """What `condition` returns as soon as it is true."""
        end = time.perf_counter() + timeout
        while time.perf_counter() < end:
            found = condition()
            if found:
                return found
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)
        raise AssertionError("it never came")

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the parent alone, or as a terminal does, everybody."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def finish(self, timeout: float = 300.0) -> Done:
        out, err = self.process.communicate(timeout=timeout)
        seconds = time.perf_counter() - self.started
        # A process that was killed needs a moment until the kernel has let it go.
        end = time.perf_counter() + 2.0
        while processes(self.identity) and time.perf_counter() < end:
            time.sleep(0.05)
        left = tuple(path.name for path in self.scratch.glob("parity-*"))
        running = tuple(processes(self.identity))
        return Done(self.process.returncode, out, err, left, running, seconds)


def processes(identity: str) -> list[int]:
    """The living processes that a command has started, itself included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and f"{MARK}={identity}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def start(scratch: Path, *arguments: object, env: dict[str, str] | None = None) -> Running:
    """Start `parity` with a temporary folder of its own."""
    return Running(tuple(map(str, arguments)), scratch, dict(env or {}))


def parity(scratch: Path, *arguments: object, env: dict[str, str] | None = None) -> Done:
    """Run `parity` to its end; it must leave no temporary file and no process."""
    done = start(scratch, *arguments, env=env).finish()
    assert not done.left, f"temporary files were left: {done.left}"
    assert not done.running, f"processes were left: {done.running}"
    return done


def parity_here(scratch: Path, *arguments: object) -> Done:
    """Run `parity` in this process, where it may share its children with other commands.

    It must leave no temporary file. Its arguments, streams, folder and width are those of `parity`.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers = [signal.getsignal(number) for number in numbers]
    started = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("COLUMNS", "100")
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.setattr(console, "verbosity", "")
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        try:
            code = run_command_line(tuple(map(str, arguments)))
        finally:
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    left = tuple(path.name for path in scratch.glob("parity-*"))
    assert not left, f"temporary files were left: {left}"
    return Done(code, out, err, left, (), time.perf_counter() - started)
