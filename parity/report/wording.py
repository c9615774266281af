"""The sentences and formatted figures that all report formats share."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.comparison.results import (
    BY_ITSELF,
    COMPUTES_IN,
    NOT_COMPARED,
    NOT_COPIED,
    Outcome,
    Verdict,
)
from parity.numerics.verdict import (
    FirstDivergence,
    PointResult,
    Status,
    SubjectResult,
    find_first_failure,
)
from parity.text import format_number as format_number
from parity.text import format_ratio as format_ratio

if TYPE_CHECKING:
    from parity.report.model import Report

SYMBOLS: Mapping[str, str] = {
    Status.EXACT: "✓",
    Status.AT_FLOOR: "✓",
    Status.DIVERGED: "✗",
    Status.NON_FINITE: "✗",
    Status.MISSING: "?",
    Verdict.PARITY: "✓",
    Verdict.DIVERGENCE: "✗",
    Verdict.UNKNOWN: "?",
    Outcome.PASS: "✓",
    Outcome.FAIL: "✗",
    Outcome.SKIPPED: "–",
}
"""The symbol beside a status, readable without colour."""


def describe_verdict(report: Report) -> str:
    """Return the verdict as a sentence."""
    return {
        Verdict.PARITY: _describe_parity,
        Verdict.DIVERGENCE: _describe_divergence,
        Verdict.UNKNOWN: _describe_unknown,
    }[report.verdict](report)


def describe_left_out(stages: Sequence[PointResult]) -> list[str]:
    """Return a note on the last stage with values that were left out, or nothing.

    Two models that compute the same NaN are not the same where it stands: they were not compared.
    """
    for stage in reversed(stages):
        left_out = {name: result.left_out for name, result in stage.subjects.items()}
        names = [name for name, count in left_out.items() if count]
        if names:
            return [
                f"{max(left_out.values()):,} of {math.prod(stage.shape):,} values of "
                f"'{stage.name}' are NaN or infinite in {join_names(names)} and in the reference "
                "alike: they were not compared"
            ]
    return []


def _describe_parity(report: Report) -> str:
    worst = find_worst(report)
    if worst is None:
        return "nothing was compared."
    ratio, name, point = worst
    count = len(report.stages)
    points = f"all {count} {report.depth}s" if count > 1 else f"the one {report.depth}"
    agreement = (
        f"{join_names(report.subjects)} {'agree' if len(report.subjects) > 1 else 'agrees'} with "
        f"{report.reference} in float64 at {points}; the largest error is {format_ratio(ratio)} "
        f"the rounding floor ({name}, {point}), the limit is {report.limit:g}×."
    )
    return agreement + _describe_lower_precisions(report) + _describe_not_compared(report)


def _describe_lower_precisions(report: Report) -> str:
    """Return which subjects agree by the larger floor of a precision that they have in part."""
    found: dict[str, list[str]] = {}
    for note in report.notes:
        name, is_precision, rest = note.partition(COMPUTES_IN)
        precision, is_own, _ = rest.partition(BY_ITSELF)
        if is_precision and is_own:
            found.setdefault(precision, []).append(name)
    return "".join(
        f" {join_names(names)} {'computes' if len(names) == 1 else 'compute'} partly in "
        f"{precision} and {'is' if len(names) == 1 else 'are'} judged there by its floor."
        for precision, names in found.items()
    )


def _describe_not_compared(report: Report) -> str:
    """Return what a verdict of parity says nothing of: exports that could not be made or read."""
    parts = [note.partition(NOT_COMPARED) for note in report.notes]
    names = [name for name, found, _ in parts if found]
    if not names:
        return ""
    return f" {join_names(names)} {'was' if len(names) == 1 else 'were'} not compared."


def _describe_divergence(report: Report) -> str:
    wrong = [name for name in report.subjects if not subject_passes(report, name)]
    right = [name for name in report.subjects if name not in wrong]
    if report.first_divergence is None or not wrong:
        failed = [n for n, level in report.levels.items() if level.outcome is Outcome.FAIL]
        if not failed:
            return "no difference is named."
        # Of the levels, the structure alone is singular.
        return f"the {join_names(failed)} differ{'s' if failed == ['structure'] else ''}."
    difference = (
        f"{join_names(wrong)} {'differ' if len(wrong) > 1 else 'differs'} from "
        f"{report.reference} in float64 by more than {report.limit:g}× the rounding floor"
    )
    if right:
        difference += f"; {join_names(right)} {'agree' if len(right) > 1 else 'agrees'}"
    # What was never given one model's weights may compute the same with them.
    uncopied = [f" {note}." for note in report.notes if NOT_COPIED in note]
    return difference + "." + "".join(uncopied)


def _describe_unknown(report: Report) -> str:
    failed = [name for name, facts in report.subjects.items() if facts.failure]
    if failed:
        return f"{join_names(failed)} could not be run."
    missing = [name for name in report.subjects if not subject_passes(report, name)]
    if report.stages and missing:
        return f"{join_names(missing)} could not be compared at every {report.depth}."
    return "nothing was compared."


def subject_passes(report: Report, name: str) -> bool:
    """Whether the subject passes at every comparison point."""
    return all(
        name in stage.subjects and stage.subjects[name].status.passes for stage in report.stages
    )


def describe_first_failures(report: Report) -> Iterator[tuple[str, str]]:
    """Yield (names, sentence on the first failure); subjects with the same failure share one."""
    groups: list[_FirstFailures] = []
    for name in report.subjects:
        stage = find_first_failure(report.stages, name)
        if stage is None:
            continue
        where, result = _describe_place(report, name, stage), stage.subjects[name]
        # A graph differs from its own model by rounding, which these digits do not show.
        figures = (
            format_number(result.max_abs),
            format_ratio(larger_ratio(result)),
            result.message,
        )
        failure = _FirstFailures((where, result.status, *figures), result.worst, [name])
        for group in groups:
            if group.is_shared_with(failure):
                group.names.append(name)
                break
        else:
            failure.text = f"first at {where}: {describe_error(result)}"
            groups.append(failure)
    for group in groups:
        verb = "differs" if len(group.names) == 1 else "differ"
        yield join_names(group.names), f"{verb} {group.text}"


@dataclass
class _FirstFailures:
    """The subjects that differ first at one place, by the same figures."""

    figures: tuple[object, ...]
    worst: tuple[int, ...] | None
    names: list[str]
    text: str = ""

    def is_shared_with(self, other: _FirstFailures) -> bool:
        """Return whether another subject's first failure is the same.

        Where two values are the largest, either may be the worst of a graph and of its model.
        """
        related = any(_is_export(*pair) for name in other.names for own in self.names
                      for pair in ((own, name), (name, own)))  # fmt: skip
        return self.figures == other.figures and (self.worst == other.worst or related)


def _is_export(name: str, model: str) -> bool:
    return name == f"onnx-{model}"


def describe_locations(report: Report) -> Iterator[str]:
    """Yield, for the first layer that differs, where it is written on every side."""
    first = report.first_divergence
    layer = None if first is None else first.layer
    places = report.locations.get(layer or "", {})
    if places:
        yield f"{layer} is " + ", ".join(f"{place} in {name}" for name, place in places.items())


def _describe_place(report: Report, name: str, stage: PointResult) -> str:
    layer = find_layer(report, name)
    return stage.name if layer is None or layer == stage.name else f"{stage.name}, layer {layer}"


def find_layer(report: Report, name: str) -> str | None:
    """Return the layer at which a subject differs first, or None if it is not known."""
    for divergence in report.divergences:
        if divergence.subject == name:
            return divergence.layer
    first: FirstDivergence | None = report.first_divergence
    return first.layer if first is not None and name in first.subjects else None


def describe_error(result: SubjectResult) -> str:
    """Return a subject's error, the index of its worst value and the two values there."""
    figures = (
        f"max abs {format_number(result.max_abs)}, {format_ratio(larger_ratio(result))} the floor"
    )
    parts = [result.message or figures]
    if result.worst is not None:
        index = ", ".join(map(str, result.worst))
        label = "first" if result.status is Status.NON_FINITE else "worst"
        values = f"expected {result.expected:.6g}, found {result.actual:.6g}"
        parts.append(f"{label} at index [{index}]: {values}")
    return "; ".join(parts)


