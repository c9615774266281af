"""Warm children: who may take one, that each is used once, and that it is like a started one."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from parity.commands.cli import main as cli
from parity.commands.cli import warm as warm_command
from parity.commands.warm import read_status, warm
from parity.errors import ChildError, UsageError, WeightError
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.interpreters import is_own_interpreter
from parity.processes.subjects import parse_child_name
from parity.processes.variables import child_variables
from parity.processes.warm import client, identity, launch, sockets

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not sockets.is_supported(), reason="needs Linux")


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "too long"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The session's runtime folder; a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="pw"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    with contextlib.suppress(UsageError):
        launch.stop_servers()
    shutil.rmtree(folder)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with a runtime that needs no framework."""
    folder = tmp_path / "site-packages"
    shutil.copytree(ROOT / "tests" / "fakes" / "fake", folder / "kept" / "fake")
    (folder / "kept" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PARITY_RUNTIMES", "kept")
    for name in [name for name in sys.modules if name.split(".")[0] == "kept"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


@pytest.fixture
def server(runtime_folder: Path, packages: Path) -> launch.ServerStatus:
    return start()


def start(idle_s: float = 60.0) -> launch.ServerStatus:
    launch.start_server(["fake"], idle_s=idle_s, gpu=False)
    return ready()


def ready() -> launch.ServerStatus:
    def is_ready() -> bool:
        status = launch.find_servers()
        return bool(status) and status[0].is_ready and bool(status[0].children or status[0].refused)

    wait_until(is_ready)
    (status,) = launch.find_servers()
    return status


@contextlib.contextmanager
def child(**settings: object) -> Iterator[Child]:
    made = Child("fake", **settings)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.kill()
        made.close()


def is_warm(made: Child) -> bool:
    return isinstance(made._process, client.WarmProcess)


# Taking one ---------------------------------------------------------------------------------------


def test_a_child_is_taken_once_and_another_is_started_behind_it(
    server: launch.ServerStatus,
) -> None:
    with child() as first:
        assert is_warm(first)
        assert parent_of(first.pid) == server.pid
        assert first.call("load", value=1) == {}
        assert launch.find_servers()[0].children == {"fake": "in use"}
        # There is no second one yet: it is started as ever.
        with child() as cold:
            assert not is_warm(cold)
            assert cold.call("loaded")["held"] is None
        pid = first.pid
    assert not is_alive(pid)
    assert ready().children == {"fake": "ready"}
    with child() as second:
        assert is_warm(second)
        assert second.pid != pid
        assert second.call("loaded")["held"] is None


def test_a_spare_has_the_modules_that_models_need() -> None:
    """In a process of its own; ONNX Runtime has no module for each family."""
    code = """
        import sys
        from parity.processes.warm import spare
        spare.import_what_models_need("onnx")
        before = set(sys.modules)
        import numpy.random
        from parity.network import architectures, kinds
        architectures.get("resnext50_32x4d")
        kinds.get("conv")
        print(sorted(set(sys.modules) - before))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


def test_it_is_where_its_command_is(
    server: launch.ServerStatus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "another")
    before = os.umask(0o027)
    try:
        with child() as made:
            assert is_warm(made)
            made.call("echo", value=1)
            place = Path(f"/proc/{made.pid}")
            assert (place / "cwd").readlink() == tmp_path
            assert "Umask:\t0027" in (place / "status").read_text()
            litter = Path(made.call("litter")["path"])
            assert litter.exists()
            assert litter.parent == Path(made._temporary.name)
        assert not litter.exists()
    finally:
        os.umask(before)


def test_it_answers_fails_and_dies_like_a_started_one(server: launch.ServerStatus) -> None:
    with child() as made:
        assert is_warm(made)
        assert made.call("chatter") == {"said": 1000}
        with pytest.raises(WeightError, match="no such weight"):
            made.call("refuse", message="no such weight")
        with pytest.raises(ChildError, match=r"'die' \(exit code 7\).*last output: .*farewell"):
            made.call("die", code=7)
    ready()
    with child() as made:
        assert is_warm(made)
        made.call("echo", value=1)
        os.kill(made.pid, signal.SIGKILL)
        with pytest.raises(ChildError, match="SIGKILL, possibly out of memory"):
            made.call("sleep", seconds=30)
    ready()
    with child(timeout=0.3) as made:
        assert is_warm(made)
        with pytest.raises(ChildError, match=r"no answer to 'sleep' within 0\.3 s"):
            made.call("sleep", seconds=30)
        assert not is_alive(made.pid)


def test_two_threads_may_wait_for_its_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    connection, server_side = socket.socketpair()
    pipes = [os.fdopen(each, mode) for each, mode in zip(os.pipe(), "rw", strict=True)]
    taken = client.WarmProcess(
        process.pid, os.pidfd_open(process.pid), connection, pipes[1], pipes[0]
    )
    with ThreadPoolExecutor(8) as pool, server_side:
        codes = [pool.submit(taken.wait) for _ in range(8)]
        with pytest.raises(subprocess.TimeoutExpired):
            taken.wait(timeout=0.05)
        taken.kill()
        process.wait()
        sockets.send(server_side, {"exit": -signal.SIGKILL})
        assert {code.result(timeout=20) for code in codes} == {-signal.SIGKILL}
    taken.release()
    taken.kill()
    for pipe in pipes:
        pipe.close()


def test_closing_ends_it_and_suspending_takes_another(server: launch.ServerStatus) -> None:
    made = Child("fake")
    made.call("load", value=1)
    pid = made.pid
    made.suspend()
    wait_until(lambda: not is_alive(pid))
    ready()
    after = made.call("loaded")
    assert is_warm(made)
    assert (after["held"], after["pid"]) == ([1], made.pid)
    assert made.pid != pid
    made.close()
    wait_until(lambda: not is_alive(made.pid))


def test_a_closed_child_is_not_in_use_while_its_memory_is_freed(
    server: launch.ServerStatus,
) -> None:
    with child() as made:
        made.call("echo", value=1)
        # A process that does not end for now, as a large one does not.
        process = made._process
        os.kill(made.pid, signal.SIGSTOP)
        try:
            process.release()  # type: ignore[union-attr]
            wait_until(lambda: launch.find_servers()[0].children == {"fake": "ready"})
            assert is_alive(process.pid)
            with child() as second:
                assert is_warm(second)
        finally:
            os.kill(process.pid, signal.SIGKILL)


def test_it_is_gone_after_an_interruption(server: launch.ServerStatus) -> None:
    seen = []

    def interrupted() -> None:
        with Children() as children:
            seen.append(children["fake"])
            children["fake"].call("echo", value=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert is_warm(seen[0])
    assert not is_alive(seen[0].pid)


def test_it_ends_with_a_command_that_is_killed(server: launch.ServerStatus) -> None:
    code = textwrap.dedent("""
        import os, threading
        from parity.processes.child import Child
        child = Child("fake")
        threading.Thread(target=lambda: child.call("sleep", seconds=60), daemon=True).start()
        print(child.pid, flush=True)
        input()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert parent_of(pid) == server.pid
    process.kill()
    process.wait()
    wait_until(lambda: not is_alive(pid))


# Who gets none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OMP_NUM_THREADS", "1"),
        ("TF_NUM_INTRAOP_THREADS", "1"),
        ("LD_LIBRARY_PATH", "/nowhere"),
        ("SOMETHING_ELSE", "1"),
        ("PYTHONPATH", None),
        ("PYTHONPATH", "relative"),
    ],
)
def test_another_environment_gets_none(
    server: launch.ServerStatus, packages: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, value: str | None,
) -> None:  # fmt: skip
    more = f"{packages}{os.pathsep}{value or packages.parent}"
    monkeypatch.setenv(name, more if name == "PYTHONPATH" else str(value))
    with child() as made:
        assert not is_warm(made)
        assert made.call("echo", value=1) == {"value": 1}


