"""`parity history`: the versions of a lock file in git or in several files, and what is marked."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import parity
from parity.commands import history as histories
from parity.commands.cli import main as cli
from parity.errors import OutputError, UsageError

CASES: dict[str, Any] = {
    "small": {
        "model": "resnet18",
        "weights_sha256": "a" * 64,
        "input_sha256": "b" * 64,
        "depth": "stage",
        "versions": {"torch": {"torch": "2.12.0"}},
        "stages": {
            "stem": {
                "torch": {"x_floor": 0.5, "max_abs": 1e-6},
                "keras": {"x_floor": 1.5, "max_abs": 1e-6},
            },
            "logits": {
                "torch": {"x_floor": 1.0, "max_abs": 1e-6},
                "keras": {"x_floor": 1.25, "max_abs": 1e-6},
            },
        },
    }
}


def cases(**figures: float) -> dict[str, Any]:
    """Return the cases with other figures, named `STAGE_SUBJECT`."""
    changed = copy.deepcopy(CASES)
    for name, figure in figures.items():
        stage, subject = name.split("_")
        changed["small"]["stages"][stage][subject]["x_floor"] = figure
    return changed


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"schema": "parity.lock/1", "cases": content}))
    return path


def git(folder: Path, *words: str) -> None:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    environment = {**os.environ, **identity}
    subprocess.run(["git", "-C", folder, *words], check=True, env=environment, capture_output=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-m", message)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "a repository"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["history", *words]) == 2
    done = capsys.readouterr()
    (line,) = done.err.splitlines()
    assert not done.out
    return line


def test_the_versions_of_git_are_read_across_a_renaming(repository: Path) -> None:
    old = write(repository / "old.lock.json", cases())
    commit(repository, "first")
    (repository / "other").write_text("")
    commit(repository, "says nothing of the lock")
    git(repository, "mv", "old.lock.json", "a b.lock.json")
    commit(repository, "renamed")
    path = write(repository / "a b.lock.json", cases(stem_torch=1.5))
    commit(repository, "worse")
    write(path, cases(stem_torch=0.6))
    assert not old.exists()
    found = parity.history(path)
    assert [each.subject for each in found.versions] == ["first", "renamed", "worse", ""]
    assert found.versions[-1].label == "working tree"
    torch = {series.subject: series for series in found.series}["torch"]
    assert torch.figures == (1.0, 1.0, 1.5, 1.0)
    assert torch.stages == ("logits", "logits", "stem", "logits")
    assert torch.change == pytest.approx(1 / 1.5)


def test_a_regression_is_found_at_a_stage_that_is_not_the_worst(tmp_path: Path) -> None:
    """The keras subject's largest figure stays; one stage of it grows to more than twice."""
    before = write(tmp_path / "1", cases(logits_keras=0.5))
    after = cases(logits_keras=1.01)
    after["small"]["versions"]["torch"]["torch"] = "2.13.0"
    found = parity.history(before, write(tmp_path / "2", after))
    ((series, regression),) = found.regressions
    assert (series.subject, series.figures) == ("keras", (1.5, 1.5))
    assert histories.describe_regression(found, series, regression) == (
        f"small: keras at logits: x floor 0.5 → 1.01 (2.02×) in {tmp_path / '2'} "
        "(torch 2.13.0 was 2.12.0)"
    )


@pytest.mark.parametrize(
    ("before", "after", "marked"),
    [
        (1.0, 2.0, False),
        (1.0, 2.001, True),
        (0.0, 1.9, False),
        (0.0, 2.1, True),
        (2.0, 1.0, False),
    ],
)
def test_more_than_twice_is_a_regression(
    tmp_path: Path, before: float, after: float, marked: bool
) -> None:
    found = parity.history(
        write(tmp_path / "1", cases(stem_torch=before)),
        write(tmp_path / "2", cases(stem_torch=after)),
    )
    assert bool(found.regressions) is marked


def test_another_input_is_no_regression_but_a_new_beginning(tmp_path: Path) -> None:
    other = cases(stem_torch=9.0)
    other["small"]["input_sha256"] = "c" * 64
    found = parity.history(write(tmp_path / "1", cases()), write(tmp_path / "2", other))
    assert not found.regressions
    torch = {series.subject: series for series in found.series}["torch"]
    assert torch.breaks == {1: f"input {'c' * 16}"}
    assert torch.change is None


