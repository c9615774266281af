"""The largest resident memory of the parent process of a comparison, its children not counted.

python -m tests.studies.benchmarks.memory [--model resnext50_32x4d] [--batch 16] [--depth layer]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# RUSAGE_SELF leaves out the children; its maximum is of resident pages, files that are mapped
# included, in KiB on Linux.
PARENT = """
import json, resource, sys
from parity.commands.cli.main import main
code = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"code": code, "peak": peak * 1024}), file=sys.stderr)
"""


def measure_peak(cache: Path, *arguments: str) -> int:
    """Return the largest resident size in bytes; raises unless the exit code is 0."""
    process = subprocess.run(
        [sys.executable, "-c", PARENT, *arguments],
        cwd=ROOT,
        env={**os.environ, "PARITY_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer = json.loads(process.stderr.strip().splitlines()[-1])
    if answer["code"]:
        raise SystemExit(f"the comparison ended with {answer['code']}:\n{process.stderr}")
    size: int = answer["peak"]
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--batch", default="16")
    parser.add_argument("--depth", default="layer")
    arguments = parser.parse_args()
    options = ("--batch", arguments.batch, "--depth", arguments.depth)
    with tempfile.TemporaryDirectory() as folder:
        size = measure_peak(Path(folder), "compare", arguments.model, *options)
    print(f"{size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
