"""`python -m tests.studies.pairs.own`: own networks in Keras and PyTorch, paired and compared.

Prints a Markdown table: of the layers with weights, how many were paired, how many pairs are wrong,
and the verdict once both models hold the same weights. Exits with 1 for a wrong pair or a
divergence. `--only` selects by name, `--faults N` counts faults
instead, `--same-function` false alarms: see `faults.py`.
"""

from __future__ import annotations

import argparse
import sys
import time

from parity.comparison.graphs.request import GraphRequest
from parity.errors import ParityError
from parity.processes.children import Children
from tests.studies.pairs.own import faults
from tests.studies.pairs.own.networks import (
    OWN_PAIRS,
    compare_with_equal_weights,
    count_pairs,
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.pairs.own", description=__doc__)
    parser.add_argument("--only", help="names of networks, separated by commas")
    parser.add_argument("--export", action="store_true", help="also compare the exported graphs")
    parser.add_argument("--verbose", action="store_true", help="print the report of a divergence")
    parser.add_argument("--faults", type=int, metavar="N", help="count N faults, 0 for all")
    parser.add_argument("--same-function", action="store_true", help="count false alarms")
    options = parser.parse_args()
    if options.same_function:
        return faults.count_alarms(None if options.only is None else options.only.split(","))
    if options.faults is not None:
        names = None if options.only is None else options.only.split(",")
        return faults.main(options.faults or None, names)
    chosen = [p for p in OWN_PAIRS if options.only is None or p.name in options.only.split(",")]
    print("| network | layers | paired | wrong pairs | verdict | s |\n|---|---|---|---|---|---|")
    failed = False
    with Children() as children:
        for pair in chosen:
            started = time.perf_counter()
            request = GraphRequest((pair.keras, pair.other), export=options.export, semantics=True)
            try:
                state, report = compare_with_equal_weights(request, children)
            except ParityError as error:
                print(f"| {pair.name} | failed: {error} | | | | |", flush=True)
                failed = True
                continue
            seconds = time.perf_counter() - started
            count = count_pairs(pair, state)
            print(
                f"| {pair.name} | {count.layers} | {count.paired} | {len(count.wrong)} | "
                f"{report.verdict} | {seconds:.1f} |",
                flush=True,
            )
            right = count.paired == count.layers and not count.wrong and report.ok
            failed = failed or not right
            if options.verbose and not right:
                print("\n".join(count.wrong), report, sep="\n", file=sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
