"""`python -m tests.studies.mutants`: make mutants of working models; print how they are explained.

python -m tests.studies.mutants                     every fault twice in every model and subject
python -m tests.studies.mutants --models resnet18 --each 1 --only epsilon --json table.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.studies.mutants.bench import SUBJECTS, Bench, ShapeMismatch, faults_for
from tests.studies.mutants.counting import find_shortfalls, format_result, format_table
from tests.studies.mutants.result import Result

MODELS = {
    "resnet18": {"model": "resnet18"},
    "resnet34": {"model": "resnet34"},
    "resnet50": {"model": "resnet50"},
    "resnext50_32x4d": {"model": "resnext50_32x4d"},
    "zoo": {
        "keras": "tests.studies.mutants.zoo_keras:build",
        "torch": "tests.studies.mutants.zoo_torch:build",
        "table": Path(__file__).parent / "zoo.csv",
        "image_size": (30, 30),
    },
    "score": {
        "keras": "tests.studies.mutants.score_keras:build",
        "torch": "tests.studies.mutants.score_torch:build",
        "table": Path(__file__).parent / "score.csv",
        "image_size": (8, 8),
    },
}
SMALL = ("zoo", "score")
"""The models that are no architecture of parity's own, and are not exported."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.mutants", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--each", type=int, default=2, help="mutants of a fault in a subject")
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    parser.add_argument("--clean", type=int, default=10, help="clean runs of a subject")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="where the table is written")
    arguments = parser.parse_args()
    results: list[Result] = []
    clean: list[tuple[str, str, bool]] = []
    for name in arguments.models.split(","):
        options = {"classes": 10, "image_size": (64, 64), "batch": 1}
        subjects = tuple(arguments.subjects.split(","))
        bench_subjects = ("keras", "torch", *(s for s in subjects if s.startswith("onnx")))
        if name in SMALL:
            options, bench_subjects = {"batch": 2}, ("keras", "torch")
            subjects = tuple(s for s in subjects if not s.startswith("onnx"))
        bench = Bench(name, subjects=bench_subjects, **options | MODELS[name])
        try:
            for subject in subjects:
                results += list(_measure_mutants(bench, subject, arguments))
                for seed in range(arguments.clean):
                    clean.append((name, subject, bench.passes_unmutated(subject, seed)))
        finally:
            bench.close()
        if arguments.json:
            _write(arguments.json, results, clean)
    table = format_table(results, clean)
    print(table)
    if arguments.markdown:
        arguments.markdown.write_text(table + "\n")
    shortfalls = find_shortfalls(results, clean)
    for message in shortfalls:
        print(message, file=sys.stderr)
    return 1 if shortfalls else 0


def _measure_mutants(bench, subject, arguments):
    for fault in faults_for(subject):
        if arguments.only not in fault.name:
            continue
        count = 0
        for mutation in bench.places(fault, subject, arguments.seed):
            if count == arguments.each:
                break
            try:
                result = bench.measure(fault, subject, mutation, time.perf_counter)
            except ShapeMismatch as error:
                print(f"refused: {subject} {fault.name}: {error}", file=sys.stderr, flush=True)
                continue
            count += 1
            print(format_result(result), file=sys.stderr, flush=True)
            yield result


def _write(path: Path, results, clean) -> None:
    properties = ("causes", "named", "unexplained", "misnamed")
    data = {
        "results": [
            asdict(result) | {field: getattr(result, field) for field in properties}
            for result in results
        ],
        "clean": clean,
    }
    path.write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    raise SystemExit(main())
