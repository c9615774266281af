"""`parity.check`: run the cases of a `parity.toml`, and compare them with their locked figures."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity import files
from parity.commands import cases as case_files
from parity.commands import executors, lock
from parity.commands.cases import Case, CaseFile
from parity.commands.cell_runner import CellTask
from parity.commands.comparison_runner import ComparisonRunner
from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import Progress, no_progress
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.placement import DeviceMissing
from parity.comparison.request import Request
from parity.comparison.results import find_worst_verdict
from parity.errors import ParityError, UsageError
from parity.processes.executors.tasks import Task, TaskOutcome
from parity.report import codec, collection
from parity.report.model import Level, Outcome, Report, Verdict
from parity.text import describe_remaining


@dataclass(frozen=True)
class CaseResult:
    """One case and its report."""

    case: Case
    report: Report


@dataclass(frozen=True)
class CheckResult:
    """The cases that ran; `lock_file` is the lock that was compared with or written, if any."""

    results: tuple[CaseResult, ...]
    seconds: float
    lock_file: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def reports(self) -> dict[str, Report]:
        """The reports by case name, in the order of the file."""
        return {each.case.name: each.report for each in self.results}

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the cases."""
        return find_worst_verdict(each.report.verdict for each in self.results)

    @property
    def ok(self) -> bool:
        """Whether every case agrees and no figure exceeds its locked one."""
        return self.verdict is Verdict.PARITY

    @property
    def exit_code(self) -> int:
        """The exit code of `parity check`: 0 parity, 1 divergence, 3 could not tell."""
        return self.verdict.exit_code

    def __bool__(self) -> bool:
        """Return `ok`, so that ``assert parity.check()`` fails if a case fails."""
        return self.ok


