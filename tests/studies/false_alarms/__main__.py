"""`python -m tests.studies.false_alarms`: 10 models × 10 seeds × 2 inputs at the floor.

Prints a Markdown table with the spread of × floor, and exits with 1 if anything was called
different. `--models`, `--seeds` and `--image-size` make it smaller; 64 pixels keep it to minutes,
and stages of 2×2 positions are harder than large ones, since few numbers can be right by luck.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from parity.commands import compare as comparing
from parity.comparison.request import Request
from parity.network import architectures
from parity.processes.children import Children
from parity.report.model import Report, Verdict


@dataclass
class Tally:
    """The results of one architecture's comparisons."""

    comparisons: int = 0
    alarms: list[str] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
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


def reports(model: str, seeds: int, size: int, children: Children) -> Iterator[tuple[str, Report]]:
    """Yield one architecture's comparisons: each seed's weights, on the photograph and on noise."""
    for seed in range(seeds):
        for source in (None, "random"):
            request = Request(
                model=model,
                image_size=(size, size),
                classes=10,
                seed=seed,
                input=source,
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
    options = parser.parse_args()
    print("| model | comparisons | alarms | median × floor | largest × floor | largest by max |")
    print("|---|---|---|---|---|---|")
    alarms = []
    for model in options.models.split(","):
        tally = Tally()
        with Children() as children:
            for label, report in reports(model, options.seeds, options.image_size, children):
                tally.add(report, label)
        every = [ratio for ratios in tally.ratios.values() for ratio in ratios]
        print(
            f"| {model} | {tally.comparisons} | {len(tally.alarms)} | "
            f"{statistics.median(every):.2f} | {max(every):.2f} | {tally.worst_max:.2f} |",
            flush=True,
        )
        alarms += tally.alarms
    for alarm in alarms:
        print(alarm, file=sys.stderr)
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
