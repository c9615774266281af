"""Print which exported files are right, which models are refused, and which files are wrong.

    python -m tests.studies.exports [--only torch] [--names PATTERN] [--exporters ours,tf2onnx]
                                    [--runs 3] [--out FILE]
    python -m tests.studies.exports --broken

Every file is compared with the framework's own outputs outside the exporter: a session of ONNX
Runtime of its own, N = 1, 2, 3, new inputs, several seeds. Models are run in children that are
replaced when one crashes. With --broken, graphs that are broken in one node on purpose are given to
the exporter's verification, which must refuse every one that changes a number.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.studies.exports.case import Case, judge

OURS = "ours"
EXPORTERS = {
    "torch": (OURS, "torch.onnx"),
    "keras": (OURS, "tf2onnx", "keras"),
}
"""By framework, this project's exporter and the others."""

FRAMEWORKS = tuple(EXPORTERS)
SEEDS = (11, 12)
PASS, REFUSED, WRONG = "right", "refused", "wrong"

_LIMIT = 600.0
"""Seconds after which a model counts as one that hangs."""


def cases_of(framework: str) -> list[Case]:
    """Return a framework's table, or none where it is not there."""
    try:
        return list(importlib.import_module(f"tests.studies.exports.{framework}_models").CASES)
    except ModuleNotFoundError as error:
        print(f"{framework}: not run ({error})", file=sys.stderr)
        return []


def run_case(case: Case, exporters: Sequence[str], runs: int = 1) -> dict[str, Any]:
    """Return, by exporter, the verdict, the reason or worst error, and the seconds.

    The seconds are the median of `runs` exports, in turns.
    """
    model = case.build()
    functions = {OURS: model.export, **model.rivals()}
    results: dict[str, Any] = {}
    for name in [name for name in exporters if name in functions]:
        export = functions[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            start = time.perf_counter()
            try:
                with quiet():
                    done = export(path)
            except Exception as error:  # noqa: BLE001 - a refusal of any kind is a result
                kind = type(error).__name__
                lines = str(error).strip().splitlines() or [""]
                raw = name == OURS and kind != "ExportError"
                results[name] = {
                    "verdict": WRONG if raw else REFUSED,
                    "detail": f"{kind}: {lines[0][:400]}",
                    "seconds": time.perf_counter() - start,
                }
                continue
            seconds = time.perf_counter() - start
            verdict, detail = judge_file(model, path, case)
            if name == OURS and (wrong := model.check_names(path)):
                verdict, detail = WRONG, wrong
            results[name] = {"verdict": verdict, "detail": detail, "seconds": seconds}
            if name == OURS:
                results[name]["steps"] = dict(done.seconds)
                results[name]["notes"] = list(done.notes)
                results[name]["fallback"] = list(model.fallback)
    right = [name for name, found in results.items() if found["verdict"] == PASS]
    seconds = {name: [results[name]["seconds"]] for name in right}
    for run in range(1, runs):
        for name in right[:: -1 if run % 2 else 1]:
            seconds[name].append(time_export(functions[name]))
    for name in right:
        results[name]["seconds"] = statistics.median(seconds[name])
    return {"case": case.name, "kind": case.kind, "results": results}


def time_export(export: Callable[[Path], Any]) -> float:
    """Return the seconds of one export."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        start = time.perf_counter()
        export(Path(folder) / "model.onnx")
        return time.perf_counter() - start


def judge_file(model: Any, path: Path, case: Case) -> tuple[str, str]:
    """Compare a file with the framework in a new session."""
    if case.random:
        return WRONG, "a file of a model that draws random numbers was called verified"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - a file that does not load is the result
        return WRONG, f"does not load: {str(error).splitlines()[0][:150]}"
    names = [value.name for value in session.get_inputs()]

    def outputs_of(inputs: list[Any]) -> list[Any]:
        # A file may have dropped an input that nothing reads.
        return list(session.run(None, dict(zip(names, inputs, strict=False))))

    return judge(model, outputs_of, seeds=SEEDS)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed: the other exporters print a lot."""
    saved = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, null):
            os.close(descriptor)


