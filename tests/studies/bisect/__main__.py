"""Twenty planted changes over ten releases of a package, followed by `parity bisect`.

    python -m tests.studies.bisect [--only N] [--seed 0]

A change is found if the release, the layer and the cause are named, in at most four comparisons
after the two ends. It exits with 1 if one is not.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import parity
from tests.studies.bisect.plants import PACKAGE, PLANTS, VERSIONS, Plant, write_releases

MOST = math.ceil(math.log2(len(VERSIONS)))
"""Comparisons after the two ends."""


@dataclass(frozen=True)
class Score:
    """What `parity bisect` named of one planted change."""

    plant: Plant
    first_bad: str
    found: parity.BisectResult
    seconds: float

    @property
    def comparisons(self) -> int:
        """Comparisons after the two ends."""
        return len(self.found.trials) - 2

    @property
    def missing(self) -> list[str]:
        """What was not named rightly."""
        checks = {
            "release": self.found.bad == self.first_bad and self.found.found,
            "layer": self.found.layer == self.plant.layer,
            "cause": self.plant.word in self.found.cause,
            "comparisons": self.comparisons <= MOST,
        }
        return [name for name, holds in checks.items() if not holds]


def choose_release(index: int, seed: int) -> str:
    """Return the release that a change is planted in: never the first one."""
    return random.Random(seed * 1000 + index).choice(VERSIONS[1:])


def follow(index: int, seed: int, folder: Path) -> Score:
    """Plant a change, follow it, and return what was named."""
    plant, first_bad = PLANTS[index], choose_release(index, seed)
    network = write_releases(folder, plant, first_bad)
    start = time.perf_counter()
    found = parity.bisect(
        f"{network}:build",
        package=PACKAGE,
        good=VERSIONS[0],
        bad=VERSIONS[-1],
        find_links=[folder / "wheels"],
    )
    return Score(plant, first_bad, found, time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.bisect", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", type=int, help="the number of one change, from 0")
    parser.add_argument("--seed", type=int, default=0, help="of the releases")
    arguments = parser.parse_args()
    # No release is looked up on an index.
    os.environ["PIP_NO_INDEX"] = "1"
    indices = range(len(PLANTS)) if arguments.only is None else [arguments.only]
    right = 0
    for index in indices:
        with tempfile.TemporaryDirectory() as folder:
            score = follow(index, arguments.seed, Path(folder))
        right += not score.missing
        verdict = f"NOT: {', '.join(score.missing)}" if score.missing else "named"
        print(
            f"{index:>2} {score.plant.name}, planted in {score.first_bad}: {verdict}, "
            f"{score.comparisons} comparisons, {score.seconds:.0f} s: {score.found.sentence}",
            flush=True,
        )
    print(f"{right} of {len(indices)} named by release, layer and cause")
    return 0 if right == len(indices) else 1


if __name__ == "__main__":
    sys.exit(main())
