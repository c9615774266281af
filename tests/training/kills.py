"""Runs of `parity train` that are killed at random moments and resumed, and their comparison."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

COMMAND = (sys.executable, "-m", "parity.commands.cli.main", "train")


def run_killed(
    folder: Path, options: Sequence[str], *, kills: int, moments: random.Random, longest: float
) -> int:
    """Run, kill -9 after a random time up to `longest` seconds, resume, until the run is complete.

    The whole process group is killed, children and workers included. Returns the number of kills,
    at most `kills`: a run may be complete before.
    """
    done = 0
    while True:
        resume = ["--resume"] if (folder / "configuration.json").exists() else []
        process = subprocess.Popen(
            [*COMMAND, *options, "--out", str(folder), *resume],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if done < kills:
            limit = time.monotonic() + moments.uniform(0, longest)
            while process.poll() is None and time.monotonic() < limit:
                time.sleep(0.005)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                done += 1
                continue
        _, error = process.communicate(timeout=900)
        if process.returncode:
            raise RuntimeError(error.decode())
        return done


def list_differences(actual: Path, expected: Path) -> list[str]:
    """Return the files of a run whose bytes differ from those of an uninterrupted one.

    Those with times inside, the progress and the logs for TensorBoard, are compared without them.
    """
    names = {
        path.relative_to(folder)
        for folder in (actual, expected)
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts and path.name != "progress.json"
    }
    differing = [
        str(name)
        for name in sorted(names)
        if not (actual / name).is_file()
        or not (expected / name).is_file()
        or (actual / name).read_bytes() != (expected / name).read_bytes()
    ]
    progress = [_progress(folder) for folder in (actual, expected)]
    return differing if progress[0] == progress[1] else [*differing, "progress.json"]


def _progress(folder: Path) -> object:
    data = json.loads((folder / "progress.json").read_text())
    for framework in data["frameworks"].values():
        del framework["seconds"]
    return data
