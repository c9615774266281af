"""A second `parity compare` with warm children, against the three bare frameworks.

    python -m tests.studies.benchmarks.warm_children [--model resnext50_32x4d] [--runs 5]

The two take turns, so that a machine that slows down slows both. Before each comparison the
children are ready, as they are for a user who has looked at the last result. It exits with 1 above
the limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.studies.benchmarks import bare, compare

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 0.35
"""The largest ratio of the medians."""


@contextmanager
def private_sockets() -> Iterator[None]:
    """Have a runtime folder of our own while open, and stop the server at the end."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="pw") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        try:
            yield
        finally:
            run_warm("--stop")
            if before is None:
                del os.environ["XDG_RUNTIME_DIR"]
            else:
                os.environ["XDG_RUNTIME_DIR"] = before


def run_warm(*words: str) -> str:
    """Run `parity warm`, which returns when the children are ready; return what it prints."""
    command = [sys.executable, "-m", "parity.commands.cli.main", "warm", *words]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


def time_warm(cache: Path, *arguments: str) -> float:
    """Return the wall time of one command whose children are ready."""
    # The server's children have the variables of the command.
    before = os.environ.get("PARITY_CACHE")
    os.environ["PARITY_CACHE"] = str(cache)
    try:
        run_warm()
        seconds = compare.time_command(cache, *arguments)
        taken = run_warm("--status")
    finally:
        if before is None:
            del os.environ["PARITY_CACHE"]
        else:
            os.environ["PARITY_CACHE"] = before
    assert " ready" not in taken, f"a child was not taken: {taken}"
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    name = arguments.model
    bares, warms, colds = [], [], []
    with tempfile.TemporaryDirectory() as scratch, private_sockets():
        folder = Path(scratch)
        file = bare.prepare(name, folder)
        cache = folder / "cache"
        compare.time_command(cache, "compare", name)
        for number in range(arguments.runs):
            bares.append(sum(bare.time_runtimes(name, file).values()))
            warms.append(time_warm(cache, "compare", name))
            run_warm("--stop")
            colds.append(compare.time_command(cache, "compare", name))
            print(
                f"run {number + 1}: bare {bares[-1]:.2f} s, warm children {warms[-1]:.2f} s, "
                f"without {colds[-1]:.2f} s",
                flush=True,
            )
    base = statistics.median(bares)
    ratio = statistics.median(warms) / base
    print(
        f"median of {arguments.runs}: bare {base:.2f} s; with warm children {ratio:.2f}×, without "
        f"{statistics.median(colds) / base:.2f}×; at most {LIMIT}× is promised"
    )
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
