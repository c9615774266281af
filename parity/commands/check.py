"""Running every case of a `parity.toml`, and holding the figures against the locked ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity.commands import cases as plans
from parity.commands import compare as run
from parity.commands import lock
from parity.commands.cases import Case, Plan
from parity.commands.values import Progress, silent
from parity.comparison.placement import plan_placement as plan_places
from parity.comparison.request import Request
from parity.errors import ParityError, UsageError
from parity.processes.children import Children
from parity.report import collection
from parity.report.model import Level, Outcome, Report, Verdict

_ORDER = (Verdict.DIVERGENCE, Verdict.UNKNOWN, Verdict.PARITY)
"""From worst to best: a difference that was found stays found."""


@dataclass(frozen=True)
class CaseResult:
    """One case and what came of it."""

    case: Case
    report: Report


@dataclass(frozen=True)
class CheckResult:
    """All cases that ran; `lock_file` is the one that was compared with or written, if any."""

    results: tuple[CaseResult, ...]
    seconds: float
    lock_file: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def reports(self) -> dict[str, Report]:
        """The reports by the cases' names, in the order of the file."""
        return {each.case.name: each.report for each in self.results}

    @property
    def verdict(self) -> Verdict:
        """The worst of the cases."""
        found = {each.report.verdict for each in self.results}
        return next(verdict for verdict in _ORDER if verdict in found)

    @property
    def ok(self) -> bool:
        """Whether every case agrees, and no figure is worse than its locked one."""
        return self.verdict is Verdict.PARITY

    @property
    def exit_code(self) -> int:
        """What `parity check` ends with: 0 parity, 1 divergence, 3 could not tell."""
        return self.verdict.exit_code

    def __bool__(self) -> bool:
        """Return `ok`, so that ``assert parity.check()`` fails where a case does."""
        return self.ok


