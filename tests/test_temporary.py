"""Temporary names state their owner, and only what nobody owns any more is removed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parity import files, temporary

# Leaves a file, a folder and a half-written target behind, as a process that is killed does.
LEAVE = (
    "import os, sys; from pathlib import Path; from parity import files, temporary\n"
    "folder = Path(sys.argv[1])\n"
    "part = files.PartialFile(folder / 'out.weights.h5')\n"
    "part.path.write_text('half')\n"
    "working = temporary.create_folder(folder)\n"
    "(Path(working.name) / 'capture').write_text('x')\n"
    "print('ready', flush=True)\n"
    "sys.stdin.read() if len(sys.argv) > 2 else os._exit(0)\n"
)


def _leave(folder: Path, *, alive: bool = False) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(folder), *(["stay"] if alive else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    if not alive:
        process.wait()
    return process


def test_what_a_dead_process_left_is_removed_by_the_next_write(tmp_path):
    _leave(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    temporary._sweep_once.cache_clear()
    files.write_text(tmp_path / "other.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_what_a_live_process_writes_stays(tmp_path):
    process = _leave(tmp_path, alive=True)
    before = sorted(tmp_path.iterdir())
    temporary.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    process.kill()
    process.wait()
    temporary.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_process_number_that_was_given_again_is_no_owner(tmp_path):
    name = temporary.owned_prefix() + "x.txt"
    pid = f"-{os.getpid()}-"
    own, other = tmp_path / name, tmp_path / name.replace(pid, f"{pid}9")
    own.touch()
    other.touch()
    temporary.sweep(tmp_path)
    assert own.exists()
    assert not other.exists()


def test_a_process_of_another_namespace_is_left_for_a_day(tmp_path):
    """Two containers that share a folder may have the same process number."""
    name = temporary.owned_prefix() + "x.txt"
    machine = temporary._machine()
    assert machine in name
    path = tmp_path / name.replace(machine, "0" * 8 + "-" + "1" * 8)
    path = path.with_name(path.name.replace(f"-{os.getpid()}-", "-999999999-"))
    path.touch()
    temporary.sweep(tmp_path)
    assert path.exists()
    old = time.time() - temporary.FOREIGN_S - 60
    os.utime(path, (old, old))
    temporary.sweep(tmp_path)
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes namespaces everywhere")
def test_the_same_process_number_in_another_namespace_is_another_owner(tmp_path):
    """In a new process-number namespace every process is dead for the others."""
    own = tmp_path / (temporary.owned_prefix() + "x.txt")
    own.touch()
    sweep = "import sys; from pathlib import Path; from parity import temporary;"
    sweep += "temporary.sweep(Path(sys.argv[1])); print(temporary.owned_prefix())"
    command = ["unshare", "-pf", "--mount-proc", sys.executable, "-c", sweep, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr}")
    assert temporary._machine() not in done.stdout
    assert own.exists()


@pytest.mark.parametrize(
    "name",
    ["parity-report.html", ".parity-1-2.txt", "parity-aaaa", ".out.weights.h5", "parity.toml"],
)
def test_nothing_else_is_removed(tmp_path, name):
    (tmp_path / name).touch()
    temporary.sweep(tmp_path)
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["x.weights.h5", "x" * 255, "é" * 127, "x" * 240 + ".weights.h5"])
def test_a_name_ends_as_the_target_and_fits(tmp_path, name):
    part = files.PartialFile(tmp_path / name)
    part.path.write_text("x")
    assert temporary.is_temporary(part.path.name)
    assert part.path.name.endswith(name[-12:])
    part.commit()
    assert [path.name for path in tmp_path.iterdir()] == [name]
