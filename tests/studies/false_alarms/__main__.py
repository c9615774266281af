"""`python -m tests.studies.false_alarms`: 10 models × 10 seeds × 2 inputs at the floor.

Prints a Markdown table with the spread of × floor and the upper bound of the share of alarms at
95%, and exits with 1 if anything was called different. `--models`, `--seeds` and `--image-size`
make it smaller; 64 pixels keep it to minutes, and stages of 2×2 positions are harder than large
ones, since few numbers can be right by luck. With `--depth layer` every layer has a verdict; those
of one comparison depend on one another.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from scipy.stats import beta

from parity.commands import compare as comparing
from parity.comparison.request import Request
from parity.network import architectures
from parity.network.table import Depth
from parity.processes.children import Children
from parity.report.model import Report, Verdict


@dataclass
class Tally:
    """The results of one architecture's comparisons."""

    comparisons: int = 0
    alarms: list[str] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0
    """The verdicts of single points that are failures."""
    worst_max: float = 0.0

    def add(self, report: Report, label: str) -> None:
        """Count one comparison; an alarm is any verdict but parity."""
        self.comparisons += 1
        if report.verdict is not Verdict.PARITY:
            self.alarms.append(f"{report.model} {label}: {report.verdict}")
        for stage in report.stages:
            for name, result in stage.subjects.items():
                self.ratios.setdefault(name, []).append(result.x_floor)
                self.worst_max = max(self.worst_max, result.x_floor_max)
                self.failures += result.status.is_failure

    @property
    def every(self) -> list[float]:
        """The × floor of every verdict."""
        return [ratio for ratios in self.ratios.values() for ratio in ratios]


def reports(
    model: str, seeds: int, size: int, depth: Depth, children: Children
) -> Iterator[tuple[str, Report]]:
    """Yield one architecture's comparisons: each seed's weights, on the photograph and on noise."""
    for seed in range(seeds):
        for source in (None, "random"):
            request = Request(
                model=model,
                image_size=(size, size),
                classes=10,
                seed=seed,
                input=source,
                depth=depth,
            )
            yield (
                f"seed {seed}, {source or 'photograph'}",
                comparing.compare_request(request, children=children),
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(architectures.names()))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--depth", choices=("stage", "block", "layer"), default="stage")
    options = parser.parse_args()
    print("| model | comparisons | verdicts | alarms | median × floor | largest × floor |"
          " largest by max |\n|---|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    alarms: list[str] = []
    verdicts = failures = 0
    for model in options.models.split(","):
        tally = Tally()
        with Children() as children:
            for label, report in reports(
                model, options.seeds, options.image_size, options.depth, children
            ):
                tally.add(report, label)
        every = tally.every
        print(
            f"| {model} | {tally.comparisons} | {len(every)} | {len(tally.alarms)} | "
            f"{statistics.median(every):.2f} | {max(every):.2f} | {tally.worst_max:.2f} |",
            flush=True,
        )
        alarms += tally.alarms
        verdicts, failures = verdicts + len(every), failures + tally.failures
    # The bound of Clopper and Pearson (1934), one-sided.
    bound = float(beta.ppf(0.95, failures + 1, max(verdicts - failures, 1)))
    print(f"\n{failures} of {verdicts} verdicts are alarms; at 95% at most {bound:.2e} of all are")
    for alarm in alarms:
        print(alarm, file=sys.stderr)
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
