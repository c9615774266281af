"""`python -m tests.mutants`: make mutants of working models, and print how well they are explained.

python -m tests.mutants                     every fault twice in every model and subject
python -m tests.mutants --models resnet18 --each 1 --only epsilon --json table.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from tests.mutants.bench import SUBJECTS, Bench, Refused, Result, faults_for

MODELS = {
    "resnet18": {"model": "resnet18"},
    "resnet34": {"model": "resnet34"},
    "resnet50": {"model": "resnet50"},
    "resnext50_32x4d": {"model": "resnext50_32x4d"},
    "zoo": {
        "keras": "tests.mutants.zoo_keras:build",
        "torch": "tests.mutants.zoo_torch:build",
        "table": Path(__file__).parent / "zoo.csv",
        "image_size": (30, 30),
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--each", type=int, default=2, help="mutants of a fault in a subject")
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    parser.add_argument("--clean", type=int, default=10, help="clean runs of a subject")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="where the table is written")
    asked = parser.parse_args()
    results: list[Result] = []
    clean: list[tuple[str, str, bool]] = []
    for name in asked.models.split(","):
        options = {"classes": 10, "image_size": (64, 64), "batch": 1}
        subjects = tuple(asked.subjects.split(","))
        needed = ("keras", "torch", *(s for s in subjects if s.startswith("onnx")))
        if name == "zoo":
            options, needed = {"batch": 2}, ("keras", "torch")
            subjects = tuple(s for s in subjects if not s.startswith("onnx"))
        bench = Bench(name, subjects=needed, **options | MODELS[name])
        try:
            for subject in subjects:
                results += list(_mutants(bench, subject, asked))
                for seed in range(asked.clean):
                    clean.append((name, subject, bench.clean(subject, seed)))
        finally:
            bench.close()
        if asked.json:
            _write(asked.json, results, clean)
    printed = table(results, clean)
    print(printed)
    if asked.markdown:
        asked.markdown.write_text(printed + "\n")
    failed = short(results, clean)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def _mutants(bench, subject, asked):
    for fault in faults_for(subject):
        if asked.only not in fault.name:
            continue
        made = 0
        for mutation in bench.places(fault, subject, asked.seed):
            if made == asked.each:
                break
            try:
                result = bench.measure(fault, subject, mutation, time.perf_counter)
            except Refused as error:
                print(f"refused: {subject} {fault.name}: {error}", file=sys.stderr, flush=True)
                continue
            made += 1
            print(_line(result), file=sys.stderr, flush=True)
            yield result


def _line(result: Result) -> str:
    words = "named" if result.named else "WRONGLY NAMED" if result.misnamed else "not named"
    if not result.detectable:
        words = f"undetectable: {result.hidden}"
    elif not result.detected:
        words = "NOT DETECTED"
    elif not result.located:
        words += ", NOT LOCATED"
    return (
        f"{result.seconds:5.2f} s  {result.model} {result.subject} {result.fault} "
        f"@ {'+'.join(result.rows)}: {words} ({', '.join(result.causes)})"
    )


def table(results: list[Result], clean: list[tuple[str, str, bool]]) -> str:
    """By fault: how many that any level could see, detected, located, named, wrongly named."""
    hidden = [result for result in results if not result.detectable]
    results = [result for result in results if result.detectable]
    by_fault: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_fault[result.fault].append(result)
    lines = ["| fault | mutants | detected | located | named | wrongly named |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    rows = sorted(by_fault.items(), key=lambda item: (not item[0][0].isdigit(), _number(item[0])))
    for name, held in [*rows, ("**all**", results)]:
        counts = [len(held)] + [
            sum(getattr(result, field) for result in held)
            for field in ("detected", "located", "named", "misnamed")
        ]
        lines.append(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    alarms = sum(not passed for *_, passed in clean)
    seen = Counter(result.by for result in results)
    faint = min((r for r in results if r.faintest is not None), key=lambda r: r.faintest,
                default=None)  # fmt: skip
    models = sorted({result.model for result in results})
    lines.append("")
    lines.append(f"{len(models)} architectures: {', '.join(models)}.")
    lines.append(f"Detected by {', '.join(f'{level} {n}' for level, n in seen.most_common())}.")
    for result in hidden:
        lines.append(f"Undetectable: {_line(result).partition('  ')[2].strip()}.")
    if faint is not None:
        lines.append(
            f"The faintest that was located is {faint.faintest:.3g}x the floor of its layer alone: "
            f"{faint.model} {faint.subject} {faint.fault} @ {'+'.join(faint.rows)}."
        )
    lines.append(f"{len(clean)} runs of unmutated models, {alarms} false alarms.")
    return "\n".join(lines)


PROMISED = {"detected": 1.0, "located": 0.98, "named": 0.95}
MISNAMED = 0.01


def short(results: list[Result], clean: list[tuple[str, str, bool]]) -> list[str]:
    """Where the figures fall short of what is promised; nothing where they do not."""
    results = [result for result in results if result.detectable]
    told = []
    for field, least in PROMISED.items():
        share = sum(getattr(result, field) for result in results) / max(len(results), 1)
        if share < least:
            told.append(f"{field}: {share:.1%}, promised are {least:.0%}")
    share = sum(result.misnamed for result in results) / max(len(results), 1)
    if share > MISNAMED:
        told.append(f"wrongly named: {share:.1%}, promised are at most {MISNAMED:.0%}")
    alarms = sum(not passed for *_, passed in clean)
    return told + ([f"{alarms} false alarms"] if alarms else [])


def _number(name: str) -> tuple[int, str]:
    first = name.partition(" ")[0]
    return (int(first) if first.isdigit() else 999, name)


def _write(path: Path, results, clean) -> None:
    data = {"results": [asdict(result) for result in results], "clean": clean}
    path.write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    raise SystemExit(main())
