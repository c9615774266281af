"""A script in a process of its own: its output, its code, its time limit."""

from __future__ import annotations

import os
import time

from parity.processes.scripts import run_script


def test_a_script_gives_its_code_and_its_output(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import os, sys\nprint(sys.argv[1:], os.path.basename(os.getcwd()))\nraise ValueError('x')"
    )
    ended = run_script(path, ["a b"], python=None, timeout=60)
    assert ended.code == 1
    assert ended.out.strip() == f"['a b'] {tmp_path.name}"
    assert ended.last_line == "ValueError: x"


def test_a_script_that_takes_too_long_is_killed_with_what_it_started(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
        "open('pid', 'w').write(str(child.pid))\n"
        "time.sleep(100)\n"
    )
    started = time.monotonic()
    ended = run_script(path, python=None, timeout=3)
    assert ended.code is None
    assert time.monotonic() - started < 30
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):
            break
        with open(f"/proc/{pid}/stat") as stream:
            if stream.read().rpartition(")")[2].split()[0] == "Z":
                break
        time.sleep(0.05)
    else:
        raise AssertionError("the script's own child is still running")
