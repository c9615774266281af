"""`parity.sweep`: the comparisons of a grid, of which only those that have changed are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity import files
from parity.commands import cell_runner, sweep_file
from parity.commands.cell_address import CellAddresses, hash_hardware
from parity.commands.cell_runner import CellTask
from parity.commands.comparison_runner import is_shareable, sharing_key
from parity.commands.executors import open_executor
from parity.commands.notebooks import show_in_notebooks
from parity.commands.sweep_file import Cell, SweepFile
from parity.commands.sweep_lock import compare_with_lock, update_lock
from parity.commands.sweep_store import CellRecord, SweepStore, open_store
from parity.commands.values import Progress, no_progress
from parity.commands.zoo_names import list_zoo_names
from parity.comparison.results import Verdict
from parity.errors import InterpreterError, OutputError, ParityError
from parity.processes.environments import ensure_environment
from parity.processes.executors.tasks import Executor, Task, TaskOutcome
from parity.report.codec import from_json
from parity.report.grid import CellResult, SweepResult
from parity.text import describe_remaining

DEFAULT_FOLDER = "sweeps"
"""The folder of results, which gets one folder for each sweep file, named like it."""


@show_in_notebooks
def sweep(
    path: str | Path = "sweep.toml",
    *,
    out: str | Path | None = None,
    on: str = "local",
    jobs: int | None = None,
    update: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """Compare every combination of the models, environments, devices, precisions and inputs.

    A cell's result is stored under a hash of everything that it depends on: weights, input, code,
    versions, kind of machine. Only cells without a stored result are run, so that a sweep that was
    interrupted goes on. A cell whose verdict is unknown is not stored.

    Parameters:
        path: The sweep file; its keys are in `parity.commands.sweep_file`.
        out: The folder of the results; by default `sweeps/NAME` beside a file `NAME.toml`.
            Folders of several people are merged by copying their files together.
        on: Where the cells run: "local", "ray" (a cluster that is started on this machine), or
            "ray:ADDRESS", a cluster that runs.
        jobs: How many cells run side by side on this machine; by default as many as its cores and
            its memory allow.
        update: Lock the figures, instead of comparing them with those of `NAME.lock.json`.
        progress: A function that is called with "sweep" and how far the sweep is.

    Returns the result, which is true if every cell agrees; iterate over it for the cells. A cell
    that cannot be run has a `problem` and the verdict unknown, and the others are run.

    Raises `UsageError` for a malformed file, with the line, and for a folder in which another sweep
    is running; `OutputError` for a folder that cannot be written; `RequirementError` for a
    cluster that cannot be reached.

    Example:
        >>> import parity
        >>> result = parity.sweep("sweep.toml", out="results")
        >>> result.ok, len(result), result.cells[0].verdict.value
        (True, 40, 'parity')
    """
    start = time.perf_counter()
    show = progress or no_progress
    path = Path(path)
    folder = Path(out) if out is not None else find_folder(path)
    files.require_writable_folder(folder)
    show("sweep", "reading the file")
    # Before the folder is made, so that a bad file leaves none.
    plan = sweep_file.load(path, list_names=list_zoo_names)
    with open_store(folder) as store:
        # A cluster that cannot be reached is noticed before anything is installed.
        with open_executor(on, threads=plan.threads, count=jobs) as executor:
            prepared = _create_environments(plan, show)
            results = _run(plan, prepared, store, executor, show)
        result = SweepResult(
            cells=tuple(results),
            seconds=time.perf_counter() - start,
            installing=prepared.seconds,
            folder=str(folder),
            notes=tuple(dict.fromkeys(store.notes)),
        )
        return (update_lock if update else compare_with_lock)(result, plan)


def find_folder(path: Path) -> Path:
    """Return the folder of the results of a sweep file for which none is given."""
    return path.parent / DEFAULT_FOLDER / path.stem


@dataclass(frozen=True)
class _Environments:
    """The interpreters of each environment by runtime, and the problems of those without."""

    pythons: Mapping[str, Mapping[str, str]]
    problems: Mapping[str, str]
    seconds: Mapping[str, float]


def _create_environments(plan: SweepFile, show: Progress) -> _Environments:
    """Create the environments that do not exist; one that cannot be made has a problem."""
    pythons: dict[str, dict[str, str]] = {}
    problems: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for environment in plan.environments:
        pythons[environment.name] = {}
        for request in environment.requests:
            show("sweep", f"installing {environment.name}")
            start = time.perf_counter()
            try:
                python, _ = ensure_environment(request)
                pythons[environment.name][request.runtime] = str(python)
            except (InterpreterError, OSError) as error:
                problems[environment.name] = str(error)
            total = seconds.get(environment.name, 0.0) + time.perf_counter() - start
            seconds[environment.name] = total
    return _Environments(pythons, problems, seconds)


def _run(
    plan: SweepFile,
    prepared: _Environments,
    store: SweepStore,
    executor: Executor,
    show: Progress,
) -> list[CellResult]:
    """Return the results of all cells: stored ones, then those that are run."""
    uses_gpu = any(cell.device != "cpu" for cell in plan.cells)
    describe = cell_runner.GPU_MACHINE if uses_gpu else cell_runner.CPU_MACHINE
    machines = executor.list_machines(describe)
    addresses = CellAddresses(threads=plan.threads)
    results: dict[str, CellResult] = {}
    tasks: dict[str, Task] = {}
    show("sweep", "looking for stored results")
    for cell in plan.cells:
        if cell.environment in prepared.problems:
            results[cell.name] = _describe(cell, problem=prepared.problems[cell.environment])
            continue
        python = prepared.pythons[cell.environment]
        request = replace(cell.request, python={**cell.request.python, **python})
        try:
            address = addresses.address(request)
        except (ParityError, OSError) as error:
            results[cell.name] = _describe(cell, problem=str(error))
            continue
        kinds = [hash_hardware(_select_gpu(cell, each)) for each in machines]
        record = store.find(address, kinds)
        if record is not None:
            results[cell.name] = _describe(cell, record=record, is_stored=True)
        elif address not in tasks:
            tasks[address] = _build_task(plan, cell, address, prepared)
        if record is None:
            results[cell.name] = _describe(cell, address=address)
    _collect(results, tasks, store, executor, show)
    return [results[cell.name] for cell in plan.cells]


def _select_gpu(cell: Cell, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return a machine's kind for a cell: without its GPU where that is not used."""
    return {**machine, "gpu": None} if cell.device == "cpu" else dict(machine)


