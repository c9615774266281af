"""Size of an HTML report, and the time until a browser has loaded and painted it.

    python -m tests.studies.benchmarks.page [report.html] [--runs 5]

Without a page it compares a whole ResNeXt-101 at depth `layer`, and takes that page. It also says
what the browser complains of, what the page asks for, and what axe finds in light and dark.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import parity
from tests.report.browser import chromium, emulate, fetched, find_violations, requests, show

MODEL = "resnext101_32x8d"
MEGABYTES, MILLISECONDS = 3.0, 1000.0
"""Issue 3: a whole ResNeXt-101 at depth `layer`."""


def find_faults(driver: Any, page: Path) -> list[str]:
    """Return the browser's complaints, the requests and the violations of a page."""
    faults: list[str] = []
    requests(driver), driver.get_log("browser")
    for scheme in ("light", "dark"):
        emulate(driver, scheme=scheme)
        show(driver, page)
        faults += [str(entry["message"]) for entry in driver.get_log("browser")]
        faults += [f"requests {url}" for url in fetched(driver)]
        faults += [f"{scheme}: {violation}" for violation in find_violations(driver)]
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = (options.page or Path(folder) / "report.html").resolve()
        if options.page is None:
            parity.compare(MODEL, depth="layer").save(page)
        with chromium(Path(folder) / "profile") as driver:
            times = [show(driver, page) for _ in range(options.runs)]
            count = "return document.querySelectorAll('#rows tbody tr').length"
            rows = driver.execute_script(count)
            faults = find_faults(driver, page)
        size = page.stat().st_size / 1e6
    middle = statistics.median(times)
    print(f"{size:.2f} MB, {rows} rows, at most {MEGABYTES:g} MB promised")
    runs = ", ".join(f"{milliseconds:.0f}" for milliseconds in times)
    print(f"opens in {middle:.0f} ms ({runs}), at most {MILLISECONDS:g} promised")
    print("\n".join(faults) or "no error, no request, nothing that axe finds in light or dark")
    return 0 if size <= MEGABYTES and middle <= MILLISECONDS and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
