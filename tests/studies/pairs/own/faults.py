"""One fault in the PyTorch side of each own pair: is it detected, located, and named rightly?

The truth follows from the edit of the source: the layer that the line defines, or the line itself.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.state import GraphState
from parity.errors import ParityError
from parity.explain.cause import Cause
from parity.processes.children import Children
from parity.report.model import Report
from tests.studies.pairs.own.edits import SAME_FUNCTION, Edit, list_edits
from tests.studies.pairs.own.networks import (
    FOLDER,
    OWN_PAIRS,
    OwnPair,
    compare_with_equal_weights,
    count_pairs,
)

NOT_EXPLAINED = "not-explained"
REMOVED = "reads-another-tensor"


@dataclass(frozen=True)
class FaultResult:
    """How one fault was reported. `answer` is `named`, `not explained`, `wrong` or `no cause`."""

    pair: OwnPair
    edit: Edit
    layers: int = 0
    paired: int = 0
    wrong_pairs: int = 0
    detected: bool = False
    located: bool = False
    others: int = 0
    """The layers behind it that are reported as faults of their own."""
    answer: str = "no cause"
    causes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    failure: str = ""


def plan_faults(count: int | None, names: Sequence[str] | None) -> list[tuple[OwnPair, int, Edit]]:
    """Return faults in a seeded order, `count` of them."""
    text = (FOLDER / "torch_networks.py").read_text(encoding="utf-8")
    every = [
        (pair, number, edit)
        for pair in OWN_PAIRS
        if not pair.twin and (names is None or pair.name in names)
        for number, edit in enumerate(list_edits(text, pair.name))
    ]
    if count is None or count >= len(every):
        return every
    return random.Random(0).sample(every, count)


def run_fault(pair: OwnPair, number: int, edit: Edit, children: Children) -> FaultResult:
    """Compare a pair with one fault; both models hold equal weights."""
    broken = f"{FOLDER / 'broken_networks.py'}:broken,{pair.name},{number}"
    request = GraphRequest((pair.keras, broken), export=False, semantics=True)
    try:
        state, report = compare_with_equal_weights(request, children)
    except ParityError as error:
        return FaultResult(pair, edit, failure=str(error))
    return judge(pair, edit, state, report)


def judge(pair: OwnPair, edit: Edit, state: GraphState, report: Report) -> FaultResult:
    """Judge a report by what the edit changed."""
    count = count_pairs(pair, state)
    places = list(dict.fromkeys(d.layer for d in report.divergences if d.layer is not None))
    right = [place for place in places if is_place(edit, report, place)]
    at_fault = {c.cause for c in report.causes if _is_of(edit, report, c)}
    elsewhere = {c.cause for c in report.causes if not _is_of(edit, report, c)}
    named = (at_fault | elsewhere) - {NOT_EXPLAINED}
    answer = "no cause"
    if REMOVED in edit.causes:
        # A missing activation is a fault of what reads it: it reads the tensor before.
        at_fault, elsewhere = at_fault | (elsewhere & {REMOVED}), elsewhere - {REMOVED}
    if (at_fault - {NOT_EXPLAINED}) - edit.causes or elsewhere - {NOT_EXPLAINED}:
        answer = "wrong"
    elif named:
        answer = "named"
    elif at_fault:
        answer = "not explained"
    return FaultResult(
        pair,
        edit,
        count.layers,
        count.paired,
        len(count.wrong),
        not report.ok,
        bool(places) and places[0] in right,
        len(places) - len(right),
        answer,
        tuple(f"{c.layer}: {c.cause}" for c in report.causes),
        tuple(f"{p} ({report.locations.get(p, {}).get('torch', '')})" for p in places),
    )


def _is_of(edit: Edit, report: Report, cause: Cause) -> bool:
    """Return whether a cause is at the edit, or its remedy names the edit's line."""
    return is_place(edit, report, cause.layer) or f"torch_networks.py:{edit.line})" in cause.remedy


