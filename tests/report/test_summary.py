"""What a report says of itself: in three lines, in a notebook, and as a truth value."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from parity.comparison.graphs.precisions import describe_row_precisions
from parity.errors import UsageError
from parity.report import summary
from parity.report.model import Level, Outcome, Report, Verdict
from tests.report.samples import SAMPLES, divergence, full, long, parity, unknown

HOSTILE = "<img src=x onerror=alert(1)>\n\x1b[2J&amp;\"'\u202e</table>"


class Fragment(HTMLParser):
    """The elements, attributes and text of a piece of HTML; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.data = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.mark.parametrize("sample", [*SAMPLES.values(), full, long])
def test_three_lines_and_a_fragment(sample: object) -> None:
    report: Report = sample()  # type: ignore[operator]
    verdict, where, why = str(report).split("\n")
    assert verdict.startswith(f"{report.verdict.value}: resnext50_32x4d: ")
    assert where.startswith("where: ")
    assert why.startswith("why: ")
    assert max(map(len, (verdict, where, why))) <= summary.MAX_LINE_LENGTH
    page = Fragment(report._repr_html_())
    assert all(line in page.data for line in (verdict, where, why))


def test_a_verdict_of_parity_says_how_close_it_is() -> None:
    verdict, where, why = str(parity()).split("\n")
    assert "at all 7 stages; the largest error is 1.0× the rounding floor" in verdict
    assert where == "where: no stage differs; the largest error is that of keras at stem"
    assert why == "why: no error is above 4× the rounding floor"


def test_a_first_difference_without_a_cause_is_said_to_have_none() -> None:
    """What is proved is told first: behind the first difference it is not why that is there."""
    report = full()
    (later,) = report.causes
    later = dataclasses.replace(later, layer="stage2.block0.conv1")
    here = "stage1.block0.conv2"
    unknown_cause = dataclasses.replace(later, layer=here, cause="not-explained", remedy="")
    proved = dataclasses.replace(later, layer=here)
    added = f"; {here}, where the models differ first, is not explained"
    for causes, is_added in (
        ((later, unknown_cause), True),
        ((later, proved), False),
        ((later, unknown_cause, proved), False),
        ((later, dataclasses.replace(unknown_cause, subject="torch")), False),
        ((unknown_cause, later), False),
        ((proved, unknown_cause), False),
        ((later,), False),
    ):
        made = dataclasses.replace(report, causes=causes)
        assert summary.describe_why(made).endswith(added) is is_added
    wordy = dataclasses.replace(later, message="so " * 300, remedy="")
    made = dataclasses.replace(report, causes=(wordy, unknown_cause))
    why = str(made).split("\n")[2]
    assert why.endswith(f" (and 1 more){added}")
    assert len(why) <= summary.MAX_LINE_LENGTH


def test_a_divergence_says_where_and_why() -> None:
    _, where, why = str(full()).split("\n")
    assert where.startswith(
        "where: keras differs first at stage1, layer stage1.block0.conv2: max abs"
    )
    assert why == "why: stage1.block0.conv2, keras: SAME"
    attributed = dataclasses.replace(full(), causes=())
    assert str(attributed).split("\n")[2].startswith("why: keras: the framework's own run differs")
    assert str(divergence()).split("\n")[2] == "why: no cause was found"


def test_several_causes_are_counted() -> None:
    causes = full().causes * 3
    assert str(dataclasses.replace(full(), causes=causes)).endswith("SAME (and 2 more)")


def test_unknown_says_what_is_missing() -> None:
    _, where, why = str(unknown()).split("\n")
    assert where == "where: keras could not be run"
    assert why == "why: keras: the process was killed by signal 9"
    facts = {**unknown().subjects, "keras": parity().subjects["keras"]}
    absent = dataclasses.replace(unknown(), subjects=facts)
    assert str(absent).split("\n")[1] == "where: keras is missing at stem"


def test_a_failed_level_is_where_and_why() -> None:
    levels = {**parity().levels, "structure": Level(Outcome.FAIL, ("conv1: kernel 3x3, not 7x7",))}
    report = dataclasses.replace(parity(), verdict=Verdict.DIVERGENCE, levels=levels)
    assert str(report).split("\n")[1:] == [
        "where: level structure",
        "why: structure: conv1: kernel 3x3, not 7x7",
    ]


@pytest.mark.parametrize(
    ("failed", "verb"), [("structure", "differs"), ("weights", "differ"), ("numerics", "differ")]
)
def test_the_levels_that_fail_and_their_verb(failed: str, verb: str) -> None:
    levels = {**parity().levels, failed: Level(Outcome.FAIL, ("conv1",))}
    report = dataclasses.replace(parity(), verdict=Verdict.DIVERGENCE, levels=levels)
    assert f"the {failed} {verb}." in str(report).split("\n")[0]


@pytest.mark.parametrize("verdict", Verdict)
def test_nothing_compared_can_be_printed(verdict: Verdict) -> None:
    report = dataclasses.replace(
        parity(), verdict=verdict, stages=(), levels={}, subjects={}, first_divergence=None
    )
    assert len(str(report).split("\n")) == 3
    assert "<table>" not in report._repr_html_()


def test_a_report_is_true_only_for_parity() -> None:
    assert [bool(SAMPLES[name]()) for name in ("parity", "divergence", "unknown")] == [
        True, False, False,
    ]  # fmt: skip
    assert parity().ok
    assert not divergence().ok
    with pytest.raises(AssertionError):
        assert unknown()