def test_a_case_may_be_missing_for_a_while(tmp_path: Path) -> None:
    gap = {"other": cases()["small"]}
    paths = [
        write(tmp_path / "1", cases()),
        write(tmp_path / "2", gap),
        write(tmp_path / "3", cases(stem_torch=8.0)),
    ]
    found = parity.history(*paths, cases=["small"])
    torch = {series.subject: series for series in found.series}["torch"]
    assert torch.figures == (1.0, None, 8.0)
    assert [(each.previous, each.version) for each in torch.regressions] == [(0, 2)]


def test_a_version_with_conflict_markers_is_left_out_with_a_note(repository: Path) -> None:
    path = write(repository / "l.json", cases())
    commit(repository, "first")
    path.write_text("<<<<<<< ours\n")
    commit(repository, "a conflict")
    malformed = cases()
    malformed["small"]["stages"]["stem"]["torch"] = 3
    write(path, malformed)
    commit(repository, "malformed")
    write(path, cases())
    commit(repository, "last")
    found = parity.history(path)
    assert [each.subject for each in found.versions] == ["first", "last"]
    assert len(found.notes) == 2
    assert "l.json: not JSON" in found.notes[0]
    assert "malformed" in found.notes[1]


def test_the_table_marks_regressions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["1", "2", "3"]
    for name, figure in zip(names, (1.0, 4.0, 4.0), strict=True):
        write(tmp_path / name, cases(logits_torch=figure))
    assert cli.main(["history", *names, "--svg", "plot.svg"]) == 0
    out = capsys.readouterr().out
    assert "small  torch    1.00  ▲ 4.00  4.00   1.00×" in out
    assert "▲ small: torch at logits: x floor 1 → 4 (4×) in 2\n" in out
    assert cli.main(["history", *names, "--last", "1"]) == 0
    assert "3 versions; the newest 1:" in capsys.readouterr().out
    tree = ElementTree.parse(tmp_path / "plot.svg")
    text = "".join(tree.getroot().itertext())
    assert "small: torch" in text
    assert "rounding floor" in text
    first = (tmp_path / "plot.svg").read_bytes()
    parity.history(*names, svg="plot.svg")
    assert (tmp_path / "plot.svg").read_bytes() == first


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / "1", cases(logits_torch=0.0, stem_torch=0.0))
    second = write(tmp_path / "2", cases(logits_torch=3.0, stem_torch=0.0))
    assert cli.main(["history", str(first), str(second), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "parity.history/1"
    torch = next(each for each in data["series"] if each["subject"] == "torch")
    assert torch["figures"] == [0.0, 3.0]
    assert torch["change"] is None
    assert torch["regressions"][0]["stage"] == "logits"


def test_bad_input_is_one_line(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = write(tmp_path / "l.json", cases())
    assert "not in a git repository; give several files" in refused(capsys, str(lock))
    missing = str(tmp_path / "none.json")
    assert f"{missing}: no such file" in refused(capsys, missing)
    assert "no such file" in refused(capsys, str(tmp_path / "none" / "l.json"))
    assert "cannot be read: No such file" in refused(capsys, str(lock), missing)
    assert "--git: expected one file, found 2" in refused(capsys, str(lock), str(lock), "--git")
    assert "unknown case 'x'; known: small" in refused(capsys, str(lock), str(lock), "--case", "x")
    inside = write(repository / "l.json", cases())
    assert "git has no version of it" in refused(capsys, str(inside))
    (repository / "other").write_text("")
    git(repository, "add", "other")
    git(repository, "commit", "-m", "another file")
    assert "git has no version of it; commit it" in refused(capsys, str(inside))
    inside.write_text("{}")
    commit(repository, "no lock")
    inside.unlink()
    assert "none of its 1 versions in git is a lock file" in refused(capsys, str(inside))
    with pytest.raises(UsageError, match="expected a lock file"):
        parity.history()
    with pytest.raises(OutputError, match="would replace a file that is read"):
        parity.history(lock, lock, svg=lock)


def test_without_git_several_files_can_still_be_given(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(repository / "l.json", cases())
    commit(repository, "first")
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(UsageError, match="git cannot be run"):
        parity.history(path)
    assert parity.history(path, path).versions
