"""A part whose output has no gradient: the weights before it get none, or other branches'."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence
from parity.network.table import parse_torch_point
from parity.processes.training_requests import Variation

_MOST = 12
"""The largest number of places that are tried, from the first wrong gradient on."""


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if "gradient" not in evidence.kinds or evidence.kinds & {"samples", "loss", "statistics"}:
        return
    rows = evidence.failing.table.rows
    wrong = {evidence.terms.layers.get(name) for name in evidence.differing("gradient")}
    wrong |= {
        evidence.terms.layers.get(name.removeprefix("gradient/"))
        for name in evidence.failing.comparison.missing
    }
    absent = {
        evidence.terms.layers.get(name.removeprefix("gradient/"))
        for name in evidence.failing.comparison.missing
    }
    places = [index for index, row in enumerate(rows) if row.name in wrong]
    if not places:
        return
    tried: set[str] = set()
    # Behind the last weights nothing would have a gradient.
    last = max(index for index, row in enumerate(rows) if row.weights)
    for row in rows[max(places) : last]:
        if not row.torch or not row.in_both_models:
            continue
        point = parse_torch_point(row.torch)
        if point.module in tried or len(tried) >= _MOST:
            continue
        tried.add(point.module)
        yield Candidate(
            "detached",
            f"no gradient passes {row.name}",
            "leave out detach, stop_gradient, and operations on values outside the graph",
            expect=partial(
                evidence.failing.rerun, variation=Variation(detached_outputs=(point.module,))
            ),
            # Several layers in a row without any gradient; one alone is rather frozen.
            prior=1.1 if len(absent) > 1 else 0.9,
        )