def is_place(edit: Edit, report: Report, row: str) -> bool:
    """Return whether a row is where the edit is: its layer, or an operation of its line."""
    location = report.locations.get(row, {}).get("torch", row)
    if not edit.layer:
        return f"torch_networks.py:{edit.line})" in location
    path = location.partition(" ")[0]
    return bool(set(re.split(r"[./]", path)) & set(edit.layer.split("|")))


def main(count: int | None, names: Sequence[str] | None) -> int:
    """Print each fault that is not reported rightly, then the counts; 1 for a wrong name."""
    planned = plan_faults(count, names)
    results = []
    started = time.perf_counter()
    with Children() as children:
        for pair, number, edit in planned:
            result = run_fault(pair, number, edit, children)
            results.append(result)
            print_result(result)
    print_counts(results, time.perf_counter() - started)
    return int(any(r.answer == "wrong" or r.wrong_pairs or r.failure for r in results))


def print_result(result: FaultResult) -> None:
    """Print a fault that was not detected, located and named."""
    fine = result.detected and result.located and not result.wrong_pairs and not result.others
    if fine and result.answer == "named":
        return
    edit = result.edit
    print(
        f"{result.pair.name}:{edit.line} {edit.fault} {edit.layer}: detected {result.detected}, "
        f"located {result.located}, others {result.others}, {result.answer}; "
        f"{result.causes} {result.places} pairs wrong {result.wrong_pairs} {result.failure}",
        file=sys.stderr,
        flush=True,
    )


def print_counts(results: Sequence[FaultResult], seconds: float) -> None:
    """Print the counts by kind of fault as a Markdown table."""
    print(
        "| fault | faults | detected | located | named | not explained | wrongly named | ", end=""
    )
    print("layers behind it reported | wrong pairs |\n|---|---|---|---|---|---|---|---|---|")
    kinds = dict.fromkeys(r.edit.fault for r in results)
    for name in [*kinds, "all"]:
        group = [r for r in results if name in ("all", r.edit.fault)]
        cells = [
            len(group),
            sum(r.detected for r in group),
            sum(r.located for r in group),
            sum(r.answer == "named" for r in group),
            sum(r.answer == "not explained" for r in group),
            sum(r.answer == "wrong" for r in group),
            sum(r.others for r in group),
            sum(r.wrong_pairs for r in group),
        ]
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    layers, paired = sum(r.layers for r in results), sum(r.paired for r in results)
    print(f"\n{paired} of {layers} layers paired; {seconds:.0f} s")


def count_alarms(names: Sequence[str] | None) -> int:
    """Compare each pair after an edit that changes no number; print and count the alarms."""
    text = (FOLDER / "torch_networks.py").read_text(encoding="utf-8")
    pairs = [p for p in OWN_PAIRS if not p.twin and (names is None or p.name in names)]
    counts: dict[str, list[int]] = {}
    with Children() as children:
        for pair in pairs:
            for number, edit in enumerate(list_edits(text, pair.name, SAME_FUNCTION)):
                other = f"{FOLDER / 'broken_networks.py'}:rewritten,{pair.name},{number}"
                request = GraphRequest((pair.keras, other), export=False, semantics=True)
                cells = counts.setdefault(edit.fault, [0, 0, 0])
                cells[0] += 1
                try:
                    state, report = compare_with_equal_weights(request, children)
                except ParityError as error:
                    cells[1] += 1
                    print(f"{pair.name}:{edit.line} {edit.fault}: failed: {error}", file=sys.stderr)
                    continue
                cells[2] += len(count_pairs(pair, state).wrong)
                if not report.ok:
                    cells[1] += 1
                    why = str(report).splitlines()[-2:]
                    print(f"{pair.name}:{edit.line} {edit.fault}: {why}", file=sys.stderr)
    print("| written otherwise | pairs | alarms | wrong pairs |\n|---|---|---|---|")
    for fault, cells in counts.items():
        print(f"| {fault} | {' | '.join(map(str, cells))} |")
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    print(f"| all | {' | '.join(map(str, total))} |")
    return int(any(total[1:]))
