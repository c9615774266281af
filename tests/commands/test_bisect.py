"""`parity bisect`: the search, the releases, the commits, and two planted changes end to end."""

from __future__ import annotations

import json
import math
import os
import subprocess
from contextlib import closing
from pathlib import Path

import numpy
import pytest

import parity
from parity.commands import bisect as bisecting
from parity.commands import bisect_axes
from parity.commands.cli import main as cli
from parity.commands.commit_worktrees import CommitWorktrees
from parity.errors import InterpreterError, ParityError, UsageError
from parity.processes import environments, releases
from tests.commands.test_history import commit, git
from tests.studies.bisect import __main__ as study
from tests.studies.bisect import index as index_study
from tests.studies.bisect.plants import (
    NETWORK,
    PLANTS,
    SOURCE,
    VERSIONS,
    write_releases,
    write_wheel,
)

# The search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 10, 17, 100])
def test_the_search_finds_each_place_in_a_logarithm_of_steps(count: int) -> None:
    for first_bad in range(1, count):
        asked = []

        def judge(index: int, first_bad: int = first_bad, asked: list[int] = asked) -> str:
            asked.append(index)
            return "bad" if index >= first_bad else "good"

        assert bisecting.search(count, judge) == (first_bad - 1, first_bad, ())
        assert len(asked) <= math.ceil(math.log2(count - 1)) if count > 2 else not asked
        assert len(asked) == len(set(asked))


@pytest.mark.parametrize(
    ("skipped", "found"),
    [
        ({4, 5}, (3, 6, (4, 5))),
        ({1, 8}, (5, 6, ())),
        (set(range(1, 9)), (0, 9, tuple(range(1, 9)))),
    ],
)
def test_what_cannot_be_tried_is_skipped(
    skipped: set[int], found: tuple[int, int, tuple[int, ...]]
) -> None:
    def judge(index: int) -> str:
        if index in skipped:
            return "skipped"
        return "bad" if index >= 6 else "good"

    assert bisecting.search(10, judge) == found


# Releases -----------------------------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file and ten releases; no index is asked."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return write_releases(tmp_path / "net", PLANTS[1], "0.7").parent / "wheels"


def test_releases_are_listed_and_ordered_as_versions(wheels: Path) -> None:
    assert releases.list_releases("netpkg", find_links=[wheels]) == list(VERSIONS)
    assert releases.select_releases("netpkg", VERSIONS, "0.9", "0.10") == ["0.9", "0.10"]
    assert releases.select_releases("netpkg", VERSIONS, "0.3.0", "0.1") == ["0.3", "0.2", "0.1"]
    assert releases.sort_versions(["1.10", " 1.9", "1.9.0", "2.0rc1", "2.0"]) == [
        "1.9.0",
        "1.10",
        "2.0rc1",
        "2.0",
    ]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of an index, of which this interpreter can have some releases only."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("0.1", "0.2", "0.3", "0.4", "0.5rc1", "0.6", "0.7"):
        write_wheel(wheels, version, "")
    (wheels / "netpkg-0.3-py3-none-any.whl").rename(wheels / "netpkg-0.3-cp27-none-win32.whl")
    marks = {"0.4": 'data-yanked="it is broken"', "0.6": 'data-requires-python="&gt;=9"'}
    links = [
        f'<a href="wheels/{path.name}" {marks.get(path.name.split("-")[1], "")}>{path.name}</a>'
        for path in sorted(wheels.iterdir())
    ]
    page = tmp_path / "index.html"
    page.write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")
    return page


