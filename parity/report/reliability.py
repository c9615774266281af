"""Sentences on how far a verdict can be trusted: labels, other inputs, repeated runs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from parity.comparison.results import InputTrial, LabelAgreement, Repeatability
from parity.report.model import Report
from parity.report.wording import format_number, format_ratio, join_names


def describe_reliability(report: Report) -> Iterator[tuple[str, str, bool]]:
    """Give (subject matter, what was found, whether that is fine)."""
    if report.decision is not None:
        yield _labels(report.decision)
    if report.trials:
        yield _inputs(report.trials)
    if report.repeat is not None:
        yield _runs(report.repeat)
    ends = [end for pair in report.spread.values() for end in pair if math.isfinite(end)]
    if ends:
        told = f"correct runs over the seeds are {format_ratio(min(ends))} to {format_ratio(max(ends))} the floor"
        yield "floor", told, True


def _labels(decision: LabelAgreement) -> tuple[str, str, bool]:
    other = [name for name, share in decision.top1.items() if share < 1.0]
    worst = ((ratio, name) for name, ratio in decision.worst_ratio.items())
    ratio, name = max(worst, default=(0.0, "no subject"))
    margin = f"half the smallest top-1 margin ({format_number(decision.margin)})"
    share = f"{ratio:.2g} of" if ratio < 1.0 else format_ratio(ratio)
    told = f"the largest logit error, of {name}, is {share} {margin}"
    if ratio == math.inf:
        told = f"logits of {name} are not finite"
    if other:
        return "labels", f"{join_names(other)} give other first labels; {told}", False
    can = "one could flip" if ratio >= 1.0 else "none can flip"
    return "labels", f"all first labels agree and {can}; {told}", ratio < 1.0


def _inputs(trials: tuple[InputTrial, ...]) -> tuple[str, str, bool]:
    wrong = [trial for trial in trials if not trial.status.passes]
    worst = max(wrong or trials, key=lambda trial: max(trial.x_floor, trial.x_floor_max))
    ratio = format_ratio(max(worst.x_floor, worst.x_floor_max))
    where = ", ".join(part for part in (worst.name, worst.subject, worst.stage) if part)
    count = f"{len(trials)} more input{'s' if len(trials) != 1 else ''}"
    if wrong:
        names = join_names([f"{trial.name} ({trial.status})" for trial in wrong[:8]])
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        return (
            "inputs",
            f"of {count}, {names}{more} do not agree; the worst {ratio} ({where})",
            False,
        )
    return "inputs", f"{count} agree; the worst is {ratio} the floor ({where})", True


def _runs(repeat: Repeatability) -> tuple[str, str, bool]:
    wrong = {name: count for name, count in repeat.differed.items() if count}
    if wrong:
        told = join_names([f"{name} in {count} of {repeat.runs}" for name, count in wrong.items()])
        return "runs", f"not all are the same bit for bit: {told}", False
    return "runs", f"{repeat.runs} of each subject, the same bit for bit", True
