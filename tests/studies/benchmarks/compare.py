"""`parity compare` as a user runs it, with and without a cache, and PyTorch's own verification.

python -m tests.studies.benchmarks.compare [--model resnext50_32x4d]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def time_command(cache: Path, *arguments: str) -> float:
    """Return the wall time of one command with this cache; raises unless its exit code is 0."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "parity.commands.cli.main", *arguments],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PARITY_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def time_verification(name: str) -> float:
    """Return the seconds of PyTorch's own comparison of every intermediate value with ONNX Runtime.

    `torch.onnx.verification.verify_onnx_program(compare_intermediates=True)`, without the export
    before it; it runs in a process of its own, since it leaves much in memory.
    """
    command = [
        sys.executable,
        "-m",
        "tests.studies.benchmarks.compare",
        "--verify",
        "--model",
        name,
    ]
    process = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    value: float = json.loads(process.stdout.strip().splitlines()[-1])["seconds"]
    return value


def _run_verification(name: str) -> None:
    import importlib

    import torch
    from torch.onnx import verification

    from parity.network import architectures

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    spec = architectures.get(name)
    module = (
        importlib.import_module(f"parity.network.models.{spec.family}.torch").build(spec).eval()
    )
    example = (torch.randn((1, *spec.input_shape)),)
    program = torch.onnx.export(module, example, dynamo=True, verbose=False)
    start = time.perf_counter()
    verification.verify_onnx_program(program, example, compare_intermediates=True)
    print(json.dumps({"seconds": time.perf_counter() - start}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--verify", action="store_true", help="only PyTorch's own verification")
    arguments = parser.parse_args()
    if arguments.verify:
        _run_verification(arguments.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        for label in ("cold", "warm"):
            print(f"{label}  {time_command(Path(folder), 'compare', arguments.model):.2f} s")


if __name__ == "__main__":
    main()
