"""`parity check`: its file, its lock, what it prints and writes, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import parity
from parity.commands import cases, comparison_runner, lock
from parity.commands.cli import main as cli
from parity.commands.diff import diff
from parity.commands.toml_lines import TomlLines
from parity.comparison.placement import DeviceMissing
from parity.errors import OutputError, UsageError
from parity.report import codec
from parity.report.model import Report, SubjectFacts, Verdict
from tests.captures import write
from tests.report import samples

pytestmark = pytest.mark.usefixtures("shared_children")

TWO = """
[defaults]
image_size = 64

[[case]]
model = "resnet18"
classes = 10

[[case]]
name = "second"
model = "resnet34"
limit = 3
subjects = "keras, torch"
"""


def plan(folder: Path, text: str = TWO) -> Path:
    path = folder / "parity.toml"
    path.write_text(text)
    return path


# The file


def test_a_file_is_read(tmp_path: Path) -> None:
    found = cases.load(plan(tmp_path, TWO + '[reports]\njunit = "out/parity.xml"\n'))
    first, second = found.cases
    assert (first.name, first.line, second.name, second.line) == ("resnet18", 5, "second", 9)
    assert first.request.image_size == (64, 64)
    assert (first.request.classes, first.lock_factor) == (10, 2.0)
    assert second.request.subjects == ("keras", "torch")
    assert second.request.limit == 3
    assert found.reports == {"junit": tmp_path / "out/parity.xml"}


@pytest.mark.parametrize(
    ("weights", "found"),
    [("torch", "torch"), ("net.py:build", "{}/net.py:build"), ("keras:ResNet50", "keras:ResNet50")],
)
def test_the_weights_may_be_those_of_a_model(tmp_path: Path, weights: str, found: str) -> None:
    """A file starts at the case file, the name of a subject is no file."""
    (tmp_path / "net.py").touch()
    models = "models = ['torch=net.py:build', 'keras:ResNet50']"
    text = f"[[case]]\nname = 'net'\n{models}\nweights = '{weights}'"
    (case,) = cases.load(plan(tmp_path, text)).cases
    assert case.request.weights == found.format(tmp_path)


def test_a_case_outweighs_the_defaults_and_paths_start_at_the_file(tmp_path: Path) -> None:
    text = """
