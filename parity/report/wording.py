"""The report's sentences and figures, in the words that every form of it shares."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from parity.comparison.results import Outcome, Verdict
from parity.numerics.verdict import (
    FirstDivergence,
    StageResult,
    Status,
    SubjectResult,
    find_first_failure,
)

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
"""A sign beside a word, for whoever sees no colour."""


def describe_verdict(report: Report) -> str:
    """Say the verdict in one sentence."""
    return {
        Verdict.PARITY: _parity,
        Verdict.DIVERGENCE: _divergence,
        Verdict.UNKNOWN: _unknown,
    }[report.verdict](report)


def _parity(report: Report) -> str:
    found = find_worst(report)
    if found is None:
        return "nothing was compared."
    ratio, name, stage = found
    count = len(report.stages)
    cuts = f"all {count} {report.depth}s" if count > 1 else f"the one {report.depth}"
    return (
        f"{join_names(report.subjects)} {'agree' if len(report.subjects) > 1 else 'agrees'} with "
        f"{report.reference} in float64 at {cuts}; the worst is {format_ratio(ratio)} the rounding "
        f"floor ({name}, {stage}), {report.limit:g}× is allowed."
    )


def _divergence(report: Report) -> str:
    wrong = [name for name in report.subjects if not subject_passes(report, name)]
    right = [name for name in report.subjects if name not in wrong]
    if report.first_divergence is None or not wrong:
        failed = [n for n, level in report.levels.items() if level.outcome is Outcome.FAIL]
        if not failed:
            return "the report does not say what differs."
        return f"the {join_names(failed)} differ{'s' if len(failed) == 1 else ''}."
    told = (
        f"{join_names(wrong)} {'differ' if len(wrong) > 1 else 'differs'} from {report.reference} in "
        f"float64 by more than {report.limit:g}× the rounding floor"
    )
    if right:
        told += f"; {join_names(right)} {'agree' if len(right) > 1 else 'agrees'}"
    return told + "."


def _unknown(report: Report) -> str:
    failed = [name for name, facts in report.subjects.items() if facts.failure]
    if failed:
        return f"{join_names(failed)} could not be run."
    missing = [name for name in report.subjects if not subject_passes(report, name)]
    if report.stages and missing:
        return f"{join_names(missing)} could not be compared everywhere."
    return "nothing was compared."


def subject_passes(report: Report, name: str) -> bool:
    """Whether the subject agrees at every cut."""
    return all(
        name in stage.subjects and stage.subjects[name].status.passes for stage in report.stages
    )


def describe_first_failures(report: Report) -> Iterator[tuple[str, str]]:
    """Give (names, where and how they diverge first); subjects that do so alike share an entry."""
    groups: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    for name in report.subjects:
        stage = find_first_failure(report.stages, name)
        if stage is None:
            continue
        where, result = _where(report, name, stage), stage.subjects[name]
        # A graph differs from its own model by rounding: the same in the digits shown.
        figures = (
            format_number(result.max_abs),
            format_ratio(larger_ratio(result)),
            result.message,
        )
        alike = (where, result.status, result.worst, *figures)
        told = f"first at {where}: {describe_error(result)}"
        groups.setdefault(alike, []).append((name, told))
    for group in groups.values():
        yield join_names(name for name, _ in group), group[0][1]


def _where(report: Report, name: str, stage: StageResult) -> str:
    layer = _layer(report, name)
    return stage.name if layer is None or layer == stage.name else f"{stage.name}, layer {layer}"


def _layer(report: Report, name: str) -> str | None:
    for found in report.divergences:
        if found.subject == name:
            return found.layer
    first: FirstDivergence | None = report.first_divergence
    return first.layer if first is not None and name in first.subjects else None


def describe_error(result: SubjectResult) -> str:
    """Say how far off a subject is, and where and by which values it is so most."""
    figures = (
        f"max abs {format_number(result.max_abs)}, {format_ratio(larger_ratio(result))} the floor"
    )
    parts = [result.message or figures]
    if result.worst is not None:
        where = ", ".join(map(str, result.worst))
        kind = "first" if result.status is Status.NON_FINITE else "worst"
        parts.append(f"{kind} at [{where}], {result.actual:.6g} instead of {result.expected:.6g}")
    return "; ".join(parts)


def describe_failures(report: Report) -> Iterator[tuple[str, str]]:
    """Give (names, why they could not be run); a level that fails for that reason tells it."""
    told = {line for level in report.levels.values() for line in level.messages}
    groups: dict[str, list[str]] = {}
    for name, facts in report.subjects.items():
        if facts.failure:
            groups.setdefault(facts.failure, []).append(name)
    for failure, names in groups.items():
        if any(f"{name}: {failure}" in told for name in names):
            yield join_names(names), "could not be run with weights that are not its own"
        else:
            yield join_names(names), failure


def describe_inheritance(report: Report) -> Iterator[tuple[str, str]]:
    """Give (names, which of their cuts that differ are wrong by themselves, which only inherit)."""
    groups: dict[str, list[str]] = {}
    for name, told in _describe_inheritance(report):
        groups.setdefault(told, []).append(name)
    for told, names in groups.items():
        one, many = next((verb for verb in _VERBS if told.startswith(verb[0])), ("", ""))
        yield join_names(names), many + told.removeprefix(one) if len(names) > 1 else told


_VERBS = (("is wrong by itself", "are wrong by themselves"), ("differs", "differ"))
"""How what is said of one subject begins, and of several."""


def _describe_inheritance(report: Report) -> Iterator[tuple[str, str]]:
    """The same of each subject alone."""
    for name in report.subjects:
        differ = [
            stage
            for stage in report.stages
            if name in stage.subjects and stage.subjects[name].status.is_failure
        ]
        alone = [
            stage.name
            for stage in report.stages
            if name in stage.isolated and not stage.isolated[name].status.passes
        ]
        measured = any(stage.isolated for stage in report.stages)
        later = sum(stage.name not in alone for stage in differ) if measured else len(differ) - 1
        if measured and alone:
            one = later == 1
            told = "also differs only inherits" if one else "also differ only inherit"
            rest = f"; the {_count_noun(later, report.depth)} that {told}"
            yield name, f"is wrong by itself at {join_names(alone)}{rest if later else ''}"
        elif not measured and later > 0:
            yield (
                name,
                (
                    f"differs at {_count_noun(later, report.depth)} after that, which is inherited as "
                    "far as this run tells (--isolate tells more)"
                ),
            )


def _count_noun(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def describe_origin(stage: StageResult, name: str) -> str:
    """Say whether a wrong subject is wrong by itself here; empty where that was not measured."""
    alone = stage.isolated.get(name)
    if alone is None or alone.status is Status.MISSING:
        return ""
    if alone.status.passes:
        return "inherited: given the reference's input, it is at the floor here"
    return f"wrong by itself: given the reference's input, it is {format_ratio(larger_ratio(alone))} the floor"


def larger_ratio(result: SubjectResult) -> float:
    """Return the larger of the two ratios that the verdict looks at."""
    return max(result.x_floor, result.x_floor_max)


def worst_status(report: Report, stage: StageResult) -> Status:
    """Return the status of a cut, which is that of its worst subject."""
    found = [
        stage.subjects[name].status if name in stage.subjects else Status.MISSING
        for name in report.subjects
    ]
    return max(found, key=lambda status: status.severity, default=Status.MISSING)


def select_rows(report: Report, count: int) -> Sequence[StageResult]:
    """Return at most `count` cuts: all, else those without parity, else the last of each stage."""
    if len(report.stages) <= count:
        return report.stages
    wrong = [stage for stage in report.stages if not worst_status(report, stage).passes]
    last = {stage.stage: stage for stage in report.stages}
    return (wrong or list(last.values()))[:count]


def format_figures(result: SubjectResult | None) -> str:
    """Write a subject's error at a cut: its largest, and how many floors that is."""
    if result is None or result.status is Status.MISSING:
        return "missing"
    if result.status is Status.NON_FINITE:
        return "NaN/Inf"
    return f"{format_number(result.max_abs)} ({format_ratio(larger_ratio(result))})"