def check(
    path: str | Path = "parity.toml",
    *,
    cases: Sequence[str] = (),
    update: bool = False,
    reports: Mapping[str, str | Path | None] | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Run the cases of a parity.toml one after the other, and hold them against locked figures.

    A case fails where its models differ, and where a figure has become worse than the one that
    parity.lock.json, beside the file, holds of it.

    Parameters:
        path: The file; its keys are in `parity.commands.cases`.
        cases: The names of the cases to run; without them, all.
        update: Lock the figures of these cases, if all of them agree, and compare with none.
        reports: Reports to write beside those that the file asks for, {format: file or folder}; a
            folder gets a file a case. A format whose path is None is not written at all.
        progress: Is called with a runtime and what it is doing now.

    Raises `UsageError` for a file that is malformed, with the line, for an unknown case and for a
    lock that does not fit; the `ParityError` of the first case whose input is bad, with its line;
    `OutputError`, before anything is run, for a report that cannot be written.

    Example:
        >>> import parity
        >>> result = parity.check("parity.toml", cases=["resnet18"])
        >>> result.ok, result.exit_code
        (True, 0)
        >>> result.reports["resnet18"].verdict.value
        'parity'
    """
    plan = plans.load(Path(path))
    given = {**plan.reports, **(reports or {})}
    written = {form: Path(place) for form, place in given.items() if place is not None}
    names = [case.name for case in _chosen(plan, cases)]
    collection.require_writable(written, names)
    result = run_cases(plan, only=cases, update=update, progress=progress or silent)
    collection.write(result.reports, written)
    return result


def run_cases(
    plan: Plan,
    *,
    only: Sequence[str] = (),
    update: bool = False,
    progress: Progress = silent,
) -> CheckResult:
    """Run the cases, or those named `only`, and write no report.

    With `update` the figures are locked, if every case agrees; without it they are compared with
    the locked ones, if there are any. Raises the `ParityError` of the first case whose input is
    bad, with its line.
    """
    started = time.perf_counter()
    chosen = _chosen(plan, only)
    path = lock.path_of(plan.path)
    locked = lock.load(path) if path.exists() else None
    if locked is not None and not update:
        _require_locked(plan, chosen, locked, path)
    results = []
    with _Shared() as shared:
        for number, case in enumerate(chosen, start=1):
            progress("check", f"{case.name}, {number} of {len(chosen)}")
            try:
                report = shared.run(case.request, progress)
                if locked is not None and not update:
                    report = _compare_with_lock(report, locked[case.name], case, path)
            except ParityError as error:
                where = f"{plan.path}:{case.line}: case '{case.name}'"
                raise type(error)(f"{where}: {error}") from error
            command = ("parity", "check", str(plan.path), "--case", case.name)
            results.append(CaseResult(case, replace(report, command=command)))
    result = CheckResult(tuple(results), time.perf_counter() - started)
    if update:
        return _update(plan, result, locked or {}, path)
    return result if locked is None else replace(result, lock_file=path)


def _chosen(plan: Plan, only: Sequence[str]) -> list[Case]:
    known = [case.name for case in plan.cases]
    for name in only:
        if name not in known:
            raise UsageError(f"{plan.path} has no case '{name}'; it has {', '.join(known)}")
    return [case for case in plan.cases if not only or case.name in only]


def _require_locked(
    plan: Plan, cases: Sequence[Case], locked: Mapping[str, Any], path: Path
) -> None:
    """Missing and extra cases before figures: neither must go unnoticed."""
    for case in cases:
        if case.name not in locked:
            raise UsageError(
                f"{plan.path}:{case.line}: case '{case.name}' is not in {path}; "
                "`parity check --update` adds it"
            )
    extra = set(locked) - {case.name for case in plan.cases}
    if extra:
        raise UsageError(
            f"{path}: case '{min(extra)}' is not in {plan.path}; `parity check --update` removes it"
        )


def _compare_with_lock(report: Report, locked: Mapping[str, Any], case: Case, path: Path) -> Report:
    """The report, a divergence if a figure has become worse than its locked one."""
    told = lock.worse(report, locked, case.lock_factor, path.name)
    if not told:
        return report
    level = report.levels["numerics"]
    levels = {**report.levels, "numerics": Level(Outcome.FAIL, (*level.messages, *told))}
    return replace(report, levels=levels, verdict=Verdict.DIVERGENCE)


def _update(plan: Plan, result: CheckResult, locked: Mapping[str, Any], path: Path) -> CheckResult:
    """Lock the figures of the cases that ran; the others keep theirs."""
    if not result.ok:
        return replace(result, notes=(f"{path} was not written: not every case agrees",))
    found = {**locked, **{name: lock.figures(report) for name, report in result.reports.items()}}
    lock.save(path, {case.name: found[case.name] for case in plan.cases if case.name in found})
    return replace(result, lock_file=path)


class _Shared:
    """Children that serve one case after another, so that a framework is imported once."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._children: Children | None = None
        self._key: object = None

    def run(self, request: Request, progress: Progress) -> Report:
        """Run one comparison, with the children of the one before if they fit."""
        placed = plan_places(request)
        # What a child is started with, and what it sets for good.
        key = (
            placed.gpu,
            sorted(request.python.items()),
            *(request.timeout, request.precision, request.xla),
        )
        if self._children is None or key != self._key:
            self._drop()
            self._key = key
            self._children = self._stack.enter_context(
                Children(python=request.python, timeout=request.timeout, gpu=placed.gpu)
            )
        self._children.start(request.runtimes)
        try:
            report = run.run(request, children=self._children, placement=placed, progress=progress)
        except BaseException:
            self._drop()
            raise
        if any(facts.failure for facts in report.subjects.values()):
            # A child that has failed may be dead, or in a state that nobody knows.
            self._drop()
        return report

    def _drop(self) -> None:
        self._children = None
        self._stack.close()

    def __enter__(self) -> _Shared:
        return self

    def __exit__(self, *exception: object) -> None:
        self._drop()