[defaults]
weights = "w.pth"
input = "random"
isolate = true
[[case]]
model = "resnet18"
[[case]]
name = "b"
model = "resnet18"
weights = "random"
input = "photos"
isolate = false
image_size = "96x128"
lock_factor = 3
"""
    first, second = (case.request for case in cases.load(plan(tmp_path, text)).cases)
    assert (first.weights, first.input, first.isolate) == (tmp_path / "w.pth", "random", True)
    assert (second.weights, second.input) == ("random", tmp_path / "photos")
    assert (second.isolate, second.image_size) == (False, (96, 128))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[case]]\nmodle = "resnet18"', r":2: unknown key 'modle'; did you mean 'model'\?"),
        ('[[case]]\nmodel = "resnet18"\n\n[[case]]\nmodel="resnet18"\nclases = 3', ":6: .*classes"),
        ("[defaults]\ndeph = 'layer'\n[[case]]\nmodel='resnet18'", ":2: .*'depth'"),
        ("[default]\n[[case]]\nmodel = 'resnet18'", ":1: unknown key 'default'.*'defaults'"),
        ("[reports]\njunti = 'x.xml'\n[[case]]\nmodel = 'resnet18'", ":2: .*'junit'"),
        ("[reports]\njson = 3\n[[case]]\nmodel = 'resnet18'", ":2: json: expected a file"),
        ("[[case]]\nmodel = 'resnet19'", ":1: case 'resnet19': .*resnet18"),
        ("[[case]]\nmodel = 'resnet18'\nbatch = 0", ":1: case 'resnet18': --batch"),
        ("[[case]]\nmodel = 'resnet18'\nbatch = '3'", ":3: batch: expected a whole number"),
        ("[[case]]\nmodel = 'resnet18'\nbatch = true", ":3: batch: expected a whole number"),
        ("[[case]]\nmodel = 'resnet18'\nlimit = 'x'", ":3: limit: expected a number"),
        ("[[case]]\nmodel = 'resnet18'\nisolate = 1", ":3: isolate: expected true or false"),
        ("[[case]]\nmodel = 'resnet18'\nimage_size = 2.5", ":3: image_size: expected 224"),
        ("[[case]]\nmodel = 'resnet18'\nsubjects = 4", ":3: subjects: expected a list"),
        ("[[case]]\nmodel = 'resnet18'\nlock_factor = 0.5", ":3: lock_factor: .*at least 1"),
        ("[[case]]\nmodel = 'resnet18'\nweights = 3", ":3: weights: expected text"),
        ("[[case]]\nmodel = 'resnet18'\nsave_captures = 'x'", "unknown key 'save_captures'"),
        ("[[case]]\nname = '../x'\nmodel = 'resnet18'", ":1: name: expected letters, digits and"),
        ("[[case]]\nmodel='resnet18'\n[[case]]\nmodel='resnet18'", ":3: .*is also on line 1"),
        ("[[case]]\nmodels = ['keras=a:b']", ":1: expected a name, found none"),
        ("[[case]]\nname = 'x'\nmodels = 'a:b'", ":3: models: expected a list of models"),
        ("[[case]]\nname = 'x'\nmodels = ['resnet1:8']\nxla = true", "xla: belongs to one arch"),
        ("[[case]]\nname = 'x'\nmodels = ['keras=a:b']\ntable = 't.csv'", ":1: .*needs a model"),
        (
            "[[case]]\nname = 'x'\nmodels = ['keras=a:b']\ntable = 't.csv'\nsubjects=['keras']",
            "t.csv",
        ),
        ("case = 3", ":1: case: expected tables"),
        ("[defaults]\nseed = 1", r"expected at least one \[\[case\]\], found none"),
        ("[[case]\n", ": not TOML: .*line 1"),
        (
            "[environments]\nold = 3\n[[case]]\nmodel = 'resnet18'",
            ":2: old: expected an interpreter's path",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        cases.load(plan(tmp_path, text))
    assert "\n" not in str(caught.value)


BEFORE = {
    "a basic string": '''note = """