def find_worst(report: Report) -> tuple[float, str, str] | None:
    """Return the largest ratio of all subjects and cuts, in floors, its subject and its cut."""
    found = [
        (larger_ratio(result), name, stage.name)
        for stage in report.stages
        for name, result in stage.subjects.items()
    ]
    return max(found, default=None)


def find_worst_pair(stage: StageResult) -> tuple[float, str]:
    """Return the largest ``max_abs`` between two subjects, and their names, ``a|b``."""
    return max(((pair.max_abs, name) for name, pair in stage.pairs.items()), default=(0.0, ""))


def compute_growth(report: Report, name: str) -> list[float | None]:
    """Return, a cut, by what factor a subject's ``rel_l2`` grew since the cut before.

    None where there is no cut before, or either figure is zero or not finite.
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
    """Say what the comparison ran on, a part an entry; runtimes are told with the subjects."""
    facts = dict(report.environment)
    version, python, cores = (facts.pop(key, None) for key in ("parity", "python", "cores"))
    system = [str(facts.pop(key, "")) for key in ("system", "machine")]
    # "Linux 6.18.44" says more than a reader needs: the JSON report has it.
    named = " ".join(filter(None, [system[0].split(" ")[0], system[1]]))
    processor = re.sub(r"\((R|TM)\)|\bCPU\b", "", str(facts.pop("processor", "")))
    parts = [
        f"parity {version}" if version else "",
        f"Python {python}" if python else "",
        named,
        " ".join(processor.split()),
        f"{cores} core{'s' if cores != 1 else ''}" if cores else "",
        *(value for value in facts.values() if isinstance(value, str)),
    ]
    return [part for part in parts if part]


def format_command(report: Report) -> str:
    """Return the shell command that makes this comparison again; empty when it is not known."""
    return shlex.join(report.command)


def join_names(names: Iterable[str]) -> str:
    """Write names as a sentence does: ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def format_shape(shape: tuple[int, ...]) -> str:
    """Write a shape: ``64×56×56``."""
    return "×".join(map(str, shape)) or "scalar"


def format_number(value: float) -> str:
    """Write a figure in two digits: 3.6e-6, 0.31, 8.4, 146."""
    if not math.isfinite(value):
        return "NaN/Inf"
    if value == 0.0:
        return "0"
    if 0.1 <= value < 1000:
        return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def format_ratio(value: float) -> str:
    """Write a ratio in at most six characters: 0.8×, 31×, 2.4e5×."""
    if not math.isfinite(value):
        return "∞×"
    if value < 10:
        return f"{value:.1f}×"
    return f"{value:.0f}×" if value < 1000 else f"{format_number(value)}×"
