"""`parity.diff`: judge saved captures, from one folder or from two, without running a model."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from parity.commands import saved_captures, saved_runs
from parity.commands.saved_captures import REFERENCE, SavedComparison
from parity.comparison.levels import describe_instrumentation_gaps, judge_points
from parity.errors import CaptureError, UsageError
from parity.numerics import verdict
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import PRECISION_FACTORS
from parity.numerics.verdict import LIMIT, FirstDivergence, PointResult
from parity.processes.helpers import start_measurement_helpers
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
    """Judge saved captures, from one folder or from two, without running a model.

    They must have the same model, weights and input; versions, devices and machines may differ.
    Each subject is judged by the float64 reference, in units of the rounding floor. The reference
    and its floors are those of `a` if it has them, else those of `b`. A subject that both have is
    named with its folder: `keras@here`, `keras@there`.

    One of the two may be a file of `polygraphy run --save-outputs FILE.json`: its runners are then
    subjects, and the model's outputs alone are judged. Such a file does not state its input; it
    must be that of the captures.

    Parameters:
        a: A folder of captures, or one capture file.
        b: Another, or the same to judge it again.
        limit: The largest error that passes, in floors.
        judge_as: The precision whose floor is used ("float32", "tf32", "float16", "bfloat16");
            None: the precision of each subject's run.

    Raises `CaptureError` for files that are no captures, for captures of different models, weights,
    inputs or depths, and without a reference; `UsageError` for an invalid limit or precision.

    Example:
        >>> import parity
        >>> report = parity.diff("here", "there", limit=2)
        >>> report.ok
        True
    """
    start = time.perf_counter()
    a, b = Path(a), Path(b)
    if not limit > 0:
        raise UsageError(f"--limit must be above 0, found {limit}")
    if judge_as is not None and judge_as not in PRECISION_FACTORS:
        known = ", ".join(PRECISION_FACTORS)
        raise UsageError(f"--judge-as: expected one of {known}, found {judge_as!r}")
    with contextlib.ExitStack() as stack:
        sides = _open_sides(a, b, stack)
        all_readers = [reader for _, readers in sides for reader in readers.values()]
        saved_captures.require_same_identity(all_readers)
        reference = next((r[REFERENCE] for _, r in sides if REFERENCE in r), None)
        if reference is None:
            raise CaptureError(
                f"{a} and {b}: neither has the reference; name the folder that holds "
                f"{REFERENCE}{saved_captures.SUFFIX}"
            )
        subjects = _name_subjects(sides)
        if not subjects:
            raise CaptureError(f"{a} and {b}: hold the reference alone and no subject")
        comparison = saved_captures.read_comparison(reference)
        _require_same_depth(comparison, reference, subjects)
        runs = [path for path, _ in sides if saved_runs.is_saved_run(path)]
        points = comparison.points
        if runs:
            points = tuple(point for point in points if point.row in comparison.outputs)
        facts = {
            name: dataclasses.replace(saved_captures.read_subject_facts(reader), judged_as=judge_as)
            for name, reader in subjects.items()
        }
        stages = verdict.compare_captures(
            reference=reference,
            floors=comparison.floors,
            subjects=subjects,
            points=points,
            limit=limit,
            start_helpers=start_measurement_helpers,
            precisions={name: judge_as or each.precision for name, each in facts.items()},
        )
        notes = (
            *_describe_reference_source(sides),
            *_describe_saved_runs(runs),
            *_describe_precision_override(facts, judge_as),
        )
        levels = _merge_levels(sides)
        return _build_report(
            comparison, reference, subjects, facts, stages, levels, limit, start, notes
        )


def _open_sides(a: Path, b: Path, stack: contextlib.ExitStack) -> list[tuple[Path, Readers]]:
    """Open both sides, captures before a saved run, which needs their reference.

    Raises `CaptureError`, also if both are saved runs, and `InputError` for a damaged one.
    """
    paths = [a] if a.resolve() == b.resolve() else [a, b]
    readers: dict[Path, Readers] = {
        path: stack.enter_context(saved_captures.open_captures(path))
        for path in paths
        if not saved_runs.is_saved_run(path)
    }
    reference = next((r[REFERENCE] for r in readers.values() if REFERENCE in r), None)
    for path in paths:
        if path in readers:
            continue
        if reference is None:
            raise CaptureError(
                f"{path}: a saved run has no reference to be judged by; name it with a folder of "
                "`parity capture`"
            )
        readers[path] = stack.enter_context(saved_runs.open_saved_run(path, reference))
    return [(path, readers[path]) for path in paths]


def _name_subjects(sides: Sides) -> dict[str, CaptureReader]:
    """Return {subject: capture}; a subject on both sides is named with its folder."""
    labels = [path.name.removesuffix(saved_captures.SUFFIX) for path, _ in sides]
    if len(set(labels)) < len(labels):
        labels = ["A", "B"]
    subjects: dict[str, CaptureReader] = {}
    names = [name for _, readers in sides for name in readers]
    for label, (_, readers) in zip(labels, sides, strict=True):
        for name, reader in readers.items():
            if name != REFERENCE:
                # "|" separates the two names of a pair.
                unique = name if names.count(name) == 1 else f"{name}@{label.replace('|', '_')}"
                subjects[unique] = reader
    return subjects


def _require_same_depth(
    comparison: SavedComparison, reference: CaptureReader, subjects: Readers
) -> None:
    """Raise `CaptureError` for a subject that was captured at another depth than the reference."""
    for reader in subjects.values():
        depth = reader.manifest.get("depth")
        if depth != comparison.depth:
            raise CaptureError(
                f"{reader.path}: captured at depth {depth}, but {reference.path} at depth "
                f"{comparison.depth}; capture one of them again"
            )


def _merge_levels(sides: Sides) -> dict[str, Level]:
    """Return the levels above numerics that were saved with the captures, those of both sides."""
    levels: dict[str, Level] = {}
    for path, readers in sides:
        if REFERENCE not in readers:
            continue
        for name, level in saved_captures.read_comparison(readers[REFERENCE]).levels.items():
            messages = level.messages
            if len(sides) > 1:
                messages = tuple(f"{path}: {message}" for message in messages)
            levels[name] = _merge_level(levels.get(name), Level(level.outcome, messages))
    return levels


def _merge_level(one: Level | None, other: Level) -> Level:
    """Return a level with the worse outcome and both messages."""
    if one is None:
        return other
    order = (Outcome.FAIL, Outcome.PASS, Outcome.SKIPPED)
    outcome = min(one.outcome, other.outcome, key=order.index)
    return Level(outcome, (*one.messages, *other.messages))


def _describe_reference_source(sides: Sides) -> tuple[str, ...]:
    """Return a note that says that no model was run, and which side's reference was used."""
    sources = [path for path, readers in sides if REFERENCE in readers]
    if len(sides) == 1:
        return ("judged from saved captures; no model was run",)
    return (f"judged from saved captures; the reference and its floors are those of {sources[0]}",)