[[case]]
modle = 3
a quote " and two "" and an escaped \\"""
batch = 4"""''',
    "a literal string": "note = '''\n[defaults]\nbatch = 'x'\n'''",
    "quotes at the end": 'note = """\nbatch = ""\n"""""',
    "an array": 'note = [\n  "batch = 4",  # ] and """\n  [\n\'batch\'],\n]',
    "strings on one line": 'note = \'an apostrophe" # [ """\' # """ \'\nfree = "\\"\'["',
    "other ends of lines": 'note = "a\u2028b\u0085c" # \u2028',
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_the_line_is_right_after_a_value_of_many_lines(tmp_path: Path, before: str) -> None:
    """What looks like a key or a table there is none."""
    text = f"[environments]\nother = '3'\n[[case]]\n{before}\nmodel = 'resnet18'\nbatch = 'x'\n"
    tomllib.loads(text)
    lines = TomlLines(text)
    end = text.count("\n")
    assert lines.find("case") == 3
    assert lines.find("case", 0, "note") == 4
    assert lines.find("case", 0, "model") == end - 1
    assert lines.find("case", 0, "batch") == end


def test_an_error_after_a_string_of_many_lines_is_told_with_its_line(tmp_path: Path) -> None:
    text = '[[case]]\nname = """\nfirst\\\nbatch = 1 """\nmodel = "resnet18"\nbatch = "x"\n'
    with pytest.raises(UsageError, match=r"toml:6: batch: expected a whole number"):
        cases.load(plan(tmp_path, text))


def test_every_key_is_a_field_of_the_request(tmp_path: Path) -> None:
    """So that what `compare` can do, `check` can."""
    assert {"model", "precision", "semantics", "table", "isolate", "models"} <= set(cases.KEYS)
    with pytest.raises(UsageError, match="cannot be read"):
        cases.load(tmp_path / "absent.toml")


# Cases that are judged without a framework


Judge = Callable[..., None]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    """What a comparison would find: by the model, a folder of invented captures."""
    found: dict[str | None, Report] = {}

    def run(request: Any, **_: Any) -> Report:
        report = found[request.model]
        if isinstance(report, Exception):
            raise report
        return report

    def judge(model: str = "resnet18", report: Any = None, **options: Any) -> None:
        if report is None:
            folder = tmp_path / f"captures{len(list(tmp_path.iterdir()))}"
            write(folder, **{"model": model, **options})
            report = diff(folder, folder)
        found[model] = report

    @contextlib.contextmanager
    def nobody(**_: Any) -> Iterator[Any]:
        class Nobody:
            def start(self, runtimes: object) -> None:
                pass

            def __iter__(self) -> Iterator[Any]:
                return iter(())

        yield Nobody()

    monkeypatch.setattr(comparison_runner.comparing, "compare_request", run)
    monkeypatch.setattr(comparison_runner, "Children", nobody)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    judge("resnet18")
    judge("resnet34")
    judge.found = found  # type: ignore[attr-defined]
    return judge


def test_all_cases_agree(tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(plan(tmp_path))]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 cases agree" in out
    assert not lock.lock_path(tmp_path / "parity.toml").exists()


def test_the_worst_case_decides(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 beats 3 beats 0."""
    failed = dataclasses.replace(
        judged.found["resnet18"],  # type: ignore[attr-defined]
        verdict=Verdict.UNKNOWN,
        subjects={"keras": SubjectFacts("Keras", "cpu", failure="keras: no such module")},
    )
    judged("resnet18", failed)
    assert cli.main(["check", str(plan(tmp_path))]) == 3
    assert "keras: keras: no such module" in capsys.readouterr().out
    judged("resnet34", broken={"keras": "stem.relu"})
    assert cli.main(["check", str(plan(tmp_path))]) == 1
    out = capsys.readouterr().out
    assert "0 of 2 cases agree" in out
    assert "keras differs first at stem.relu" in out


def test_progress_has_the_time_left(tmp_path: Path, judged: Judge) -> None:
    said: list[str] = []
    parity.check(plan(tmp_path), progress=lambda who, text: said.append(text))
    assert said[0].endswith("1 of 2")
    assert re.search(r", 2 of 2, \d+:\d\d left$", said[1])


def test_one_case_alone(tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    judged("resnet34", broken={"keras": "head"})
    path = str(plan(tmp_path))
    assert cli.main(["check", path, "--case", "resnet18"]) == 0
    assert cli.main(["check", path, "--case", "second"]) == 1
    assert cli.main(["check", path, "--case", "third"]) == 2
    assert "unknown case 'third'; known: resnet18, second" in capsys.readouterr().err


def test_an_error_of_a_case_names_it(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judged("resnet34", UsageError("no such file"))
    path = plan(tmp_path)
    assert cli.main(["check", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path}:9: case 'second': no such file\n"


def test_a_missing_gpu_has_a_line_for_each_runtime(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judged("resnet34", DeviceMissing(["keras: no GPU", "torch: no GPU"]))
    path = plan(tmp_path)
    assert cli.main(["check", str(path)]) == 3
    place = f"{path}:9: case 'second'"
    assert capsys.readouterr().err == (
        f"error: {place}: keras: no GPU\nerror: {place}: torch: no GPU\n"
    )


def test_a_damaged_cache_entry_is_noted(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judged("resnet34")
    folder = tmp_path / "captures"
    report = diff(write(folder), folder)
    note = "cache entry a.onnx is damaged: wrong checksum; it was computed again"
    judged("resnet34", dataclasses.replace(report, model="resnet34", notes=(note,)))
    assert cli.main(["check", str(plan(tmp_path))]) == 0
    assert f"note: {note}" in " ".join(capsys.readouterr().err.split())


def test_reports_and_github(
    tmp_path: Path,
    judged: Judge,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every form, annotations at the right case, and the step's summary."""
    judged("resnet34", broken={"keras": "head"})
    reports = '[reports]\njson = "a.json"\njunit = "a.xml"\nmarkdown = "a.md"\nhtml = "pages"\n'
    path = plan(tmp_path, TWO + reports)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    (tmp_path / "step.md").write_text("before\n")
    assert cli.main(["check", str(path), "--json", str(tmp_path / "other.json")]) == 1
    told = json.loads((tmp_path / "other.json").read_text())
    assert not (tmp_path / "a.json").exists()
    assert [codec.from_json(each).verdict for each in told["cases"].values()] == [
        "parity",
        "divergence",
    ]
    suites = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert suites.get("failures") == str(len(suites.findall(".//failure"))) != "0"
    assert {case.get("classname", "").split(".")[0] for case in suites.iter("testcase")} == {
        "resnet18",
        "second",
    }
    assert sorted(page.name for page in (tmp_path / "pages").iterdir()) == [
        "resnet18.html",
        "second.html",
    ]
    for page in ("a.md", "step.md"):
        text = (tmp_path / page).read_text()
        assert "1 of 2 cases agree" in text
        assert text.index("**second**") < text.index("**resnet18**")
    assert text.startswith("before\n")
    annotations = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("::error")
    ]
    assert annotations
    where = f"::error file={path},line=9,title=parity%3A second%3A divergence::"
    assert all(line.startswith(where) for line in annotations)


def test_a_page_for_several_cases_is_refused(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(plan(tmp_path)), "--html", str(tmp_path / "x.html")]) == 2
    assert "give a folder" in capsys.readouterr().err


