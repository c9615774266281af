"""Print the memory that an export takes at its peak, over the size of the file that it writes.

    python -m tests.studies.exports.memory [MODEL ...] [--runs 3]

A model is the name of one of `keras.applications`, or "linear": six PyTorch layers of 4,096. Each
is exported in a process of its own, whose memory is read every few milliseconds, with that of its
children: the process that runs the proof is one. Counted are the resident pages at the peak, beyond
those of the process with the model loaded and the exporter imported. Pages of files count too: of
libraries that are imported later, and of the exported file itself, which the proof maps. What the
export of a tiny model takes is printed first: libraries and the process, whatever the model.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINEAR, TORCH_TINY, KERAS_TINY = "linear", "tiny torch", "tiny keras"
MODELS = (LINEAR, "VGG16", "ResNet152", "ConvNeXtBase")

_INTERVAL = 0.004
"""Seconds between two readings."""


def build(name: str, seed: int) -> Callable[[Path], Any]:
    """Return the export of a model that is loaded, as a function of the file's path."""
    if name in (LINEAR, TORCH_TINY):
        import torch

        from exporters import torch_onnx

        torch.manual_seed(seed)
        width = 4096 if name == LINEAR else 8
        module = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(6))).eval()
        return lambda path: torch_onnx.export(module, [(width,)], path)
    import keras

    from exporters import keras_onnx

    keras.utils.set_random_seed(seed)
    if name == KERAS_TINY:
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    else:
        model = getattr(keras.applications, name)(weights=None)
    return lambda path: keras_onnx.export(model, path)


def serve(name: str, seed: int) -> None:
    """Load a model, wait for a line on the standard input, export it, and say so."""
    warnings.simplefilter("ignore")
    export = build(name, seed)
    gc.collect()
    print("loaded", flush=True)
    sys.stdin.readline()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        steps = export(path).seconds
        data = path.with_name(path.name + ".data")
        size = sum(file.stat().st_size for file in (path, data) if file.exists())
    print(json.dumps({"size": size, "steps": steps}), flush=True)
    sys.stdin.readline()


def measure(name: str, seed: int = 0) -> tuple[int, int]:
    """Return the bytes of the file, and those of the memory at the peak beyond the start's."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.studies.exports.memory", "--serve", name, f"--seed={seed}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline().strip() != "loaded":
        raise SystemExit(f"{name}: the model cannot be loaded (exit code {process.wait()})")
    start = read_memory(process.pid)
    process.stdin.write("\n")
    process.stdin.flush()
    os.set_blocking(process.stdout.fileno(), False)
    peak, line = start, ""
    while not line:
        peak = max(peak, read_memory(process.pid))
        line = process.stdout.readline()
        if process.poll() is not None and not line:
            raise SystemExit(f"{name}: the export failed (exit code {process.returncode})")
        time.sleep(_INTERVAL)
    process.communicate("\n")
    return int(json.loads(line)["size"]), peak - start


def read_memory(pid: int) -> int:
    """Return the bytes of the resident pages of a process and its children."""
    total = 0
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        for each in (pid, *_children(pid)):
            # A child that is being started has the pages of its parent until it is another program.
            if each == pid or Path(f"/proc/{each}/cmdline").read_bytes() != command:
                total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    except (OSError, ValueError):  # a process that has just ended
        return 0
    return total * os.sysconf("SC_PAGE_SIZE")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_children(int(child))]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.seed)
        return
    for tiny in (TORCH_TINY, KERAS_TINY):
        print(f"{tiny:<14} peak {measure(tiny)[1] / 1e6:.0f} MB more", flush=True)
    for name in arguments.models:
        runs = [measure(name, seed) for seed in range(arguments.runs)]
        size = runs[0][0]
        peaks = ", ".join(f"{peak / 1e6:.0f}" for _, peak in runs)
        ratios = ", ".join(f"{peak / size:.2f}" for _, peak in runs)
        print(
            f"{name:<14} file {size / 1e6:.0f} MB, peak {peaks} MB more: {ratios} of the file",
            flush=True,
        )


if __name__ == "__main__":
    main()
