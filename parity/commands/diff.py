"""Judging saved captures, from one place or from two, without running anything."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from parity.commands import saved_captures
from parity.commands.saved_captures import REFERENCE, SavedComparison
from parity.comparison.levels import describe_instrumentation_gaps, judge_points
from parity.errors import CaptureError, UsageError
from parity.numerics import verdict
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import PRECISION_FACTORS
from parity.numerics.verdict import LIMIT, FirstDivergence, StageResult
from parity.processes.helpers import measuring_helpers
from parity.report.model import (
    LEVELS,
    Level,
    Outcome,
    Report,
    SubjectFacts,
    decide_verdict,
)

Readers = Mapping[str, CaptureReader]
Sides = Sequence[tuple[Path, Readers]]


def diff(
    a: str | Path, b: str | Path, *, limit: float = LIMIT, judge_as: str | None = None
) -> Report:
    """Judge saved captures, of one place or of two, without running anything.

    They must be of one model, one set of weights and one input; versions, devices and machines may
    differ. Each subject is judged against the float64 reference, in units of the rounding floor.
    The reference and its floors are those of `a` where it has them, else those of `b`. Subjects
    that both have are told apart by the names of their folders: `keras@here`, `keras@there`.

    Parameters:
        a: A folder of captures, or one capture file.
        b: Another, or the same to judge it again.
        limit: How many floors are still rounding.
        judge_as: The precision whose floor is the measure ("float32", "tf32", "float16",
            "bfloat16"), if not the one that each subject computed in.

    Raises `CaptureError` for what is no capture, and for captures that do not belong together:
    another model, other weights, another input, another depth, or no reference; `UsageError` for a
    limit or a precision that is none.

    Example:
        >>> import parity
        >>> report = parity.diff("here", "there", limit=2)
        >>> report.ok
        True
    """
    started = time.perf_counter()
    a, b = Path(a), Path(b)
    if not limit > 0:
        raise UsageError(f"--limit must be above 0, found {limit}")
    if judge_as is not None and judge_as not in PRECISION_FACTORS:
        known = ", ".join(PRECISION_FACTORS)
        raise UsageError(f"judge_as: expected one of {known}, found {judge_as!r}")
    with saved_captures.opened(a) as left, saved_captures.opened(b) as right:
        same = a.resolve() == b.resolve()
        sides = [(a, left)] if same else [(a, left), (b, right)]
        everything = [reader for _, readers in sides for reader in readers.values()]
        saved_captures.require_belonging(everything)
        reference = next((r[REFERENCE] for _, r in sides if REFERENCE in r), None)
        if reference is None:
            raise CaptureError(
                f"neither {a} nor {b} has the reference: give the folder that holds "
                f"{REFERENCE}{saved_captures.SUFFIX}"
            )
        subjects = _subjects(sides)
        if not subjects:
            raise CaptureError(f"{a} and {b} hold no subject, only the reference")
        comparison = saved_captures.comparison_of(reference)
        _require_depth(comparison, reference, subjects)
        facts = {
            name: dataclasses.replace(saved_captures.facts_of(reader), judged_as=judge_as)
            for name, reader in subjects.items()
        }
        stages = verdict.compare_captures(
            reference=reference,
            floors=comparison.floors,
            subjects=subjects,
            points=comparison.points,
            limit=limit,
            start_helpers=measuring_helpers,
            precisions={name: judge_as or told.precision for name, told in facts.items()},
        )
        notes = (*_notes(sides), *_judged_as(facts, judge_as))
        return _report(
            comparison, reference, subjects, facts, stages, _levels(sides), limit, started, notes
        )


def _subjects(sides: Sides) -> dict[str, CaptureReader]:
    """The subjects by name; one that is on both sides is followed by where it comes from."""
    labels = [path.name.removesuffix(saved_captures.SUFFIX) for path, _ in sides]
    if len(set(labels)) < len(labels):
        labels = ["A", "B"]
    found: dict[str, CaptureReader] = {}
    held = [name for _, readers in sides for name in readers]
    for label, (_, readers) in zip(labels, sides, strict=True):
        for name, reader in readers.items():
            if name != REFERENCE:
                # "|" separates the two names of a pair.
                unique = name if held.count(name) == 1 else f"{name}@{label.replace('|', '_')}"
                found[unique] = reader
    return found


def _require_depth(
    comparison: SavedComparison, reference: CaptureReader, subjects: Readers
) -> None:
    for reader in subjects.values():
        depth = reader.manifest.get("depth")
        if depth != comparison.depth:
            raise CaptureError(
                f"{reader.path} was captured at depth {depth}, {reference.path} at depth "
                f"{comparison.depth}: capture one of them again"
            )


def _levels(sides: Sides) -> dict[str, Level]:
    """The levels above numerics as they were found when the captures were made, worst first."""
    levels: dict[str, Level] = {}
    for path, readers in sides:
        if REFERENCE not in readers:
            continue
        for name, level in saved_captures.comparison_of(readers[REFERENCE]).levels.items():
            told = level.messages
            if len(sides) > 1:
                told = tuple(f"{path}: {message}" for message in told)
            levels[name] = _worse(levels.get(name), Level(level.outcome, told))
    return levels


def _worse(one: Level | None, other: Level) -> Level:
    if one is None:
        return other
    order = (Outcome.FAIL, Outcome.PASS, Outcome.SKIPPED)
    outcome = min(one.outcome, other.outcome, key=order.index)
    return Level(outcome, (*one.messages, *other.messages))


def _notes(sides: Sides) -> tuple[str, ...]:
    holders = [path for path, readers in sides if REFERENCE in readers]
    if len(sides) == 1:
        return ("judged again from saved captures; nothing was run",)
    return (f"saved captures; the reference and its floors are those of {holders[0]}",)


def _judged_as(facts: Mapping[str, SubjectFacts], judge_as: str | None) -> tuple[str, ...]:
    others = sorted({told.precision for told in facts.values()} - {judge_as})
    if judge_as is None or not others:
        return ()
    return (f"computed in {' and '.join(others)}, judged by the floor of {judge_as}",)


def _report(
    comparison: SavedComparison,
    reference: CaptureReader,
    subjects: Readers,
    facts: Mapping[str, SubjectFacts],
    stages: list[StageResult],
    levels: dict[str, Level],
    limit: float,
    started: float,
    notes: tuple[str, ...],
) -> Report:
    skipped = Level(Outcome.SKIPPED, ("it was not looked at when the captures were made",))
    complete = {name: levels.get(name, skipped) for name in LEVELS}
    gaps = {name: reader.manifest.get("instrumentation_gap") for name, reader in subjects.items()}
    complete["numerics"] = judge_points(stages)
    if messages := describe_instrumentation_gaps(stages, gaps, limit):
        complete["numerics"] = Level(Outcome.FAIL, tuple(messages))
    divergences = tuple(_divergences(stages, subjects))
    return Report(
        verdict=decide_verdict(subjects=facts, levels=complete, stages=stages),
        model=str(reference.manifest["model"]),
        reference=comparison.reference,
        input=comparison.input,
        weights=comparison.weights,
        subjects=facts,
        levels=complete,
        stages=tuple(stages),
        first_divergence=verdict.find_first_divergence(stages),
        divergences=divergences,
        environment=comparison.environment,
        seconds=time.perf_counter() - started,
        limit=limit,
        depth=comparison.depth,
        notes=notes,
    )


def _divergences(stages: list[StageResult], subjects: Readers) -> Iterator[FirstDivergence]:
    """Each subject's own first cut that differs; its layer, where the points are layers."""
    for name in subjects:
        stage = verdict.find_first_failure(stages, name)
        if stage is not None:
            yield verdict.build_divergence(stage, (name,))
