"""The report as Markdown and as annotations."""

from __future__ import annotations

import dataclasses

import pytest

from parity.numerics.verdict import Status
from parity.report.formats.markdown import MAX_LENGTH, render, render_github_annotations
from parity.report.model import Level, Outcome, Verdict
from tests.report.samples import SAMPLES, divergence, full, long, parity


def rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_table_has_every_stage(sample: str) -> None:
    report = SAMPLES[sample]()
    head, rule, *body = rows(render(report))
    assert [row[0] for row in body] == [stage.name for stage in report.stages]
    assert {len(row) for row in (head, rule, *body)} == {8}


def test_parity() -> None:
    markdown = render(parity())
    assert markdown.startswith("### ✅ resnext50\\_32x4d: parity\n")
    assert "| stage1 | 256×56×56 | 2.1e-5 | 2.1e-5 (1.0×) |" in markdown
    assert "❌" not in markdown


def test_divergence_names_who_and_where() -> None:
    markdown = render(full())
    assert (
        "- **keras** differs first at stage1, layer stage1.block0.conv2: max abs 2.1e-2" in markdown
    )
    assert "**2.1e-2 (310×)**" in markdown
    assert "❌ diverged" in markdown
    assert (
        "```sh\nparity compare resnext50_32x4d --isolate --html 'my report.html'\n```" in markdown
    )


def test_unknown_is_not_a_check_mark() -> None:
    markdown = render(SAMPLES["unknown"]())
    assert "✅" not in markdown
    assert "- **keras** could not be run: the process was killed by signal 9" in markdown


@pytest.mark.parametrize("count", [20, 400, 4000])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_long_report_fits_a_comment(count: int, wrong: bool) -> None:
    markdown = render(long(count, wrong=wrong))
    assert len(markdown) <= MAX_LENGTH
    assert f"<details><summary>all {count} layers</summary>" in markdown
    assert ("more rows do not fit" in markdown) == (count == 4000)


def test_hostile_text_stays_text() -> None:
    name = "a|b `c`\n# <script>alert(1)</script> [x](http://y) @z"
    failed = Level(Outcome.FAIL, (name,))
    levels = {**parity().levels, "structure": failed}
    report = dataclasses.replace(parity(), model=name, levels=levels, verdict=Verdict.DIVERGENCE)
    markdown = render(dataclasses.replace(report, command=("parity", "compare", "a```\nb")))
    assert "<script" not in markdown.replace("\\<script", "")
    assert "[x](" not in markdown
    assert "\n# " not in markdown
    assert "a```" not in markdown


def test_annotations_are_one_line_each_and_escaped() -> None:
    lines = render_github_annotations(dataclasses.replace(divergence(), model="50%,\n::error::x:y"))
    assert len(lines) == 1
    title = "parity%3A 50%25%2C%0A%3A%3Aerror%3A%3Ax%3Ay%3A divergence"
    assert lines[0].startswith(
        f"::error title={title}::keras and onnx-keras differ first at stage1: max"
    )
    assert all("\n" not in line for line in lines)


def test_annotations_of_the_rest() -> None:
    assert render_github_annotations(parity()) == []
    assert "killed by signal 9" in render_github_annotations(SAMPLES["unknown"]())[0]
    levels = {**parity().levels, "weights": Level(Outcome.FAIL, ("fc.bias: 1 bit",))}
    report = dataclasses.replace(parity(), levels=levels, verdict=Verdict.DIVERGENCE)
    assert render_github_annotations(report)[0].endswith("::weights: fc.bias: 1 bit")
    nothing = dataclasses.replace(parity(), stages=(), verdict=Verdict.UNKNOWN)
    assert render_github_annotations(nothing)[0].endswith("::nothing was compared.")


def test_non_finite_is_words() -> None:
    report = divergence()
    assert report.stages[-1].subjects["onnx-keras"].status is Status.NON_FINITE
    assert "**NaN/Inf**" in render(report)