@show_in_notebooks
def check(
    path: str | Path = "parity.toml",
    *,
    cases: Sequence[str] = (),
    update: bool = False,
    on: str = "local",
    reports: Mapping[str, str | Path | None] | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Run the cases of a parity.toml one after another, and compare them with locked figures.

    A case fails if its models differ, or if a figure exceeds the one in parity.lock.json, which is
    in the same folder as parity.toml, by more than the case's `lock_factor`.

    Parameters:
        path: The file; its keys are in `parity.commands.cases`.
        cases: The names of the cases to run; empty: all.
        update: Lock the figures of these cases if all of them agree, instead of comparing them.
        on: Where the cases run: "local", one after another in this process; "ray" (a cluster that
            is started on this machine), or "ray:ADDRESS", side by side.
        reports: Reports to write in addition to the file's, {format: file or folder}; a folder gets
            one file for each case. A format whose path is None is not written, even if the file
            names it.
        progress: A function that is called with a runtime and what it is doing now.

    Raises `UsageError` for a malformed file, with the line, for an unknown case and for a lock that
    does not fit; the `ParityError` of the first case with bad input, with its line; `OutputError`,
    before a case runs, for a report that cannot be written.

    Example:
        >>> import parity
        >>> result = parity.check("parity.toml", cases=["resnet18"])
        >>> result.ok, result.exit_code
        (True, 0)
        >>> result.reports["resnet18"].verdict.value
        'parity'
    """
    case_file = case_files.load(Path(path))
    all_reports = {**case_file.reports, **(reports or {})}
    paths = {form: Path(target) for form, target in all_reports.items() if target is not None}
    names = [case.name for case in _select_cases(case_file, cases)]
    collection.require_writable(paths, names)
    files.require_other_files(
        [*paths.values(), lock.lock_path(case_file.path)],
        [str(path), *(name for case in case_file.cases for name in _list_inputs(case.request))],
    )
    collection.require_suffixes(paths)
    result = run_cases(
        case_file, only=cases, update=update, on=on, progress=progress or no_progress
    )
    notes = collection.write(result.reports, paths)
    return replace(result, notes=(*result.notes, *notes))


def run_cases(
    case_file: CaseFile,
    *,
    only: Sequence[str] = (),
    update: bool = False,
    on: str = "local",
    progress: Progress = no_progress,
) -> CheckResult:
    """Run the cases named in `only`, by default all, and write no report.

    With `update` the figures are locked if every case agrees; otherwise they are compared with the
    locked ones, if there are any. Raises the `ParityError` of the first case with bad input, with
    its line.
    """
    start = time.perf_counter()
    cases = _select_cases(case_file, only)
    path = lock.lock_path(case_file.path)
    entries = lock.load(path) if path.exists() else None
    if entries is not None and not update:
        _require_same_cases(case_file, cases, entries, path)
    results = []
    run = _run_here if on == executors.LOCAL else functools.partial(_run_on, on=on)
    for case, compare in run(cases, progress):
        try:
            report = compare()
            if entries is not None and not update:
                report = _compare_with_lock(report, entries[case.name], case, path)
        except ParityError as error:
            location = f"{case_file.path}:{case.line}: case '{case.name}'"
            raise _at(location, error) from error
        command = ("parity", "check", str(case_file.path), "--case", case.name)
        results.append(CaseResult(case, replace(report, command=command)))
    result = CheckResult(tuple(results), time.perf_counter() - start)
    if update:
        return _update_lock(case_file, result, entries or {}, path)
    return result if entries is None else replace(result, lock_file=path)


_Comparisons = Iterator[tuple[Case, Callable[[], Report]]]
"""Each case with a function that returns its report, or raises its `ParityError`."""


def _run_here(cases: Sequence[Case], progress: Progress) -> _Comparisons:
    """Run the cases one after another in this process, each when its function is called."""
    start = time.perf_counter()
    with ComparisonRunner() as runner:
        for number, case in enumerate(cases, start=1):
            left = describe_remaining(number - 1, len(cases), time.perf_counter() - start)
            progress("check", f"{case.name}, {number} of {len(cases)}{left}")
            yield case, functools.partial(runner.run, case.request, progress)


def _run_on(cases: Sequence[Case], progress: Progress, *, on: str) -> _Comparisons:
    """Run the cases side by side on a cluster; they are yielded in the order of the file."""
    folder = str(Path.cwd())
    tasks = [
        # A case on "auto" is not promised a GPU.
        Task(case.name, CellTask(case.request, folder), gpu=case.request.device == "gpu")
        for case in cases
    ]
    outcomes: dict[str, TaskOutcome] = {}
    start = time.perf_counter()
    with executors.open_executor(on, threads=0) as executor:
        progress("check", f"0 of {len(cases)} cases")
        for outcome in executor.run(tasks):
            outcomes[outcome.key] = outcome
            left = describe_remaining(len(outcomes), len(cases), time.perf_counter() - start)
            progress("check", f"{len(outcomes)} of {len(cases)} cases{left}")
    for case in cases:
        yield case, functools.partial(_read_outcome, outcomes[case.name])


def _read_outcome(outcome: TaskOutcome) -> Report:
    """Return the report of an outcome, or raise its problem."""
    if outcome.problem is not None:
        raise outcome.to_exception()
    return codec.from_json(outcome.value["report"])


def _list_inputs(request: Request | GraphRequest) -> list[str]:
    """Return the texts of a case that may name a file which is read."""
    values: tuple[Any, ...] = (request.weights, request.input)
    if isinstance(request, GraphRequest):
        values += (*request.references, *request.inputs.values(), request.custom_objects)
    else:
        values += (request.model, request.keras, request.torch, request.table)
        values += (request.onnx_keras, request.onnx_torch)
    return [str(value) for value in values if isinstance(value, str | Path)]


def _at(location: str, error: ParityError) -> ParityError:
    """The same error with the place of its case in front, on each of its lines."""
    if isinstance(error, DeviceMissing):
        return DeviceMissing([f"{location}: {line}" for line in error.lines])
    return type(error)(f"{location}: {error}")


def _select_cases(case_file: CaseFile, only: Sequence[str]) -> list[Case]:
    """Return the cases named in `only`, by default all. Raises UsageError for an unknown name."""
    known = [case.name for case in case_file.cases]
    for name in only:
        if name not in known:
            raise UsageError(f"{case_file.path}: unknown case '{name}'; known: {', '.join(known)}")
    return [case for case in case_file.cases if not only or case.name in only]


def _require_same_cases(
    case_file: CaseFile, cases: Sequence[Case], entries: Mapping[str, Any], path: Path
) -> None:
    """Raise UsageError unless `cases` are in the lock and all of the lock's are in the file."""
    for case in cases:
        if case.name not in entries:
            raise UsageError(
                f"{case_file.path}:{case.line}: case '{case.name}' is not in {path}; "
                "`parity check --update` adds it"
            )
    extra = set(entries) - {case.name for case in case_file.cases}
    if extra:
        raise UsageError(
            f"{path}: case '{min(extra)}' is not in {case_file.path}; "
            "`parity check --update` removes it"
        )


def _compare_with_lock(report: Report, entry: Mapping[str, Any], case: Case, path: Path) -> Report:
    """Return the report, with the verdict divergence if a figure exceeds its locked one."""
    regressions = lock.find_regressions(report, entry, case.lock_factor, path)
    if not regressions:
        return report
    level = report.levels["numerics"]
    levels = {**report.levels, "numerics": Level(Outcome.FAIL, (*level.messages, *regressions))}
    return replace(report, levels=levels, verdict=Verdict.DIVERGENCE)


def _update_lock(
    case_file: CaseFile, result: CheckResult, entries: Mapping[str, Any], path: Path
) -> CheckResult:
    """Lock the figures of the cases that ran; the entries of other cases stay."""
    if not result.ok:
        return replace(result, notes=(f"{path}: not written, since not all cases agree",))
    new_entries = {
        name: lock.lock_entry(report, path.parent) for name, report in result.reports.items()
    }
    entries = {**entries, **new_entries}
    names = [case.name for case in case_file.cases if case.name in entries]
    lock.save(path, {name: entries[name] for name in names})
    return replace(result, lock_file=path)