def test_a_server_for_another_shell_says_so_and_is_replaced(
    server: launch.ServerStatus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server.differences == ()
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    (found,) = launch.find_servers()
    assert (found.pid, found.differences) == (server.pid, ("variable SOMETHING_ELSE",))
    warm_command._print_status(read_status())
    said = capsys.readouterr().out
    assert "not for this shell, which has another variable SOMETHING_ELSE" in said
    monkeypatch.setattr("parity.commands.warm._select_runtimes", lambda names: ["fake"])
    monkeypatch.setattr("parity.commands.warm._has_gpu", lambda: False)
    # The same shell as before keeps its server, this one gets its own.
    monkeypatch.delenv("SOMETHING_ELSE")
    assert warm().current.pid == server.pid  # type: ignore[union-attr]
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    (replaced,) = warm().servers
    assert replaced.pid != server.pid
    assert replaced.differences == ()
    with child() as made:
        assert is_warm(made)


@pytest.mark.parametrize(
    ("name", "gpu"), [("keras", True), ("keras[jax]", False), ("keras[torch]", False)]
)
def test_a_backend_and_a_gpu_are_other_environments(name: str, gpu: bool) -> None:
    keys = [
        identity.hash_child(
            "keras", child_variables(parse_child_name(each), own_interpreter=True, gpu=on)
        )
        for each, on in (("keras", False), (name, gpu), ("keras", False))
    ]
    assert keys[0] == keys[2] != keys[1]


def test_other_limits_and_cores_get_none(server: launch.ServerStatus) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    other = 4096 if soft != 4096 else 0
    cores = os.sched_getaffinity(0)
    resource.setrlimit(resource.RLIMIT_CORE, (min(other, hard) if hard >= 0 else other, hard))
    try:
        if resource.getrlimit(resource.RLIMIT_CORE)[0] != soft:
            with child() as made:
                assert not is_warm(made)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    if len(cores) > 1:
        os.sched_setaffinity(0, {min(cores)})
        try:
            with child() as made:
                assert not is_warm(made)
        finally:
            os.sched_setaffinity(0, cores)
    with child() as made:
        assert is_warm(made)


def test_a_configuration_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    variables = child_variables(parse_child_name("keras"), own_interpreter=True, gpu=False)
    before = identity.hash_child("keras", variables)
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text("{}")
    assert identity.hash_child("keras", variables) != before


def test_another_interpreter_gets_none(server: launch.ServerStatus, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert not is_own_interpreter(str(python))
    with child(python=str(python)) as made:
        assert not is_warm(made)


def test_after_an_installation_nobody_gets_one_and_the_server_ends(
    server: launch.ServerStatus, runtime_folder: Path, packages: Path
) -> None:
    (path,) = (runtime_folder / "parity").glob("*.sock")
    (packages / "new-1.0.dist-info").mkdir()
    with child() as made:
        assert not is_warm(made)
    # Whoever still knows the socket gets none either.
    connection = sockets.connect(path)
    assert connection is not None
    sockets.send(connection, {"operation": "take", "runtime": "fake", "key": ""})
    with pytest.raises(EOFError):
        sockets.receive(connection)
    wait_until(lambda: not path.exists() and not is_alive(server.pid))


def test_a_child_that_has_run_a_file_of_the_user_is_not_kept(
    runtime_folder: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "sitecustomize.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", f"{mine}{os.pathsep}{packages}")
    status = start()
    assert status.refused == {"fake": f"its import runs a file of yours, {mine}/sitecustomize.py"}
    with child() as made:
        assert not is_warm(made)


def test_a_runtime_that_cannot_start_is_not_started_again_and_again(
    runtime_folder: Path, packages: Path
) -> None:
    (packages / "kept" / "fake" / "runtime.py").write_text("import os; os._exit(3)")
    assert start().refused == {"fake": "it ended with exit code 3 while it started"}


# The server's life --------------------------------------------------------------------------------


def test_it_ends_when_it_is_idle(runtime_folder: Path, packages: Path) -> None:
    launch.start_server(["fake"], idle_s=1.0, gpu=False)
    (path,) = (runtime_folder / "parity").glob("*.sock")
    (pid,) = (each.pid for each in launch.find_servers())
    wait_until(lambda: not is_alive(pid))
    assert not path.exists()


def test_a_child_in_use_is_no_idle_time_and_outlives_a_stop(
    runtime_folder: Path, packages: Path
) -> None:
    status = start(idle_s=2.0)
    with child() as made:
        assert is_warm(made)
        made.call("sleep", seconds=3.5)
        assert is_alive(status.pid)
        (stopped,) = launch.stop_servers()
        assert stopped.pid == status.pid
        assert launch.find_servers() == []
        assert made.call("echo", value=1) == {"value": 1}
        with pytest.raises(ChildError, match="exit code 7"):
            made.call("die", code=7)
    wait_until(lambda: not is_alive(status.pid))


def test_a_server_that_is_killed_leaves_a_child_in_use_and_no_spare(
    server: launch.ServerStatus,
) -> None:
    with child() as made:
        assert is_warm(made)
        made.call("echo", value=1)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(server.pid))
        assert made.call("echo", value=2) == {"value": 2}
        with pytest.raises(ChildError, match=r"died during 'die' \(exit code unknown\)"):
            made.call("die", code=7)
    assert launch.find_servers() == []
    other = start()
    spares = _children_of(other.pid)
    assert spares
    os.kill(other.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, spares)))
    with child() as made:
        assert not is_warm(made)


