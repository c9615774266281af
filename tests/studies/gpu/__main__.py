"""`python -m tests.studies.gpu`: run all checks that need a GPU, and record the results.

An item whose runtime is missing is listed as not run, with the reason. Exits 0 if no item failed, 1
if one did, 3 if none could be run.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from parity.errors import ParityError
from parity.processes import interpreters, machine
from tests.studies.gpu.bench import Bench
from tests.studies.gpu.items import ITEMS, Item, attempt
from tests.studies.gpu.record import Entry, Record, write

BUDGET_S = 440.0
"""No item is begun later than this, so that the whole stays under eight minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the items, write the record, print it, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, default=Path("gpu-record"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        python = interpreters.resolve_interpreters(options.python)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    record = run(Bench(options.model, options.image_size, python))
    paths = write(record, options.out)
    print(paths[1].read_text(encoding="utf-8"))
    print("written:", *paths)
    return record.exit_code


def run(bench: Bench, items: Sequence[Item] = ITEMS, *, budget: float = BUDGET_S) -> Record:
    """Attempt every item; those for which no time is left are recorded as not run."""
    start = time.perf_counter()
    bench.find_subjects()
    entries = []
    for item in items:
        item_start = time.perf_counter()
        if item_start - start > budget:
            entries.append(Entry(item.name, "not run", f"no time left after {budget:g} s", 0.0))
            continue
        status, reason, figures = attempt(item, bench)
        seconds = time.perf_counter() - item_start
        entries.append(Entry(item.name, status, reason, seconds, figures))
        print(f"{status:8}{item.name} ({seconds:.1f} s)", file=sys.stderr, flush=True)
    return Record(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        model=bench.model,
        size=bench.size,
        gpu=None if bench.gpu is None else bench.gpu.to_json(),
        why=None if bench.gpu is not None else next(iter(bench.absent.values()), None),
        environment=machine.environment_facts({}),
        runtimes=bench.facts,
        entries=entries,
        seconds=time.perf_counter() - start,
    )


if __name__ == "__main__":
    sys.exit(main())
