"""`parity bisect` over real releases, of the index that pip is configured with.

    python -m tests.studies.bisect.index [--package onnxruntime --good 1.31.0 --bad 1.32.0]

A network that reads the version of a small package changes in one of its releases, which is
followed. Then the releases between two of another package are listed, and both ends are compared
on a network that they compute alike: that must be said in one line. It exits with 1 if anything is
otherwise.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import parity
from parity.commands.cli import main as cli
from parity.errors import UsageError
from parity.processes import releases

PACKAGE, GOOD, FIRST_BAD, BAD = "toolz", "0.11.0", "0.12.0", "1.0.0"
"""A package without dependencies, and the release that changes the network."""

NETWORK = f'''
import toolz
import torch
from packaging.version import Version
from torch import nn

EPSILON = 1e-2 if Version(toolz.__version__) >= Version("{FIRST_BAD}") else 1e-5


def build():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8, eps=EPSILON), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 14 * 14, 10),
    )
    return layers.eval(), torch.randn(1, 3, 16, 16)
'''

PLAIN = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    return layers.eval(), torch.randn(1, 3, 16, 16)
"""


def list_between(package: str, good: str, bad: str) -> list[str]:
    """Return the releases from one to another, as the index lists them."""
    known = releases.list_releases_with_ends(package, (good, bad))
    return releases.select_releases(package, known, good, bad)


def follow_release() -> dict[str, bool]:
    """Follow the change to its release; return what must hold, and whether it does."""
    names = list_between(PACKAGE, GOOD, BAD)
    with _write_network(NETWORK) as network:
        found = parity.bisect(f"{network}:build", package=PACKAGE, good=GOOD, bad=BAD, device="cpu")
    print(found.sentence)
    return {
        "release": found.bad == FIRST_BAD and found.found,
        "the one before": names.index(found.good) == names.index(found.bad) - 1,
        "cause": "psilon" in found.cause,
        "comparisons": len(found.trials) - 2 <= math.ceil(math.log2(len(names))),
        "exit code": found.exit_code == 0,
    }


def compare_equal_releases(package: str, good: str, bad: str) -> str:
    """Return the error of two ends that do not differ; empty if there is none."""
    with _write_network(PLAIN) as network:
        try:
            parity.bisect(f"{network}:build", package=package, good=good, bad=bad, device="cpu")
        except UsageError as error:
            return str(error)
    return ""


@contextmanager
def _write_network(source: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network.py"
        network.write_text(source)
        yield network


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.bisect.index")
    parser.add_argument("--package", default="onnxruntime")
    parser.add_argument("--good", default="1.31.0")
    parser.add_argument("--bad", default="1.32.0")
    arguments = parser.parse_args()
    start = time.perf_counter()
    print(f"{PACKAGE}: {', '.join(list_between(PACKAGE, GOOD, BAD))}", flush=True)
    failed = [name for name, holds in follow_release().items() if not holds]
    print(f"{f'NOT: {failed}' if failed else 'found'}, {time.perf_counter() - start:.0f} s")
    package, good, bad = arguments.package, arguments.good, arguments.bad
    print(f"{package}: {', '.join(list_between(package, good, bad))}", flush=True)
    with _write_network(PLAIN) as network:
        words = ["bisect", f"{network}:build", "--package", package, "--good", good, "--bad", bad]
        code = cli.main([*words, "--device", "cpu"])
    print(f"exit code {code}")
    return 1 if failed or code != 2 else 0


if __name__ == "__main__":
    sys.exit(main())
