"""Many comparisons in one process: memory, open files, temporary files and processes stay flat."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

WARM_UP = 5
"""Comparisons before the first measurement: caches of modules fill."""
MEMORY = 32 * 2**20
"""Bytes that the resident memory may grow by: NumPy's and Python's own allocation."""


def measure() -> dict[str, int]:
    """Return the resident bytes, open files and child processes of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    pid = os.getpid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "open files": len(os.listdir("/proc/self/fd")),
        "processes": len(children),
        "threads": len(os.listdir("/proc/self/task")),
    }


def main(count: int) -> int:
    """Compare `count` times, print a Markdown table, and return 1 if a figure has grown."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        os.environ["PARITY_CACHE"] = str(folder / "cache")
        os.environ["TMPDIR"] = str(folder / "tmp")
        tempfile.tempdir = None
        import parity

        rows = []
        for number in range(1, count + 1):
            report = parity.compare(
                "resnet18", image_size=32, classes=10, subjects=["torch"], explain=False
            )
            if not report.ok:
                raise RuntimeError(report.verdict)
            files = len(list((folder / "tmp").iterdir()))
            rows.append({"run": number, **measure(), "temporary files": files})
        tempfile.tempdir = None
        first, last = rows[min(WARM_UP, count) - 1], rows[-1]
    print(f"| after run | {' | '.join(key for key in first if key != 'run')} |")
    print(f"|---|{'---:|' * (len(first) - 1)}")
    step = max(1, count // 5)
    shown = [first, *rows[step - 1 : -1 : step], last] if count > WARM_UP else rows
    for row in sorted({row["run"]: row for row in shown}.values(), key=lambda row: row["run"]):
        figures = [
            f"{value / 1e6:.0f} MB" if key == "memory" else str(value)
            for key, value in row.items()
            if key != "run"
        ]
        print(f"| {row['run']} | {' | '.join(figures)} |")
    grown = [key for key in first if key not in ("run", "memory") and last[key] > first[key]]
    if last["memory"] - first["memory"] > MEMORY:
        grown.append("memory")
    if grown:
        print(f"\ngrown: {', '.join(grown)}")
    return 1 if grown else 0