def _build_task(plan: SweepFile, cell: Cell, address: str, prepared: _Environments) -> Task:
    environments = next(e.requests for e in plan.environments if e.name == cell.environment)
    gpu = cell.device != "cpu"
    payload = CellTask(cell.request, str(Path.cwd()), environments, gpu=gpu)
    affinity = (cell.environment, sharing_key(cell.request, gpu=gpu), is_shareable(cell.request))
    return Task(address, payload, affinity, gpu=cell.device == "gpu")


def _collect(
    results: dict[str, CellResult],
    tasks: Mapping[str, Task],
    store: SweepStore,
    executor: Executor,
    show: Progress,
) -> None:
    """Run the tasks; store each result as soon as it is there, and enter it in `results`."""
    by_address: dict[str, list[str]] = {}
    for name, result in results.items():
        if result.address in tasks:
            by_address.setdefault(result.address, []).append(name)
    describe = _describe_progress(len(results), len(results) - sum(map(len, by_address.values())))
    show("sweep", describe(0))
    done = 0
    for outcome in executor.run(tasks.values()):
        names = by_address[outcome.key]
        result = _read_outcome(results[names[0]], outcome, store)
        for name in names:
            cell = results[name]
            # Two cells may be the same comparison: two environments with the same versions.
            labels: dict[str, Any] = dict(cell.labels)
            results[name] = replace(result, **labels)
        done += len(names)
        show("sweep", describe(done))


def _read_outcome(cell: CellResult, outcome: TaskOutcome, store: SweepStore) -> CellResult:
    """Return a cell with its outcome, and store it unless its verdict is unknown."""
    cell = replace(cell, seconds=outcome.seconds, place=outcome.place)
    if outcome.problem is not None:
        return replace(cell, problem=outcome.problem)
    record = CellRecord(
        cell.address, outcome.value["hardware"], outcome.seconds, outcome.value["report"]
    )
    report = from_json(record.report)
    if report.verdict is not Verdict.UNKNOWN:
        try:
            store.save(record, hash_hardware(record.hardware))
        except OutputError as error:
            # The result stands; only the next sweep cannot find it.
            store.notes.append(str(error))
    return replace(cell, report=report)


def _describe(
    cell: Cell,
    *,
    record: CellRecord | None = None,
    problem: str | None = None,
    address: str = "",
    is_stored: bool = False,
) -> CellResult:
    return CellResult(
        model=cell.model,
        environment=cell.environment,
        device=cell.device,
        precision=cell.precision,
        input=cell.input,
        report=None if record is None else record.read_report(),
        problem=problem,
        address=address if record is None else record.address,
        seconds=0.0 if record is None else record.seconds,
        is_stored=is_stored,
    )


def _describe_progress(total: int, stored: int) -> Callable[[int], str]:
    """Return a function that describes how far a sweep is, with its rate and the time left.

    It takes the number of cells that have been run.
    """
    start = time.perf_counter()

    def describe(done: int) -> str:
        text = f"{stored + done} of {total} cells"
        if stored:
            text += f", {stored} stored"
        left = total - stored - done
        if not done or not left:
            return text
        elapsed = time.perf_counter() - start
        remaining = describe_remaining(done, done + left, elapsed)
        return f"{text}, {60 * done / elapsed:.3g} a minute{remaining}"

    return describe