def _describe_saved_runs(runs: Sequence[Path]) -> tuple[str, ...]:
    """Return a note on what a saved run does not state."""
    return tuple(
        f"{path} is a saved run: the model's outputs alone are judged, and its model and input are "
        "taken to be those of the captures"
        for path in runs
    )


def _describe_precision_override(
    facts: Mapping[str, SubjectFacts], judge_as: str | None
) -> tuple[str, ...]:
    others = sorted({each.precision for each in facts.values()} - {judge_as})
    if judge_as is None or not others:
        return ()
    return (f"computed in {' and '.join(others)}, judged by the floor of {judge_as}",)


def _build_report(
    comparison: SavedComparison,
    reference: CaptureReader,
    subjects: Readers,
    facts: Mapping[str, SubjectFacts],
    stages: list[PointResult],
    levels: dict[str, Level],
    limit: float,
    start: float,
    notes: tuple[str, ...],
) -> Report:
    skipped = Level(Outcome.SKIPPED, ("not examined when the captures were saved",))
    complete = {name: levels.get(name, skipped) for name in LEVELS}
    instrumentation_gaps = {
        name: saved_captures.read_instrumentation_gap(reader) for name, reader in subjects.items()
    }
    complete["numerics"] = judge_points(stages)
    if messages := describe_instrumentation_gaps(stages, instrumentation_gaps, limit):
        complete["numerics"] = Level(Outcome.FAIL, tuple(messages))
    divergences = tuple(_find_divergences(stages, subjects))
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
        seconds=time.perf_counter() - start,
        limit=limit,
        depth=comparison.depth,
        notes=notes,
    )


def _find_divergences(stages: list[PointResult], subjects: Readers) -> Iterator[FirstDivergence]:
    """Yield the first comparison point at which each subject differs; at layer depth, the layer."""
    for name in subjects:
        stage = verdict.find_first_failure(stages, name)
        if stage is not None:
            yield verdict.build_divergence(stage, (name,))