def test_the_table_has_every_subject_and_what_is_wrong_stands_out() -> None:
    report = full()
    head, *rows = Fragment(report._repr_html_()).rows
    assert head == ["stage", "shape", "floor", *report.subjects, "status"]
    assert [row[0] for row in rows] == [stage.name for stage in report.stages]
    assert rows[1][1:4] == ["256×56×56", "2.1e-5", "2.1e-2 (310×)"]
    assert [row[-1] for row in rows[:2]] == ["✓ at-floor", "✗ diverged"]
    assert "<strong>2.1e-2 (310×)</strong>" in report._repr_html_()
    assert "<td><strong>" not in parity()._repr_html_()
    assert "<td>missing</td>" in unknown()._repr_html_()


def test_a_long_table_is_cut_and_says_so() -> None:
    page = Fragment(long(347)._repr_html_())
    assert len(page.rows) - 1 == len(parity().stages)
    assert "340 more layers are not shown." in page.data
    wrong = Fragment(long(347, wrong=True)._repr_html_())
    assert len(wrong.rows) - 1 == summary.MAX_ROWS
    assert len(long(4000, wrong=True)._repr_html_()) < 20_000


def _hostile() -> Iterator[Report]:
    """Reports that differ and that could not run, every text of which is hostile."""
    for report in (full(), unknown()):
        names = {name: f"{name}{HOSTILE}" for name in report.subjects}
        yield dataclasses.replace(
            report,
            model=HOSTILE,
            reference=HOSTILE,
            depth=HOSTILE,
            subjects={
                names[name]: dataclasses.replace(facts, failure=facts.failure and HOSTILE)
                for name, facts in report.subjects.items()
            },
            stages=tuple(
                dataclasses.replace(
                    stage,
                    name=HOSTILE,
                    subjects={names[name]: result for name, result in stage.subjects.items()},
                )
                for stage in report.stages
            ),
            causes=tuple(
                dataclasses.replace(cause, message=HOSTILE, layer=HOSTILE)
                for cause in report.causes
            ),
        )


@pytest.mark.parametrize("report", _hostile(), ids=["divergence", "unknown"])
def test_hostile_text_stays_text(report: Report) -> None:
    assert len(str(report).split("\n")) == 3
    assert all(line.isprintable() for line in str(report).split("\n"))
    page = Fragment(report._repr_html_())
    assert page.tags <= {
        "div", "p", "br", "strong", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert page.attributes <= {"style"}
    assert r"<img src=x onerror=alert(1)> \x1b[2J" in page.data


@pytest.mark.parametrize("sample", [*SAMPLES.values(), full])
def test_a_notebook_loads_nothing_from_elsewhere(sample: object) -> None:
    text = sample()._repr_html_()  # type: ignore[operator]
    assert not re.search(r"https?:|//|src=|href=|url\(|<script|<link|@import", text)


@pytest.mark.parametrize("suffix", ["html", "json", "md", "xml"])
def test_a_report_saves_itself(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"report.{suffix}"
    full().save(path)
    assert "stage1" in path.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="expected a name that ends in one of"):
        full().save(tmp_path / "report.pdf")


def test_a_notebook_links_to_the_page_once_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report, other = full(), full()
    report.save("r.json")
    assert "<a" not in report._repr_html_()
    report.save("my report.html")
    assert '<a href="my%20report.html">my report.html</a>' in report._repr_html_()
    # An equal report that was not saved has no link.
    assert other == report
    assert "<a" not in other._repr_html_()
    monkeypatch.chdir(Path(__file__).parent)
    assert (tmp_path / "my report.html").as_uri() in report._repr_html_()
    (tmp_path / "my report.html").unlink()
    assert "<a" not in report._repr_html_()


def test_a_report_is_plain_data_too() -> None:
    data = full().to_dict()
    assert data["schema"] == "parity.report/1"
    assert data["causes"][0]["remedy"] == "pad by 1"
    assert json.loads(json.dumps(data)) == data


def test_parity_says_which_exports_were_not_compared() -> None:
    notes = ("onnx-keras is not compared: Cholesky has no ONNX operator", "device auto: on the CPU")
    report = dataclasses.replace(parity(), notes=notes)
    assert str(report).partition("\n")[0].endswith("×. onnx-keras was not compared.")
    report = dataclasses.replace(report, notes=(*notes, "onnx-torch is not compared: it cannot"))
    assert "×. onnx-keras and onnx-torch were not compared." in str(report)
    assert "not compared" not in str(dataclasses.replace(report, notes=notes[1:]))


def test_a_divergence_says_which_weights_were_not_copied() -> None:
    report = divergence()
    note = "3 weights of torch were not copied into keras (a, b, c), and the rest"
    first = str(report).partition("\n")[0]
    changed = dataclasses.replace(report, notes=("keras: a note", note))
    assert str(changed).partition("\n")[0] == f"{first} {note}."


def test_parity_says_what_was_judged_by_the_floor_of_a_lower_precision() -> None:
    notes = tuple(
        describe_row_precisions(name, {"mlp.0": "float16", "mlp.1": "float16"})
        for name in ("keras", "onnx-keras")
    )
    report = dataclasses.replace(parity(), notes=notes)
    text = "×. keras and onnx-keras compute partly in float16 and are judged there by its floor."
    assert str(report).partition("\n")[0].endswith(text)
    one = dataclasses.replace(report, notes=notes[:1])
    assert " keras computes partly in float16 and is judged there by its floor." in str(one)
    assert "partly" not in str(dataclasses.replace(report, notes=()))
