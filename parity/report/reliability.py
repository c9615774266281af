"""Sentences on the reliability of a verdict: labels, other inputs, repeated runs, the floor."""

from __future__ import annotations

import math
from collections.abc import Iterator

from parity.comparison.results import InputTrial, LabelAgreement, Repeatability
from parity.report.model import Report
from parity.report.wording import format_number, format_ratio, join_names


def describe_reliability(report: Report) -> Iterator[tuple[str, str, bool]]:
    """Yield (topic, sentence, whether the result is good)."""
    if report.decision is not None:
        yield _describe_labels(report.decision)
    if report.trials:
        yield _describe_inputs(report.trials)
    if report.repeat is not None:
        yield _describe_runs(report.repeat)
    ratios = [ratio for pair in report.spread.values() for ratio in pair if math.isfinite(ratio)]
    if ratios:
        low, high = format_ratio(min(ratios)), format_ratio(max(ratios))
        yield "floor", f"errors on the seeded inputs are {low} to {high} the floor", True


def describe_predictions(report: Report) -> Iterator[str]:
    """Yield sentences on the most probable class of the first item, alike subjects together."""
    groups: dict[str, list[str]] = {}
    for subject, each in report.predictions.items():
        name = f"'{each.name}' ({each.index})" if each.name else f"class {each.index}"
        text = f"{name}, {format_probability(each.probability)}"
        groups.setdefault(text, []).append(subject)
    for text, subjects in groups.items():
        yield f"{join_names(subjects)}: {text}"


def describe_class_names(report: Report) -> str:
    """Return where the names of the predicted classes are from."""
    return (
        f"class names: {report.class_names}"
        if report.class_names
        else ("class names are not known: --labels FILE gives them")
    )


def format_probability(value: float) -> str:
    """Format a probability: 87.3%; small ones with two digits."""
    return f"{100 * value:.1f}%" if value >= 0.01 else f"{100 * value:.2g}%"


def _describe_labels(agreement: LabelAgreement) -> tuple[str, str, bool]:
    wrong = [name for name, share in agreement.top1.items() if share < 1.0]
    ratios = ((ratio, name) for name, ratio in agreement.worst_ratio.items())
    ratio, name = max(ratios, default=(0.0, "no subject"))
    if ratio == math.inf:
        error = f"logits of {name} are not finite"
    else:
        margin = f"half the smallest top-1 margin ({format_number(agreement.margin)})"
        share = f"{ratio:.2g} of" if ratio < 1.0 else format_ratio(ratio)
        error = f"the largest logit error, of {name}, is {share} {margin}"
    if wrong:
        verb = "predicts" if len(wrong) == 1 else "predict"
        return "labels", f"{join_names(wrong)} {verb} other top-1 labels; {error}", False
    outcome = "but one can change" if ratio >= 1.0 else "and none can change"
    return "labels", f"all top-1 labels agree, {outcome}; {error}", ratio < 1.0


def _describe_inputs(trials: tuple[InputTrial, ...]) -> tuple[str, str, bool]:
    wrong = [trial for trial in trials if not trial.status.passes]
    worst = max(wrong or trials, key=lambda trial: max(trial.x_floor, trial.x_floor_max))
    ratio = format_ratio(max(worst.x_floor, worst.x_floor_max))
    where = ", ".join(part for part in (worst.name, worst.subject, worst.stage) if part)
    error = f"the largest error is {ratio} the floor ({where})"
    count = f"{len(trials)} more input{'s' if len(trials) != 1 else ''}"
    if wrong:
        names = join_names([f"{trial.name} ({trial.status})" for trial in wrong[:8]])
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        verb = "fails" if len(wrong) == 1 else "fail"
        return "inputs", f"of {count}, {names}{more} {verb}; {error}", False
    return "inputs", f"{count} agree; {error}", True


def _describe_runs(repeatability: Repeatability) -> tuple[str, str, bool]:
    runs = repeatability.runs
    wrong = {name: count for name, count in repeatability.differed.items() if count}
    if wrong:
        counts = join_names([f"{name} in {count} of {runs}" for name, count in wrong.items()])
        return "runs", f"repeated runs differ bit for bit: {counts}", False
    return "runs", f"{runs} runs of each subject are equal bit for bit", True