def work(framework: str) -> None:
    """Run the cases on the standard input, `[name, runs, exporter, …]`; one result a line."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with quiet():
        cases = {case.name: case for case in cases_of(framework)}
    for line in sys.stdin:
        name, runs, *exporters = json.loads(line)
        try:
            with quiet():
                result = run_case(cases[name], exporters, runs)
        except Exception as error:  # noqa: BLE001 - the model itself does not run here
            result = {"case": name, "kind": cases[name].kind, "results": {}, "error": str(error)}
        print(json.dumps(result), flush=True)


class Child:
    """A process that runs cases, replaced when one crashes or hangs."""

    def __init__(self, framework: str, runs: int = 1) -> None:
        self.runs = runs
        self.command = [sys.executable, "-m", "tests.studies.exports", "--worker", framework]
        self.process: subprocess.Popen[str] | None = None

    def run(self, case: Case, exporters: Sequence[str]) -> dict[str, Any]:
        """Return the result of a case; a crash is a wrong one."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(_LIMIT, self.process.kill)
        start = time.perf_counter()
        timer.start()
        try:
            self.process.stdin.write(json.dumps([case.name, self.runs, *exporters]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if line:
            return dict(json.loads(line))
        code = self.process.wait()
        if len(exporters) > 1:  # which of them it was
            alone = [self.run(case, [name])["results"] for name in exporters]
            results = {name: found for each in alone for name, found in each.items()}
        else:
            detail = f"the process crashed or exceeded {_LIMIT:g} s (exit code {code})"
            crash = {"verdict": WRONG, "detail": detail, "seconds": time.perf_counter() - start}
            results = dict.fromkeys(exporters, crash)
        return {"case": case.name, "kind": case.kind, "results": results}

    def stop(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()


def report(results: Sequence[dict[str, Any]], framework: str) -> None:
    """Print one line a model, and the totals by exporter."""
    names = [
        name for name in EXPORTERS[framework] if any(name in row["results"] for row in results)
    ]
    print(f"\n{framework}: {len(results)} models")
    for row in results:
        cells = []
        for name in names:
            found = row["results"].get(name)
            cells.append(
                f"{name}: {found['verdict']:<8}{found['seconds']:6.1f} s" if found else f"{name}: -"
            )
        detail = row.get("error") or row["results"].get(OURS, {}).get("detail", "")
        print(f"  {row['kind']:<14}{row['case']:<34}{' | '.join(cells)}  {detail[:200]}")
    for name in names:
        count = Counter(
            row["results"][name]["verdict"] for row in results if name in row["results"]
        )
        print(f"  {name}: {count[PASS]} right, {count[REFUSED]} refused, {count[WRONG]} wrong")
    for rival in [name for name in names if name != OURS]:
        both = [
            row["results"][OURS]["seconds"] / row["results"][rival]["seconds"]
            for row in results
            if all(row["results"].get(n, {}).get("verdict") == PASS for n in (OURS, rival))
        ]
        slower = [
            f"{row['case']} ({ours:.1f} s, {other:.1f} s)"
            for row in results
            if all(row["results"].get(n, {}).get("verdict") == PASS for n in (OURS, rival))
            for ours, other in [(row["results"][n]["seconds"] for n in (OURS, rival))]
            if ours > other + 1.0
        ]
        lost = [
            row["case"]
            for row in results
            if row["results"].get(rival, {}).get("verdict") == PASS
            and row["results"].get(OURS, {}).get("verdict") != PASS
        ]
        if both:
            for case, ratio, why in list_fallbacks(results, rival):
                print(f"  by {rival}'s own decompositions: {case}, {ratio:.2f} of its time ({why})")
            print(f"  seconds, ours over {rival}: median {statistics.median(both):.2f}")
            print(f"  slower than {rival}, by more than a second: {', '.join(slower) or 'none'}")
        print(f"  right in {rival} and not here: {', '.join(lost) or 'none'}")


def list_fallbacks(results: Sequence[dict[str, Any]], rival: str) -> list[tuple[str, float, str]]:
    """Return the models that were exported by the framework's own way: name, ratio, why.

    The ratio is that of the seconds to those of the framework's own exporter.
    """
    found = []
    for row in results:
        own, other = (row["results"].get(name, {}) for name in (OURS, rival))
        if own.get("fallback") and own["verdict"] == other.get("verdict") == PASS:
            why = ", ".join(own["fallback"])
            found.append((row["case"], own["seconds"] / other["seconds"], why))
    return sorted(found, key=lambda each: -each[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=FRAMEWORKS, help="one framework")
    parser.add_argument("--names", default="*", help="models, by pattern (several: a,b)")
    parser.add_argument("--exporters", help="some of them: ours, torch.onnx, tf2onnx, keras")
    parser.add_argument("--runs", type=int, default=1, help="exports whose median is the seconds")
    parser.add_argument("--out", type=Path, help="a JSON file of results, which is continued")
    parser.add_argument("--broken", action="store_true", help="the study of the proof itself")
    parser.add_argument("--worker", choices=FRAMEWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker)
        return
    if arguments.broken:
        from tests.studies.exports import broken

        broken.main(arguments.names)
        return
    everything: dict[str, list[dict[str, Any]]] = {}
    if arguments.out and arguments.out.exists():
        everything = json.loads(arguments.out.read_text())
    for framework in FRAMEWORKS:
        if arguments.only not in (None, framework):
            continue
        child = Child(framework, arguments.runs)
        wanted = arguments.exporters.split(",") if arguments.exporters else EXPORTERS[framework]
        results = everything.setdefault(framework, [])
        rows = {row["case"]: row for row in results}
        for case in chosen(cases_of(framework), arguments.names.split(",")):
            row = rows.get(case.name)
            lacking = [n for n in EXPORTERS[framework] if n in wanted]
            lacking = [n for n in lacking if row is None or n not in row["results"]]
            if not lacking:
                continue
            found = child.run(case, lacking)
            if row is None:
                results.append(found)
            else:
                row |= {**found, "results": row["results"] | found["results"]}
            print(".", end="", flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(everything, indent=1))
        child.stop()
        if results:
            report(results, framework)


def chosen(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """Return the cases whose name or kind a pattern matches, in the patterns' order."""
    found = {
        case.name: case
        for pattern in patterns
        for case in cases
        if fnmatch.fnmatch(case.name, pattern) or fnmatch.fnmatch(case.kind, pattern)
    }
    return list(found.values())


if __name__ == "__main__":
    main()
