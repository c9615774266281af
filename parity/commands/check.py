"""Running every case of a `parity.toml`, and holding the figures against the locked ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity.commands import compare as run
from parity.commands import lock
from parity.commands.cases import Case, Plan
from parity.comparison.placement import plan_placement as plan_places
from parity.comparison.request import Request
from parity.errors import ParityError, UsageError
from parity.processes.children import Children
from parity.report.model import Level, Outcome, Report, Verdict

Progress = Callable[[str, str], None]

_ORDER = (Verdict.DIVERGENCE, Verdict.UNKNOWN, Verdict.PARITY)
"""From worst to best: a difference that was found stays found."""


@dataclass(frozen=True)
class Checked:
    """One case and what came of it."""

    case: Case
    report: Report


@dataclass(frozen=True)
class Outcomes:
    """All cases; `locked` is the lock file that was compared with or written, if any."""

    checked: tuple[Checked, ...]
    seconds: float
    locked: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the cases."""
        found = {each.report.verdict for each in self.checked}
        return next(verdict for verdict in _ORDER if verdict in found)


def check(
    plan: Plan,
    *,
    only: Sequence[str] = (),
    update: bool = False,
    progress: Progress = lambda runtime, text: None,
) -> Outcomes:
    """Run the cases, or those named `only`, one after the other.

    With `update` the figures are locked, if every case agrees; without it they are compared with
    the locked ones, if there are any. Raises the `ParityError` of the first case whose input is
    bad, with its line.
    """
    started = time.perf_counter()
    cases = _chosen(plan, only)
    path = lock.path_of(plan.path)
    locked = lock.load(path) if path.exists() else None
    if locked is not None and not update:
        _require_locked(plan, cases, locked, path)
    checked = []
    with _Shared() as shared:
        for number, case in enumerate(cases, start=1):
            progress("check", f"{case.name}, {number} of {len(cases)}")
            try:
                report = shared.run(case.request, progress)
                if locked is not None and not update:
                    report = _held(report, locked[case.name], case, path)
            except ParityError as error:
                where = f"{plan.path}:{case.line}: case '{case.name}'"
                raise type(error)(f"{where}: {error}") from error
            command = ("parity", "check", str(plan.path), "--case", case.name)
            checked.append(Checked(case, replace(report, command=command)))
    outcomes = Outcomes(tuple(checked), time.perf_counter() - started)
    if update:
        return _update(plan, outcomes, locked or {}, path)
    return outcomes if locked is None else replace(outcomes, locked=path)


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


def _held(report: Report, locked: Mapping[str, Any], case: Case, path: Path) -> Report:
    """The report, a divergence if a figure has become worse than its locked one."""
    told = lock.worse(report, locked, case.lock_factor, path.name)
    if not told:
        return report
    level = report.levels["numerics"]
    levels = {**report.levels, "numerics": Level(Outcome.FAIL, (*level.messages, *told))}
    return replace(report, levels=levels, verdict=Verdict.DIVERGENCE)


def _update(plan: Plan, outcomes: Outcomes, locked: Mapping[str, Any], path: Path) -> Outcomes:
    """Lock the figures of the cases that ran; the others keep theirs."""
    if outcomes.verdict is not Verdict.PARITY:
        return replace(outcomes, notes=(f"{path} was not written: not every case agrees",))
    found = {**locked, **{each.case.name: lock.figures(each.report) for each in outcomes.checked}}
    lock.save(path, {case.name: found[case.name] for case in plan.cases if case.name in found})
    return replace(outcomes, locked=path)


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