def test_releases_that_are_yanked_early_or_for_another_python(index: Path) -> None:
    def find(*ends: str) -> list[str]:
        return releases.list_releases_with_ends("netpkg", ends, find_links=[index])

    # 0.3 is for another system, 0.6 for a Python to come, 0.4 was yanked, 0.5rc1 is early.
    assert find("0.1", "0.7") == ["0.1", "0.2", "0.7"]
    assert find("0.1", "0.4") == ["0.1", "0.2", "0.4", "0.7"]
    assert find("0.5rc1", "0.7") == ["0.1", "0.2", "0.5rc1", "0.7"]
    for end in ("0.3", "0.6"):
        known = find("0.1", end)
        assert known == ["0.1", "0.2", "0.7"]
        message = (
            rf"--bad {end}: netpkg has no such release for this Python; there are 0\.1, 0\.2, "
        )
        with pytest.raises(UsageError, match=message):
            releases.select_releases("netpkg", known, "0.1", end)


def test_one_package_has_one_name() -> None:
    assert releases.parse_package("ONNXRuntime") == "onnxruntime"
    assert releases.parse_package("a.b_c") == "a-b-c"


def test_a_release_that_is_none_is_one_line(
    wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = f"{wheels.parent / 'network.py'}:build"

    def refused(*words: str, code: int = 2) -> str:
        assert cli.main(["bisect", *words, "--find-links", str(wheels)]) == code
        done = capsys.readouterr()
        (line,) = done.err.splitlines()
        assert not done.out
        return line

    package = ("--package", "netpkg", "--good", "0.1", "--bad")
    assert "--bad 0.99: netpkg has no such release for this Python" in refused(
        network, *package, "0.99"
    )
    assert "the same release of netpkg" in refused(network, *package, "0.1.0")
    assert "expected a version such as" in refused(network, *package, "newest")
    none = ("--package", "nopkg", "--good", "1", "--bad", "2")
    assert "nopkg: its releases cannot be listed: ERROR: " in refused(network, *none, code=3)
    assert "expected the name of a package" in refused(
        network, "--package", "--editable", "--good", "1", "--bad", "2"
    )
    assert "expected either --package" in refused(network)
    assert "expected --good VERSION and --bad" in refused(network, "--package", "netpkg")
    assert "are a package's" in refused(network, "--commits", "a..b")
    assert "give one or more models, or --case" in refused(*package, "0.2")


def test_a_layer_has_the_package_before_those_below(wheels: Path, tmp_path: Path) -> None:
    python = environments.create_layer(tmp_path / "a", "netpkg==0.4", find_links=[wheels])
    code = "import netpkg, numpy, parity; print(netpkg.__version__, numpy.__version__)"
    done = subprocess.run([python, "-P", "-c", code],
                          capture_output=True, text=True, cwd=tmp_path)  # fmt: skip
    # The package imports PyTorch, which is below.
    assert done.stdout.split() == ["0.4", numpy.__version__], done.stderr
    # It is used again as it is, above another layer too.
    assert environments.create_layer(tmp_path / "a", "netpkg==0.4") == python
    above = environments.create_layer(
        tmp_path / "b", "netpkg==0.5", base=python, find_links=[wheels]
    )
    done = subprocess.run(
        [above, "-P", "-c", "import importlib.metadata as m; print(m.version('netpkg'))"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout == "0.5\n", done.stderr
    with pytest.raises(UsageError, match=r"is no layer of netpkg==0\.5; remove it"):
        environments.create_layer(tmp_path / "a", "netpkg==0.5", find_links=[wheels])
    with pytest.raises(InterpreterError, match="No matching distribution"):
        environments.create_layer(tmp_path / "c", "netpkg==7", find_links=[wheels])
    assert not (tmp_path / "c").exists()
    listed = {each.name: each for each in environments.list_environments(tmp_path)}
    assert set(listed) == {"a", "b"}
    assert all(each.problem is None for each in listed.values())


# The study ----------------------------------------------------------------------------------------


def test_every_planted_change_is_one_change() -> None:
    assert len(PLANTS) == 20
    assert len({(plant.old, plant.new) for plant in PLANTS}) == 20
    for plant in PLANTS:
        assert SOURCE.count(plant.old) == 1, plant.name
        assert plant.old != plant.new


@pytest.mark.framework
@pytest.mark.parametrize("index", [2, pytest.param(14, marks=pytest.mark.slow)])
def test_a_planted_change_is_named(
    index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    score = study.follow(index, 0, tmp_path)
    assert score.missing == [], score.found.sentence
    assert score.found.exit_code == 0


@pytest.mark.framework
def test_a_release_that_is_broken_or_not_there_is_skipped(
    wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Release 0.7, which has the change first, is not there: 0.7 or 0.8 is the first."""
    (wheels / "netpkg-0.7-py3-none-any.whl").unlink()
    words = ["--package", "netpkg", "--good", "0.6", "--bad", "0.8", "--versions", "0.7"]
    network = f"{wheels.parent / 'network.py'}:build"
    code = cli.main(["bisect", network, *words, "--find-links", str(wheels), "--json"])
    data = json.loads(capsys.readouterr().out)
    assert code == 3
    assert (data["good"], data["between"], data["bad"]) == ("0.6", ["0.7"], "0.8")
    assert "netpkg 0.7 or netpkg 0.8" in data["sentence"]
    assert [each["outcome"] for each in data["trials"]] == ["good", "bad", "skipped"]
    assert "No matching distribution" in data["trials"][2]["reason"]


@pytest.mark.framework
def test_ends_that_do_not_differ_are_one_line(wheels: Path) -> None:
    network = f"{wheels.parent / 'network.py'}:build"
    with pytest.raises(UsageError, match=r"netpkg 0\.2 is not bad: .* agree"):
        parity.bisect(network, package="netpkg", good="0.1", bad="0.2", find_links=[wheels])


@pytest.mark.framework
@pytest.mark.slow
def test_a_real_index_has_the_releases() -> None:
    try:
        index_study.list_between("toolz", "0.11.0", "1.0.0")
    except InterpreterError as error:
        pytest.skip(f"no index: {error}")
    assert [name for name, holds in index_study.follow_release().items() if not holds] == []
    message = index_study.compare_equal_releases("onnxruntime", "1.31.0", "1.31.1")
    assert message.startswith("onnxruntime 1.31.1 is not bad: ")
    assert "\n" not in message


TWO_MODELS = """
[[case]]
name = "both"
models = ["right=plain.py:build", "own=network.py:build"]
export = false
"""


@pytest.mark.framework
@pytest.mark.slow
def test_two_models_of_a_case_are_compared_with_one_another_by_their_figures(
    wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The right one is the source without the change, in a file of the user's."""
    folder = wheels.parent
    monkeypatch.chdir(folder)
    (folder / "plain_net.py").write_text(SOURCE.replace("{version}", "").replace("{note}", ""))
    (folder / "plain.py").write_text(NETWORK.replace("netpkg", "plain_net"))
    (folder / "parity.toml").write_text(TWO_MODELS)
    words = ["--package", "netpkg", "--good", "0.6", "--bad", "0.7", "--find-links", "wheels"]
    assert cli.main(["bisect", "--case", "both", *words]) == 0
    out = capsys.readouterr().out
    assert "netpkg 0.7 is the first bad, netpkg 0.6 the last good: own at body2.norm:" in out
    assert "Epsilon is 0.001, not 1e-05" in out
    assert "✗ bad" in out
    assert "floors" in out
    assert cli.main(["bisect", "--case", "none", *words]) == 2
    assert "unknown case 'none'; known: both" in capsys.readouterr().err
    assert cli.main(["bisect", "--case", "both", "--figure", "other", *words]) == 2
    assert "--figure: no subject is called 'other'" in capsys.readouterr().err


# Commits ------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose fourth commit has a change; its checkout has another one of its own."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "models").mkdir()
    (folder / "models" / "network.py").write_text(NETWORK)
    source = SOURCE.replace("{version}", "x")
    for number in range(6):
        text = source.replace("{note}", f"note {number}")
        if number >= 3:
            text = text.replace(PLANTS[2].old, PLANTS[2].new)
        (folder / "models" / "netpkg.py").write_text(text)
        commit(folder, f"commit {number}")
    (folder / "models" / "netpkg.py").write_text("not committed")
    return folder


@pytest.mark.framework
def test_a_commit_is_named_and_the_checkout_stays(repository: Path) -> None:
    found = parity.bisect(f"{repository / 'models' / 'network.py'}:build", commits="HEAD~5..HEAD")
    assert "commit 3)" in found.sentence
    assert "commit 2)" in found.sentence
    assert (found.layer, found.subject, found.found) == ("groups", "new", True)
    assert "Epsilon is 0.01" in found.cause
    assert len(found.trials) <= 2 + math.ceil(math.log2(5))
    assert (repository / "models" / "netpkg.py").read_text() == "not committed"
    done = subprocess.run(
        ["git", "-C", repository, "worktree", "list"], capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.framework
def test_an_end_that_cannot_be_compared_is_named_with_exit_code_3(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = repository / "models" / "netpkg.py"
    text = SOURCE.replace("{version}", "x").replace("{note}", "")
    head, body, rest = text.partition("    def forward(self, x")
    line, newline, after = rest.partition("\n")
    broken = f"        raise RuntimeError('this commit is broken')\n{after}"
    source.write_text(f"{head}{body}{line}{newline}{broken}")
    commit(repository, "commit 6")
    network = f"{repository / 'models' / 'network.py'}:build"
    assert cli.main(["bisect", network, "--commits", "HEAD~6..HEAD"]) == 3
    (message,) = [each for each in capsys.readouterr().err.splitlines() if "error:" in each]
    assert "commit 6) could not be compared: " in message
    assert "this commit is broken" in message


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("--shape: no"), 2), (InterpreterError("no pip"), 3)]
)
def test_an_error_of_an_end_has_its_name_and_its_own_exit_code(
    error: ParityError, code: int, repository: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(self: object, index: int) -> None:
        raise error

    monkeypatch.setattr(bisect_axes.CommitRange, "compare", fail)
    network = f"{repository / 'models' / 'network.py'}:build"
    assert cli.main(["bisect", network, "--commits", "HEAD~5..HEAD"]) == code
    (message,) = [each for each in capsys.readouterr().err.splitlines() if "error:" in each]
    assert "commit 0): " in message


def test_commits_that_are_none_are_one_line(repository: Path, tmp_path: Path) -> None:
    network = f"{repository / 'models' / 'network.py'}:build"

    def refused(text: str, *models: str) -> str:
        with pytest.raises(UsageError) as raised:
            parity.bisect(*(models or (network,)), commits=text)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "expected GOOD..BAD" in refused("HEAD")
    assert "expected GOOD..BAD" in refused("HEAD~2...HEAD")
    assert "has no commit 'nothing'" in refused("nothing..HEAD")
    assert "has no commit '--all'" in refused("--all..HEAD")
    assert "are the same commit" in refused("HEAD..HEAD")
    assert "HEAD is no ancestor of HEAD~2" in refused("HEAD..HEAD~2")
    assert "is no file of a repository" in refused("HEAD~1..HEAD", "torchvision:resnet18")
    assert "resnet18: expected files of a repository" in refused("HEAD~1..HEAD", "resnet18")
    outside = tmp_path / "outside.py"
    outside.write_text("")
    assert "not in a git repository" in refused("HEAD~1..HEAD", f"{outside}:build")


def test_the_files_of_a_commit_are_those_of_its_worktree(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "models")
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    with closing(CommitWorktrees(["own=network.py:build,3"], tmp_path / "trees")) as worktrees:
        first, *_, last = worktrees.list_range("HEAD~5..HEAD")
        (reference,) = worktrees.check_out(last)
        name, _, path = reference.partition("=")
        assert name == "own"
        assert path.endswith("/models/network.py:build,3")
        assert "note 5" in Path(path.partition(":")[0]).with_name("netpkg.py").read_text()
        assert worktrees.describe(first).endswith("commit 0)")
    assert not Path(path.partition(":")[0]).exists()
    assert not os.path.exists(tmp_path / "ran")
