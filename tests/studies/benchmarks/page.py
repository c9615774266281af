"""Size of an HTML report, and the time until a browser has loaded and painted it.

python -m tests.studies.benchmarks.page report.html [--runs 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.report.browser import chromium, show

MEGABYTES, MILLISECONDS = 3.0, 1000.0
"""Issue 3: a whole ResNeXt-101 at depth `layer`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    size = options.page.stat().st_size / 1e6
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
        times = [show(driver, options.page.resolve()) for _ in range(options.runs)]
        rows = driver.execute_script("return document.querySelectorAll('#rows tbody tr').length")
    middle = statistics.median(times)
    print(f"{size:.2f} MB, {rows} rows, at most {MEGABYTES:g} MB promised")
    runs = ", ".join(f"{milliseconds:.0f}" for milliseconds in times)
    print(f"opens in {middle:.0f} ms ({runs}), at most {MILLISECONDS:g} promised")
    return 0 if size <= MEGABYTES and middle <= MILLISECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
