"""A comparison that was done before: its report is the same, from what is kept in the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parity.processes.cache import is_cache_note
from tests.end_to_end.harness import Done

pytestmark = pytest.mark.framework

PAIR = ("one=gru_tagger", "two=lstm_tagger")
KEPT = "from an earlier run, in the cache: "


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARITY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _read(done: Done, file: Path) -> tuple[Any, list[str]]:
    """Return a report without times and notes of the cache, and these notes."""
    assert done.code == 1, done.err
    report = json.loads(file.read_text())
    notes = [each["message"] for each in report["notes"]]
    own = [note for note in notes if note.startswith(KEPT) or is_cache_note(note)]
    report["notes"] = [each for each in report["notes"] if each["message"] not in own]
    del report["command"]
    return _without_seconds(report), own


def _without_seconds(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _without_seconds(each) for name, each in data.items() if name != "seconds"}
    return [_without_seconds(each) for each in data] if isinstance(data, list) else data


def test_a_second_run_reports_the_same_and_damage_is_made_good(parity, tmp_path, root):
    def compare() -> tuple[Any, list[str]]:
        file = tmp_path / "report.json"
        return _read(parity("compare", *PAIR, "--json", file), file)

    cold, notes = compare()
    assert not notes
    entries = sorted(path for path in root.rglob("*.*") if path.is_file())
    again, notes = compare()
    assert again == cold
    assert notes == [f"{KEPT}causes, check of weights, floors, models; --no-cache makes them anew"]
    assert sorted(path for path in root.rglob("*.*") if path.is_file()) == entries

    damaged = [path for path in entries if path.parent.name in ("arrays", "results")]
    assert {path.parent.name for path in damaged} == {"arrays", "results"}
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    anew, notes = compare()
    assert anew == cold
    assert {note.split()[2].partition("/")[0] for note in notes} == {"results"}