def describe_failures(report: Report) -> Iterator[tuple[str, str]]:
    """Yield (names, the error of the subjects that could not be run).

    An error that is already the message of a level is not repeated.
    """
    messages = {line for level in report.levels.values() for line in level.messages}
    groups: dict[str, list[str]] = {}
    for name, facts in report.subjects.items():
        if facts.failure:
            groups.setdefault(facts.failure, []).append(name)
    for failure, names in groups.items():
        if any(f"{name}: {failure}" in messages for name in names):
            yield join_names(names), "could not be run, since the weights could not be copied"
        else:
            yield join_names(names), failure


def describe_inheritance(report: Report) -> Iterator[tuple[str, str]]:
    """Yield (names, sentence on which of their errors are inherited)."""
    groups: dict[tuple[tuple[str, str], str], list[str]] = {}
    for name in report.subjects:
        parts = _describe_inheritance(report, name)
        if parts is not None:
            groups.setdefault(parts, []).append(name)
    for ((singular, plural), rest), names in groups.items():
        yield join_names(names), f"{singular if len(names) == 1 else plural} {rest}"


def _describe_inheritance(report: Report, name: str) -> tuple[tuple[str, str], str] | None:
    """Return the verb, singular and plural, and the rest of the sentence on one subject."""
    failing = [
        stage
        for stage in report.stages
        if name in stage.subjects and stage.subjects[name].status.is_failure
    ]
    own = [
        stage.name
        for stage in report.stages
        if name in stage.isolated and not stage.isolated[name].status.passes
    ]
    if any(stage.isolated for stage in report.stages):
        if not own:
            return None
        count = sum(stage.name not in own for stage in failing)
        rest = f"in isolation at {join_names(own)}"
        if count == 1:
            rest += f"; the error at 1 other {report.depth} is inherited"
        elif count:
            rest += f"; the errors at {count} other {report.depth}s are inherited"
        return ("fails", "fail"), rest
    count = len(failing) - 1
    if count < 1:
        return None
    places = f"{count} later {report.depth}{'s' if count > 1 else ''}"
    return ("differs", "differ"), f"at {places}; --isolate shows whether that is inherited"


