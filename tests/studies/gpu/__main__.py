"""`python -m tests.studies.gpu`: run all checks that need a GPU, and record the results.

An item whose runtime is missing is listed as not run, with the reason. Exits 0 if no item failed, 1
if one did, 3 if none could be run.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from parity.errors import ParityError
from parity.processes import interpreters, machine
from tests.studies.gpu.bench import SUBJECTS, Bench
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
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="attempt only items whose name has this text; repeatable",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=BUDGET_S,
        metavar="SECONDS",
        help="begin no item later than this (%(default)g)",
    )
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, default=Path("gpu-record"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        python = interpreters.resolve_interpreters(options.python)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    items = select_items(options.only)
    if not items:
        print(f"error: no item has {' or '.join(options.only)!r} in its name", file=sys.stderr)
        return 2
    bench = Bench(options.model, options.image_size, python)
    # Every item is on disk before the next one begins.
    record = run(
        bench, items, budget=options.budget,
        on_record=lambda record: write(record, options.out),
    )  # fmt: skip
    paths = write(record, options.out)
    print(paths[1].read_text(encoding="utf-8"))
    print("written:", *paths)
    return record.exit_code


def select_items(texts: Sequence[str]) -> list[Item]:
    """Return the items whose names have one of the texts; all of them without a text."""
    return [item for item in ITEMS if not texts or any(text in item.name for text in texts)]


def find_needed_subjects(items: Sequence[Item]) -> tuple[str, ...]:
    """Return the subjects that items need; all if one takes whatever is present."""
    needed = {name for item in items for name in item.needs}
    return tuple(name for name in SUBJECTS if name in needed or not all(i.needs for i in items))


def run(
    bench: Bench,
    items: Sequence[Item] = ITEMS,
    *,
    budget: float = BUDGET_S,
    on_record: Callable[[Record], object] = lambda record: None,
) -> Record:
    """Attempt every item; those for which no time is left are recorded as not run.

    `on_record` gets the record of all items so far, after each.
    """
    start = time.perf_counter()
    bench.find_subjects(find_needed_subjects(items))
    entries: list[Entry] = []
    for item in items:
        if time.perf_counter() - start > budget:
            entries.append(Entry(item.name, "not run", f"no time left after {budget:g} s", 0.0))
        else:
            entries.append(_attempt_timed(item, bench))
        on_record(_make_record(bench, entries, time.perf_counter() - start))
    return _make_record(bench, entries, time.perf_counter() - start)


def _attempt_timed(item: Item, bench: Bench) -> Entry:
    start = time.perf_counter()
    status, reason, figures = attempt(item, bench)
    seconds = time.perf_counter() - start
    print(f"{status:8}{item.name} ({seconds:.1f} s)", file=sys.stderr, flush=True)
    return Entry(item.name, status, reason, seconds, figures)


def _make_record(bench: Bench, entries: Sequence[Entry], seconds: float) -> Record:
    return Record(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        model=bench.model,
        size=bench.size,
        gpu=None if bench.gpu is None else bench.gpu.to_json(),
        why=None if bench.gpu is not None else next(iter(bench.absent.values()), None),
        environment=machine.environment_facts({}),
        runtimes=bench.facts,
        entries=list(entries),
        seconds=seconds,
    )


if __name__ == "__main__":
    sys.exit(main())
