"""`python -m tests.studies.mutants.composed`: a random fault at a random place of a random network.

Networks of twelve families are composed at random (`tests.studies.composed`), so that no list of
them can be tuned to. Prints the faults that were not reported rightly, then the counts by kind.
Exits with 1 for a wrong name.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.studies.composed import counting
from tests.studies.composed.counting import FaultCount
from tests.studies.composed.faults import plan_faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="the number of faults")
    parser.add_argument("--networks", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = run(options.count, options.networks, options.seed)
    return int(any(each.answer == "wrong" for each in results))


def run(count: int, networks: int, seed: int) -> list[FaultCount]:
    """Count faults, and print them."""
    built = counting.build_networks(networks, seed)
    originals = {(each.family, each.seed): each for each in built}
    started = time.perf_counter()
    results = []
    with counting.open_bench() as bench:
        for fault in plan_faults(built, count, seed):
            network = fault.network
            result = counting.count_fault(bench, originals[network.family, network.seed], fault)
            results.append(result)
            _print_result(result)
    _print_counts(results, time.perf_counter() - started)
    return results


def _print_result(result: FaultCount) -> None:
    fault = result.fault
    right = "named" if fault.causes else "not explained"
    if result.detected and result.located and result.answer == right:
        return
    network = fault.network
    print(
        f"{network.family} {network.seed}:{fault.index} {fault.kind} at {fault.layer}: detected "
        f"{result.detected}, located {result.located}, {result.answer}; {result.causes} "
        f"{result.places} {result.failure}",
        file=sys.stderr,
        flush=True,
    )


def _print_counts(results: Sequence[FaultCount], seconds: float) -> None:
    print("| fault | faults | no difference | detected | located | named | not explained | "
          "wrongly named | failed |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    kinds = sorted({each.fault.kind for each in results})
    for name in [*kinds, "all"]:
        group = [each for each in results if name in ("all", each.fault.kind)]
        ran = [each for each in group if not each.failure]
        found = [each for each in ran if each.detected]
        cells = [
            len(group),
            len(ran) - len(found),
            len(found),
            sum(each.located for each in found),
            sum(each.answer == "named" for each in found),
            sum(each.answer == "not explained" for each in found),
            sum(each.answer == "wrong" for each in found),
            len(group) - len(ran),
        ]
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    print(f"\n{seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