def describe_origin(stage: PointResult, name: str) -> str:
    """Return whether a subject's error at a point is inherited; empty if it was not isolated."""
    isolated = stage.isolated.get(name)
    if isolated is None or isolated.status is Status.MISSING:
        return ""
    if isolated.status.passes:
        return "inherited: in isolation, the error is at the floor"
    return f"own error: in isolation, it is {format_ratio(larger_ratio(isolated))} the floor"


def larger_ratio(result: SubjectResult) -> float:
    """Return the larger of the two ratios that the verdict uses, for templates and charts."""
    return result.larger_ratio


def worst_status(report: Report, stage: PointResult) -> Status:
    """Return the status of a comparison point: that of its worst subject."""
    statuses = [
        stage.subjects[name].status if name in stage.subjects else Status.MISSING
        for name in report.subjects
    ]
    return max(statuses, key=lambda status: status.severity, default=Status.MISSING)


def select_rows(report: Report, count: int) -> Sequence[PointResult]:
    """Return at most `count` points: all, else the failing ones, else the last of each stage."""
    if len(report.stages) <= count:
        return report.stages
    failing = [stage for stage in report.stages if not worst_status(report, stage).passes]
    last = {stage.stage: stage for stage in report.stages}
    return (failing or list(last.values()))[:count]


def format_figures(result: SubjectResult | None) -> str:
    """Format a subject's error at a point: the largest error and its ratio to the floor."""
    if result is None or result.status is Status.MISSING:
        return "missing"
    if result.status is Status.NON_FINITE:
        return "NaN/Inf"
    return f"{format_number(result.max_abs)} ({format_ratio(larger_ratio(result))})"


def find_worst(report: Report) -> tuple[float, str, str] | None:
    """Return the largest ratio of all subjects and points, in floors, its subject and its point."""
    ratios = [
        (larger_ratio(result), name, stage.name)
        for stage in report.stages
        for name, result in stage.subjects.items()
    ]
    return max(ratios, default=None)


def describe_worst(report: Report) -> tuple[str, str]:
    """Return the largest ratio of all subjects and points, and its subject and point."""
    worst = find_worst(report)
    if worst is None:
        return "–", "nothing was compared"
    ratio, name, stage = worst
    return format_ratio(ratio), f"{name}, {stage}"


def find_worst_pair(stage: PointResult) -> tuple[float, str]:
    """Return the largest ``max_abs`` between two subjects, and their names, ``a|b``."""
    return max(((pair.max_abs, name) for name, pair in stage.pairs.items()), default=(0.0, ""))


def compute_growth(report: Report, name: str) -> list[float | None]:
    """Return, for each point, a subject's ``rel_l2`` divided by that of the point before.

    None for the first point, and where either figure is zero or not finite.
    """
    errors = [
        stage.subjects[name].rel_l2 if name in stage.subjects else math.inf
        for stage in report.stages
    ]
    factors: list[float | None] = [None] * min(1, len(errors))
    for before, after in itertools.pairwise(errors):
        usable = 0.0 < before < math.inf and 0.0 < after < math.inf
        factors.append(after / before if usable else None)
    return factors


def describe_machine(report: Report) -> list[str]:
    """Return the parts of a description of the machine; subjects name their runtimes."""
    facts = dict(report.environment)
    version, python, cores = (facts.pop(key, None) for key in ("parity", "python", "cores"))
    system = [str(facts.pop(key, "")) for key in ("system", "machine")]
    # The system's version is in the JSON report alone.
    platform = " ".join(filter(None, [system[0].split(" ")[0], system[1]]))
    processor = re.sub(r"\((R|TM)\)|\bCPU\b", "", str(facts.pop("processor", "")))
    parts = [
        f"parity {version}" if version else "",
        f"Python {python}" if python else "",
        platform,
        " ".join(processor.split()),
        f"{cores} core{'s' if cores != 1 else ''}" if cores else "",
        *(value for value in facts.values() if isinstance(value, str)),
    ]
    return [part for part in parts if part]


def format_command(report: Report) -> str:
    """Return the shell command that repeats this comparison; empty if it is unknown."""
    return shlex.join(report.command)


def join_names(names: Iterable[str]) -> str:
    """Join names for a sentence: ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def format_shape(shape: tuple[int, ...]) -> str:
    """Format a shape: ``64×56×56``."""
    return "×".join(map(str, shape)) or "scalar"
