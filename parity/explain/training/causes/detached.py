"""A part whose output has no gradient: the weights before it get none, or other branches'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence
from parity.network.table import Row, parse_torch_point
from parity.processes.training_requests import StepVariation
from parity.training.verification import REFERENCE

_MOST = 12
"""The largest number of places that are tried, from the first wrong gradient on."""

_REMEDY = "leave out detach, stop_gradient, and operations on values outside the graph"


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if "gradient" not in evidence.kinds or evidence.kinds & {"samples", "loss", "statistics"}:
        return
    yield Candidate(
        "detached",
        f"the model of {REFERENCE} detaches a part, through which {evidence.failing.framework} "
        "passes a gradient",
        _REMEDY,
        expect=partial(evidence.failing.rerun, variation=StepVariation(attached=True)),
    )
    rows = evidence.failing.table.rows
    absent = {
        evidence.terms.layers.get(name.removeprefix("gradient/"))
        for name in evidence.failing.comparison.missing
    }
    wrong = absent | {evidence.terms.layers.get(name) for name in evidence.differing("gradient")}
    places = [index for index, row in enumerate(rows) if row.name in wrong]
    if not places:
        return
    # Behind the last weights nothing would have a gradient.
    last = max(index for index, row in enumerate(rows) if row.weights)
    # Several layers in a row without any gradient; one alone is rather frozen.
    prior = 1.1 if len(absent) > 1 else 0.9
    yield from _detach_outputs(evidence, rows[max(places) : last], prior)
    yield from _detach_operands(evidence, max(places), last)


def _detach_outputs(evidence: Evidence, rows: Sequence[Row], prior: float) -> Iterator[Candidate]:
    tried: set[str] = set()
    for row in rows:
        if not row.torch or not row.in_both_models:
            continue
        point = parse_torch_point(row.torch)
        if point.module in tried or len(tried) >= _MOST:
            continue
        tried.add(point.module)
        yield Candidate(
            "detached",
            f"no gradient passes {row.name}",
            _REMEDY,
            expect=partial(
                evidence.failing.rerun, variation=StepVariation(detached_outputs=(point.module,))
            ),
            prior=prior,
        )


def _detach_operands(evidence: Evidence, first: int, last: int) -> Iterator[Candidate]:
    """Yield that a shortcut, or the branch beside it, has no gradient: an operand of a sum.

    Only sums that no module computes, as in models that references name: in a registered one the
    branches end with modules.
    """
    rows = evidence.failing.table.rows
    sums = [index for index, row in enumerate(rows) if row.kind == "add" and not row.weights]
    found = [
        (number, rows[index].name)
        for number, index in enumerate(sums)
        if first <= index <= last and not rows[index].torch
    ]
    for number, name in found[: _MOST // 2]:
        for operand, which in enumerate(("first", "second")):
            yield Candidate(
                "detached",
                f"no gradient passes the {which} operand of {name}",
                _REMEDY,
                expect=partial(
                    evidence.failing.rerun,
                    variation=StepVariation(detached_operand=(number, operand)),
                ),
                prior=0.8,
            )
