"""Comparison of a composed network with a faulty or rewritten one, and what the report says."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parity.commands.compare_graphs import compare_graphs
from parity.comparison.graphs.request import GraphRequest
from parity.errors import ParityError
from parity.processes.children import Children
from parity.report.model import Report
from tests.studies.composed.faults import READS, Fault
from tests.studies.composed.networks import FAMILIES, Network, build

NOT_EXPLAINED = "not-explained"


@dataclass(frozen=True)
class FaultCount:
    """How one fault was reported. `answer` is `named`, `not explained` or `wrong`."""

    fault: Fault
    detected: bool = False
    located: bool = False
    answer: str = "not explained"
    causes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    failure: str = ""


class Bench:
    """Compares networks in two children that live as long as the bench."""

    def __init__(self, children: Children, folder: Path) -> None:
        self.children, self.folder, self.count = children, folder, 0

    def compare(self, right: Network, other: Network) -> Report:
        """Compare two networks, which have equal weights by name; raises `ParityError`."""
        self.count += 1
        paths = [self.folder / f"{name}_{self.count}.py" for name in ("right", "other")]
        for path, network in zip(paths, (right, other), strict=True):
            path.write_text(network.render(), encoding="utf-8")
        request = GraphRequest(
            (f"right={paths[0]}:net", f"other={paths[1]}:net"), export=False, semantics=True
        )
        return compare_graphs(request, children=self.children)


@contextmanager
def open_bench() -> Iterator[Bench]:
    with Children() as children, tempfile.TemporaryDirectory() as folder:
        yield Bench(children, Path(folder))


def build_networks(count: int, seed: int) -> list[Network]:
    """Return `count` networks, the families in turn."""
    return [build(FAMILIES[i % len(FAMILIES)], seed + i // len(FAMILIES)) for i in range(count)]


def count_fault(bench: Bench, original: Network, fault: Fault) -> FaultCount:
    """Compare a network with a fault in it, and judge the report by where the fault is."""
    try:
        report = bench.compare(original, fault.network)
    except ParityError as error:
        return FaultCount(fault, failure=str(error))
    places = list(dict.fromkeys(d.layer for d in report.divergences if d.layer is not None))
    named = {c.cause for c in report.causes} - {NOT_EXPLAINED}
    answer = "named" if named else "not explained"
    wrong = {part for name in named for part in name.split("+")} - fault.causes
    if wrong:
        answer = "wrong"
    reads = READS in fault.causes and READS in named
    located = bool(places) and (reads or _is_place(report, places[0], fault, original))
    return FaultCount(
        fault,
        not report.ok,
        located,
        answer,
        tuple(f"{c.layer}: {c.cause}" for c in report.causes),
        tuple(f"{p}: {report.locations.get(p, {}).get('other', '')}" for p in places),
    )


def _is_place(report: Report, row: str, fault: Fault, original: Network) -> bool:
    """Return whether a row is the operation at fault: its layer, its line, or a line beside it.

    Of a missing operation the report names the next one, and the line of the missing one.
    """
    text = report.locations.get(row, {}).get("other", row)
    path = text.partition(" ")[0]
    if fault.layer and fault.layer in re.split(r"[./]", path):
        return True
    missing = re.search(r", without the .*?\(right_\d+\.py:(\d+)\)", text)
    if missing is not None and int(missing[1]) == original.line_of(fault.index):
        return True
    line = re.search(r"\.py:(\d+)\)", text)
    wanted = fault.network.line_of(fault.index)
    return line is not None and int(line[1]) in (wanted, wanted + 1)