def _children_of(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if parent_of(int(place.name)) == pid:
                found.append(int(place.name))
    return found


# Who may ask --------------------------------------------------------------------------------------


def test_socket_and_folder_are_private(server: launch.ServerStatus, runtime_folder: Path) -> None:
    folder = runtime_folder / "parity"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_gets_no_answer(server: launch.ServerStatus, runtime_folder: Path) -> None:
    """Even if somebody has opened the folder and the socket to all."""
    (path,) = (runtime_folder / "parity").glob("*.sock")
    for each, mode in ((runtime_folder, 0o755), (path.parent, 0o755), (path, 0o666)):
        each.chmod(mode)
    code = textwrap.dedent(f"""
        import json, os, socket, struct
        os.setuid(65534)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect({str(path)!r})
        data = json.dumps({{"operation": "status"}}).encode()
        try:
            connection.sendall(struct.pack("!I", len(data)) + data)
            print(len(connection.recv(100)))
        except (BrokenPipeError, ConnectionResetError):
            print(0)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr
    for each, mode in ((runtime_folder, 0o700), (path.parent, 0o700), (path, 0o600)):
        each.chmod(mode)


def test_a_folder_that_is_not_private_is_refused_and_nothing_is_taken(
    runtime_folder: Path, packages: Path
) -> None:
    def refused() -> str:
        with pytest.raises(UsageError) as raised:
            launch.find_servers()
        with child() as made:
            assert not is_warm(made)
        return str(raised.value)

    folder = runtime_folder / "parity"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    assert "others may open it (mode 755); chmod 700 it" in refused()
    folder.rmdir()
    elsewhere = runtime_folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    assert "expected a folder, found a symbolic link" in refused()
    folder.unlink()
    if os.getuid() == 0:
        folder.mkdir(mode=0o700)
        os.chown(folder, 65534, 65534)
        assert "belongs to user 65534" in refused()
        folder.rmdir()
    runtime_folder.chmod(0o755)
    assert "others may open it" in refused()
    runtime_folder.chmod(0o700)


def test_without_a_runtime_folder_it_is_one_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert sockets.find_folder() is None
    folder = sockets.find_folder(create=True)
    assert folder == tmp_path / f"parity-warm-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


# The command --------------------------------------------------------------------------------------


def test_bad_input_of_the_command_is_one_line(
    runtime_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert cli.main(["warm", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "unknown runtime 'tensorflow'" in refused("tensorflow")
    assert "--idle: expected minutes above 0, found 0" in refused("--idle", "0")
    assert "--stop ends everything" in refused("--stop", "torch")
    assert cli.main(["warm", "--stop"]) == 0
    assert "nothing is kept; `parity warm` starts it" in capsys.readouterr().out


NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.act = torch.nn.LeakyReLU({slope})

    def forward(self, x):
        return self.act(x)

def build():
    return Net(), torch.linspace(-1, 1, 8).reshape(1, 8)
"""


@pytest.mark.framework
def test_a_changed_module_of_the_user_is_seen_at_once(
    runtime_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Two comparisons with the same warm server, between which a file changes."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(NET.format(slope=0.1))
    words = ["compare", "a.py:build", "b.py:build", "--no-export", "--json", "r.json"]

    def compare() -> int:
        assert cli.main(["warm", "torch"]) == 0
        assert "torch ready" in capsys.readouterr().out
        code = cli.main(words)
        capsys.readouterr()
        return code

    assert compare() == 0
    (tmp_path / "b.py").write_text(NET.format(slope=0.2))
    assert compare() == 1
    (tmp_path / "b.py").write_text(NET.format(slope=0.1))
    assert compare() == 0
    assert cli.main(["warm", "--stop"]) == 0
    assert "stopped, process" in capsys.readouterr().out
