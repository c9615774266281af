"""`python -m tests.studies.same_function`: pairs that are equal by construction, and the alarms.

One operation of a network that is composed at random is written otherwise, in each of the ways of
`tests.studies.composed.rewritings` in turn. Prints each alarm, then the counts; exits with 1 for
an alarm.
"""

from __future__ import annotations

import argparse
import sys
import time

from parity.errors import ParityError
from tests.studies.composed import counting
from tests.studies.composed.rewritings import plan_rewritings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="the number of pairs")
    parser.add_argument("--networks", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return int(run(options.count, options.networks, options.seed) > 0)


def run(count: int, networks: int, seed: int) -> int:
    """Compare pairs, print the alarms, and return their number."""
    built = counting.build_networks(networks, seed)
    originals = {(each.family, each.seed): each for each in built}
    started = time.perf_counter()
    counts: dict[str, list[int]] = {}
    with counting.open_bench() as bench:
        for each in plan_rewritings(built, count, seed):
            cells = counts.setdefault(each.kind, [0, 0])
            cells[0] += 1
            network = each.network
            try:
                report = bench.compare(originals[network.family, network.seed], network)
                failed = "" if report.ok else "; ".join(str(report).splitlines()[:6])
            except ParityError as error:
                failed = f"failed: {error}"
            if failed:
                cells[1] += 1
                print(f"{network.family} {network.seed}:{each.index} {each.kind}: {failed}",
                      file=sys.stderr, flush=True)  # fmt: skip
    print("| written differently | pairs | alarms |\n|---|---:|---:|")
    for name, cells in sorted(counts.items()):
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    alarms = sum(cells[1] for cells in counts.values())
    print(f"| all | {sum(c[0] for c in counts.values())} | {alarms} |")
    print(f"\n{time.perf_counter() - started:.0f} s")
    return alarms


if __name__ == "__main__":
    sys.exit(main())