def test_a_report_that_is_printed(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(plan(tmp_path)), "--json", "-"]) == 0
    assert set(json.loads(capsys.readouterr().out)["cases"]) == {"resnet18", "second"}


def test_only_one_report_can_be_printed(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two on standard output could not be told apart; `parity compare` refuses them, too."""
    assert cli.main(["check", str(plan(tmp_path)), "--json", "-", "--junit", "-"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "--json and --junit: only one report can be printed" in err


def test_a_page_of_several_cases_cannot_be_printed(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(plan(tmp_path)), "--html", "-"]) == 2
    assert "html holds one case, found 2" in capsys.readouterr().err


# From Python


def test_the_result_has_the_reports_by_case(tmp_path: Path, judged: Judge) -> None:
    path = plan(tmp_path, TWO + '[reports]\njunit = "all.xml"\nmarkdown = "all.md"\n')
    result = parity.check(str(path), reports={"json": tmp_path / "out", "markdown": None})
    assert result
    assert (result.ok, result.exit_code, result.verdict) == (True, 0, Verdict.PARITY)
    assert list(result.reports) == ["resnet18", "second"]
    assert all(isinstance(report, parity.Report) for report in result.reports.values())
    assert result.lock_file is None
    assert (tmp_path / "all.xml").exists()
    assert not (tmp_path / "all.md").exists()
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["resnet18.json", "second.json"]


def test_a_case_that_differs_makes_the_result_false(tmp_path: Path, judged: Judge) -> None:
    judged("resnet34", broken={"keras": "head"})
    path = plan(tmp_path)
    assert parity.check(path, cases=["resnet18"])
    result = parity.check(path)
    assert not result
    assert (result.ok, result.exit_code) == (False, 1)
    assert not result.reports["second"].ok
    assert not parity.check(path, update=True)
    assert not lock.lock_path(path).exists()
    locked = parity.check(path, cases=["resnet18"], update=True)
    assert locked.lock_file == lock.lock_path(path)
    assert locked.lock_file.exists()


def test_what_cannot_be_is_refused_before_anything_runs(
    tmp_path: Path, judged: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*given: Any, **named: Any) -> Report:
        raise AssertionError("it was run")

    monkeypatch.setattr(comparison_runner.comparing, "compare_request", run)
    path = plan(tmp_path)
    with pytest.raises(UsageError, match=r"unknown case 'third'; known: resnet18, second"):
        parity.check(path, cases=["third"])
    with pytest.raises(UsageError, match="unknown report format 'jsn'; did you mean 'json'"):
        parity.check(path, reports={"jsn": "out"})
    with pytest.raises(OutputError, match="there is no folder"):
        parity.check(path, reports={"json": tmp_path / "no" / "r.json"})
    monkeypatch.chdir(tmp_path / "..")
    with pytest.raises(UsageError, match=r"^parity\.toml: cannot be read"):
        parity.check()


# The lock


@pytest.fixture
def locked(tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]) -> Path:
    """A lock that `--update` has written."""
    assert cli.main(["check", str(plan(tmp_path)), "--update"]) == 0
    path = tmp_path / "parity.lock.json"
    assert str(path) in capsys.readouterr().out
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def figures(data: dict[str, Any], stage: str = "stem.relu") -> dict[str, float]:
    found: dict[str, float] = data["cases"]["second"]["stages"][stage]["keras"]
    return found


def figures_of(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["cases"]["second"]["stages"]["head"]
    return found


def test_an_unchanged_run_agrees_and_locks_the_same_bytes(tmp_path: Path, locked: Path) -> None:
    before = locked.read_bytes()
    path = str(tmp_path / "parity.toml")
    assert cli.main(["check", path]) == 0
    assert cli.main(["check", path, "--update"]) == 0
    assert locked.read_bytes() == before
    assert list(json.loads(before)["cases"]) == ["resnet18", "second"]


# 240 values, of which chance is part, and 14: both are held against the floor too.
@pytest.mark.parametrize("figure", ["x_floor", "max_abs"])
@pytest.mark.parametrize(("shrunk", "code"), [(3.0, 1), (1.8, 0)])
def test_a_figure_that_triples_is_red(
    tmp_path: Path,
    locked: Path,
    figure: str,
    shrunk: float,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Though it is far under the limit; that it doubles is allowed."""
    monkeypatch.setattr(lock, "SMALL_SIZE", 100)

    def shrink(data: dict[str, Any]) -> None:
        figures(data)[figure] /= shrunk

    edit(locked, shrink)
    assert cli.main(["check", str(tmp_path / "parity.toml")]) == code
    out = capsys.readouterr().out
    if code:
        assert f"keras at stem.relu: {figure}" in out
        assert "is more than 2 times the locked" in out
        assert "1 of 2 cases agree" in out


def test_versions_are_locked_in_one_order(judged: Judge) -> None:
    report = judged.found["resnet34"]  # type: ignore[attr-defined]
    versions = {"torch": {"torch": "2"}, "keras": {"tensorflow": "2", "keras": "3"}}
    report = dataclasses.replace(report, environment={"versions": versions})
    held = lock.lock_entry(report, Path())["versions"]
    assert [list(held), list(held["keras"])] == [["keras", "torch"], ["keras", "tensorflow"]]


def test_another_factor(tmp_path: Path, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SMALL_SIZE", 100)
    edit(locked, lambda data: figures(data).update(x_floor=figures(data)["x_floor"] / 3))
    path = tmp_path / "parity.toml"
    assert cli.main(["check", str(path)]) == 1
    path.write_text(path.read_text().replace("limit = 3", "limit = 3\nlock_factor = 4"))
    assert cli.main(["check", str(path)]) == 0


def test_a_few_numbers_that_were_right_by_luck_are_no_promise(tmp_path: Path, locked: Path) -> None:
    """Nor is what was exact: rounding alone may move both, by up to the floor."""
    edit(locked, lambda data: figures(data, "head").update(x_floor=1e-4, max_abs=1e-12))
    assert cli.main(["check", str(tmp_path / "parity.toml")]) == 0
    edit(locked, lambda data: figures(data).update(x_floor=0.0, max_abs=0.0))
    assert cli.main(["check", str(tmp_path / "parity.toml")]) == 0


def test_versions_that_changed_are_told(
    judged: Judge, locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SMALL_SIZE", 100)
    data = json.loads(locked.read_text())["cases"]["second"]
    report = judged.found["resnet34"]  # type: ignore[attr-defined]
    now = {"versions": {"keras": {"keras": "3.15"}}}
    report = dataclasses.replace(report, environment=now)
    data["versions"] = {"keras": {"keras": "3.14"}}
    data["stages"]["stem.relu"]["keras"]["max_abs"] = 1e-12
    (told,) = lock.find_regressions(report, data, 2.0, Path("x"))
    assert told.endswith("(keras 3.15 was 3.14)")


@pytest.mark.parametrize(
    ("key", "word"),
    [("weights_sha256", "weights"), ("input_sha256", "input"), ("model", "model"), ("depth", "")],
)
def test_a_lock_of_something_else(
    tmp_path: Path, locked: Path, key: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(locked, lambda data: data["cases"]["second"].update({key: "e" * 64}))
    assert cli.main(["check", str(tmp_path / "parity.toml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"parity.lock.json: another {word or key}" in line
    assert f"locked {'e' * 16}, found" in line
    assert cli.main(["check", str(tmp_path / "parity.toml"), "--update"]) == 0
    assert cli.main(["check", str(tmp_path / "parity.toml")]) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data["cases"].pop("second"), ":9: case 'second' is not in"),
        (lambda data: data["cases"].update(old={}), "case 'old' is not in"),
        (lambda data: data.update(schema="parity.lock/9"), "expected schema parity.lock/1, found"),
        (lambda data: data.update(cases=3), "malformed"),
        (lambda data: data["cases"]["second"].pop("stages"), "malformed"),
        (lambda data: data["cases"]["second"]["stages"].pop("head"), "no figures for keras"),
        (
            lambda data: data["cases"]["second"]["stages"]["head"].pop("torch"),
            "no figures for torch",
        ),
    ],
)
def test_a_lock_that_does_not_fit(
    tmp_path: Path,
    locked: Path,
    change: Callable[[dict[str, Any]], Any],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(locked, change)
    assert cli.main(["check", str(tmp_path / "parity.toml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_lock_that_is_no_json(
    tmp_path: Path, locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked.write_text("{")
    assert cli.main(["check", str(tmp_path / "parity.toml")]) == 2
    assert "not JSON" in capsys.readouterr().err


def test_what_differs_is_not_locked(
    tmp_path: Path, judged: Judge, locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = locked.read_bytes()
    judged("resnet34", broken={"keras": "head"})
    assert cli.main(["check", str(tmp_path / "parity.toml"), "--update"]) == 1
    assert locked.read_bytes() == before
    assert "not written, since not all cases agree" in capsys.readouterr().err


def test_one_case_is_locked_anew_and_the_other_keeps_its_figures(
    tmp_path: Path, judged: Judge, locked: Path
) -> None:
    before = json.loads(locked.read_text())["cases"]
    judged("resnet18", seed=7)
    judged("resnet34", seed=8)
    path = str(tmp_path / "parity.toml")
    assert cli.main(["check", path, "--update", "--case", "second"]) == 0
    after = json.loads(locked.read_text())["cases"]
    assert after["resnet18"] == before["resnet18"]
    assert after["second"] != before["second"]
    assert list(after) == list(before)


@pytest.mark.parametrize("folder", ["", "sub", "/somewhere/else"])
def test_a_lock_fits_wherever_the_command_runs(folder):
    """The files of models are named from the folder of the command; the lock's are not."""
    prefix = f"{folder}/" if folder else ""
    report = dataclasses.replace(samples.parity(), model="net.py:build | old.onnx")
    entry = lock.lock_entry(report, Path())
    elsewhere = dataclasses.replace(report, model=f"{prefix}net.py:build | {prefix}old.onnx")
    path = Path(folder) / "parity.lock.json"
    assert lock.lock_entry(elsewhere, path.parent) == entry
    assert lock.find_regressions(elsewhere, entry, 2.0, path) == []
    other = dataclasses.replace(report, model=f"{prefix}other.py:build | old.onnx")
    with pytest.raises(UsageError, match="another model"):
        lock.find_regressions(other, entry, 2.0, path)
