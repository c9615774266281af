"""The lock of a sweep, `NAME.lock.json`: the figures that its cells must not exceed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from parity.commands import lock
from parity.commands.sweep_file import SweepFile
from parity.comparison.results import Verdict
from parity.errors import UsageError
from parity.report.grid import CellResult, SweepResult

_VERDICT = "verdict"


def compare_with_lock(result: SweepResult, plan: SweepFile) -> SweepResult:
    """Compare the cells with their locked figures, if there is a lock.

    A cell that agreed must agree, and its figures must not exceed the locked ones by more than the
    file's `lock_factor`. A cell that differed already, or could not be decided, may stay so.
    Raises `UsageError` for a malformed lock, and for an entry of other weights or another input.
    """
    path = lock.lock_path(plan.path)
    if not path.exists():
        return result
    entries = lock.load(path)
    cells = tuple(_compare(cell, entries, plan, path) for cell in result.cells)
    new = sum(cell.name not in entries for cell in cells)
    notes = result.notes
    if new:
        notes = (*notes, f"{path}: {new} cells are not in it; `--update` adds them")
    return replace(result, cells=cells, lock_file=str(path), notes=notes)


def update_lock(result: SweepResult, plan: SweepFile) -> SweepResult:
    """Lock the figures of the cells that were decided, and return the result with the lock.

    Entries of cells that were not run stay. Raises `OutputError`.
    """
    path = lock.lock_path(plan.path)
    entries = lock.load(path) if path.exists() else {}
    known: dict[str, Any] = {}
    for cell in result.cells:
        if cell.report is not None and cell.verdict is not Verdict.UNKNOWN:
            known[cell.name] = _build_entry(cell, path.parent)
        elif cell.name in entries:
            known[cell.name] = entries[cell.name]
    lock.save(path, known)
    cells = tuple(replace(cell, is_locked=cell.name in known) for cell in result.cells)
    return replace(result, cells=cells, lock_file=str(path))


def _build_entry(cell: CellResult, folder: Path) -> dict[str, Any]:
    assert cell.report is not None
    entry = lock.lock_entry(cell.report, folder)
    if cell.verdict is not Verdict.PARITY:
        # Its figures may be infinite, and are not compared.
        entry["stages"] = {}
    return {**entry, _VERDICT: cell.verdict.value}


def _compare(cell: CellResult, entries: dict[str, Any], plan: SweepFile, path: Path) -> CellResult:
    entry = entries.get(cell.name)
    if entry is None or cell.report is None:
        return cell
    if entry.get(_VERDICT, Verdict.PARITY) != Verdict.PARITY:
        return replace(cell, is_locked=True)
    if cell.verdict is Verdict.DIVERGENCE:
        sentence = f"it differs, and agreed when {path.name} was written"
        return replace(cell, is_locked=True, regressions=(sentence,))
    try:
        found = lock.find_regressions(cell.report, entry, plan.lock_factor, path)
    except UsageError as error:
        raise UsageError(f"{cell.name}: {error}") from error
    return replace(cell, is_locked=True, regressions=tuple(found))
