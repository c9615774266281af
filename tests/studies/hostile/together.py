"""Three comparisons at once on one cold cache, in two process-number namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from parity import temporary

SCRIPT = "import sys; from parity.__main__ import main; sys.exit(main())"
ARGUMENTS = ("compare", "resnet18", "--classes", "10", "--image-size", "32", "--json", "-")
NAMESPACE = ("unshare", "-pf", "--mount-proc")


def main() -> int:
    """Compare, print a Markdown table, and return 1 unless all three agree and the cache is whole.

    Where namespaces cannot be made, all three run in the same one, which the table says.
    """
    possible = subprocess.run([*NAMESPACE, "true"], stderr=subprocess.DEVNULL).returncode == 0
    prefixes: list[tuple[str, ...]] = [(), (), NAMESPACE if possible else ()]
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        cold = _run(prefixes, folder)
        left = [path.name for path in folder.rglob("*") if temporary.is_temporary(path.name)]
        entries = [path for path in (folder / "cache").rglob("*") if path.suffix in _ENTRIES]
        warm = _run([()], folder)
    print("| run | namespace | verdict | notes |\n|---|---|---|---|")
    for number, (code, report) in enumerate([*cold, *warm], 1):
        where = "another" if number == len(cold) and possible else "this"
        notes = "; ".join(str(note) for note in report.get("notes", []))
        state = "cold" if number <= len(cold) else "warm"
        print(f"| {number}, {state} | {where} | {report.get('verdict')} ({code}) | {notes} |")
    print(f"\n{len(entries)} entries in the cache, {len(left)} temporary files left")
    return 1 if left or any(code for code, _ in (*cold, *warm)) else 0


_ENTRIES = (".onnx", ".safetensors")


def _run(prefixes: list[tuple[str, ...]], folder: Path) -> list[tuple[int, dict]]:
    """Run a comparison behind each prefix, all at once; return exit codes and reports."""
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PARITY_CACHE": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
    }
    processes = [
        subprocess.Popen(
            [*prefix, sys.executable, "-c", SCRIPT, *ARGUMENTS],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for prefix in prefixes
    ]
    results = []
    for process in processes:
        out, _ = process.communicate()
        results.append((process.returncode, json.loads(out) if out.startswith("{") else {}))
    return results
