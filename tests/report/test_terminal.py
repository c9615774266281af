"""The report on a terminal, at several widths, piped and in colour."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from parity.report.model import Level, Outcome, Prediction, Report, Verdict
from parity.report.terminal import render
from tests.report.samples import SAMPLES, full, parity


def rendered(report: Report, *, width: int, colour: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        highlight=False,
        force_terminal=colour,
        color_system="standard" if colour else None,
    )
    render(report, console)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("sample", SAMPLES)
def test_nothing_is_cut(sample: str, width: int) -> None:
    report = SAMPLES[sample]()
    text = rendered(report, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "\x1b" not in text
    for stage in report.stages:
        assert stage.name in text
        assert "×".join(map(str, stage.shape[1:])) in text


def test_wide_has_a_line_a_stage_and_narrow_two() -> None:
    lines = {width: rendered(parity(), width=width).splitlines() for width in (80, 100)}
    row = next(line for line in lines[100] if line.startswith("stage1"))
    figures = "2.1e-5 1.0× 2.1e-5 1.0× 1.6e-5 0.8× 1.6e-5 0.8×"
    assert " ".join(row.split()) == f"stage1 256×56×56 2.1e-5 {figures} 2.8e-5 at-floor"
    at = next(i for i, line in enumerate(lines[80]) if line.startswith("stage1"))
    assert lines[80][at].split()[-1] == "at-floor"
    assert lines[80][at + 1].split() == ["256×56×56", "1.0×", "1.0×", "0.8×", "0.8×"]


def test_parity_is_one_sentence() -> None:
    text = " ".join(rendered(parity(), width=200).split())
    assert (
        "parity: keras, torch, onnx-keras and onnx-torch agree with torch in float64 at all "
        "7 stages; the largest error is 1.0× the rounding floor (keras, stem), the limit is 4×."
    ) in text
    assert "keras 3.15.1 on tensorflow 2.21.0, cpu, float32" in text
    assert "structure pass · weights pass · semantics skipped · numerics pass" in text


def test_the_machine_is_one_line() -> None:
    line = rendered(parity(), width=120).splitlines()[-1]
    assert line == (
        "parity 0.1.0 · Python 3.11.7 · Linux x86_64 · Intel Xeon @ 2.50GHz · 2 cores · 9.6 s"
    )


def test_a_level_that_was_skipped_is_told_once() -> None:
    levels = {**parity().levels, "semantics": Level(Outcome.SKIPPED, ("it was not asked for",))}
    text = rendered(dataclasses.replace(parity(), levels=levels), width=120)
    assert text.count("semantics") == 1


def test_divergence_says_who_where_and_what() -> None:
    text = " ".join(rendered(SAMPLES["divergence"](), width=200).split())
    assert "divergence: keras and onnx-keras differ from torch" in text
    assert "torch and onnx-torch agree." in text
    assert (
        "keras and onnx-keras differ first at stage1: max abs 0.31, 2.4e5× the floor; "
        "worst at index [0, 12, 3, 55]: expected 1.3125, found 1.625"
    ) in text
    assert "non-finite" in text


def test_the_diverging_layer_is_named_when_it_is_known() -> None:
    report = SAMPLES["divergence"]()
    first = report.first_divergence
    assert first is not None
    known = dataclasses.replace(first, layer="stage1.block0.conv2")
    text = rendered(dataclasses.replace(report, first_divergence=known), width=200)
    assert "keras and onnx-keras differ first at stage1, layer stage1.block0.conv2:" in text


def test_isolated_errors_stand_beside_the_growth() -> None:
    text = rendered(full(), width=80)
    assert max(map(len, text.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in text[text.index("isolated") :].splitlines()]
    assert "stage1 310× 294× 0.9× 1.0× 0.9× 1.0× 0.9× 1.0×" in lines
    assert "isolated" not in rendered(parity(), width=80)


def test_inherited_errors_are_named() -> None:
    text = " ".join(rendered(full(), width=400).split())
    assert "keras fails in isolation at stage1; the errors at 5 other stages are inherited" in text
    sentence = "onnx-keras fails in isolation at stage3; the errors at 3 other stages are inherited"
    assert sentence in text
    text = " ".join(rendered(SAMPLES["divergence"](), width=400).split())
    sentence = (
        "keras and onnx-keras differ at 5 later stages; --isolate shows whether that is inherited"
    )
    assert sentence in text


def test_subjects_that_are_wrong_in_one_way_share_their_lines() -> None:
    """A graph that computes what its model does repeats none of its model's lines."""
    report = full()
    same = tuple(
        dataclasses.replace(
            found,
            subjects={**found.subjects, "onnx-keras": found.subjects["keras"]},
            isolated={**found.isolated, "onnx-keras": found.isolated["keras"]},
        )
        for found in report.stages
    )
    text = " ".join(
        rendered(dataclasses.replace(report, stages=same, divergences=()), width=400).split()
    )
    assert text.count("first at stage1") == 1
    assert "keras and onnx-keras differ first at stage1" in text
    assert text.count("are inherited") == 1
    sentence = "keras and onnx-keras fail in isolation at stage1; the errors at 5 other stages"
    assert sentence in text


def test_one_inherited_error_is_singular() -> None:
    report = full()
    short = dataclasses.replace(report, stages=report.stages[:3])
    text = " ".join(rendered(short, width=400).split())
    assert "keras fails in isolation at stage1; the error at 1 other stage is inherited" in text


def test_reliability_is_described() -> None:
    text = " ".join(rendered(full(), width=400).split())
    assert "labels: all top-1 labels agree, but one can change; " in text
    assert (
        "inputs: of 3 more inputs, zeros (diverged) and large (non-finite) fail; "
        "the largest error is ∞× the floor (large)"
    ) in text
    assert "runs: repeated runs differ bit for bit: onnx-keras in 2 of 3" in text
    assert "floor: errors on the seeded inputs are 0.7× to 1.2× the floor" in text


def test_what_is_predicted_is_named_where_names_are_known() -> None:
    text = rendered(full(), width=160)
    assert "predicts: reference, torch and onnx-torch: 'military uniform' (652), 87.3%" in text
    assert "predicts: keras: 'bow tie' (457), 0.4%" in text
    assert "class names: ImageNet's, from torchvision" in text
    bare = {"torch": Prediction(652, 0.873)}
    text = rendered(dataclasses.replace(full(), predictions=bare, class_names=""), width=160)
    assert "predicts: torch: class 652, 87.3%" in text
    assert "class names are not known: --labels FILE gives them" in text
    assert "predicts" not in rendered(parity(), width=160)


def test_unknown_says_why() -> None:
    text = rendered(SAMPLES["unknown"](), width=120)
    assert "unknown: keras could not be run." in text
    assert "keras: the process was killed by signal 9" in text


def test_a_failed_level_without_a_stage_is_told() -> None:
    failed = {**parity().levels, "structure": Level(Outcome.FAIL, ("stem.conv: stride 2 and 1",))}
    report = dataclasses.replace(parity(), levels=failed, verdict=Verdict.DIVERGENCE)
    text = rendered(report, width=120)
    assert "divergence: " in text
    assert "structure: stem.conv: stride 2 and 1" in text


def test_nothing_compared_renders() -> None:
    report = dataclasses.replace(parity(), stages=(), verdict=Verdict.UNKNOWN)
    assert "unknown: nothing was compared." in rendered(report, width=80)


def test_colour_says_what_the_words_say() -> None:
    text = rendered(SAMPLES["divergence"](), width=120, colour=True)
    assert "\x1b[1;31mdivergence\x1b[0m" in text
    assert "\x1b[32mat-floor" in text


def test_a_failure_is_told_once_for_all_subjects_that_have_it() -> None:
    report = SAMPLES["unknown"]()
    why = "its weights cannot be copied: there are too many"
    subjects = {
        name: dataclasses.replace(facts, failure=why if "keras" in name else None)
        for name, facts in report.subjects.items()
    }
    failed = dataclasses.replace(report, subjects=subjects)
    text = " ".join(rendered(failed, width=400).split())
    assert text.count(why) == 1
    assert f"keras and onnx-keras: {why}" in text
    # If a level fails for that reason, the error is the message of the level alone.
    levels = {**report.levels, "weights": Level(Outcome.FAIL, (f"keras: {why}",))}
    text = " ".join(rendered(dataclasses.replace(failed, levels=levels), width=400).split())
    assert text.count(why) == 1
    assert "keras and onnx-keras: could not be run, since the weights could not be copied" in text


def test_only_who_was_isolated_has_a_column() -> None:
    report = full()
    stages = tuple(
        dataclasses.replace(stage, isolated={"keras": stage.isolated["keras"]})
        for stage in report.stages
    )
    text = rendered(dataclasses.replace(report, stages=stages), width=200)
    (header,) = [line for line in text.splitlines() if line.startswith("isolated")]
    assert header.split() == ["isolated", "keras"]
    assert "missing" not in text[text.index("isolated") :]


def test_the_verdict_comes_first_then_where_why_and_the_remedy() -> None:
    lines = rendered(full(), width=1000).splitlines()
    assert lines[0].startswith("divergence: keras and onnx-keras differ from torch in float64")
    assert lines[1].startswith("where: keras differs first at stage1, layer stage1.block0.conv2: ")
    assert lines[2] == "why: stage1.block0.conv2, keras: SAME"
    assert lines[3] == "remedy: pad by 1"
    assert lines[4] == ""
    # They are not repeated below.
    assert sum("SAME" in line for line in lines) == 1
    assert sum("first at stage1" in line for line in lines) == 1


def test_further_causes_stand_below_with_their_remedies() -> None:
    report = full()
    other = dataclasses.replace(
        report.causes[0], layer="stage2.conv", message="BIAS. Remedy: copy it", remedy="copy it"
    )
    text = rendered(dataclasses.replace(report, causes=(*report.causes, other)), width=1000)
    head, _, details = text.partition("\n\n")
    assert "SAME (and 1 more)" in head
    assert "  stage2.conv, keras: BIAS\n    remedy: copy it\n" in details


def test_the_remedy_of_a_later_cause_is_not_that_of_the_first() -> None:
    report = full()
    first = dataclasses.replace(report.causes[0], message="not explained", remedy="")
    both = dataclasses.replace(report, causes=(first, report.causes[0]))
    lines = rendered(both, width=1000).splitlines()
    assert lines[2].startswith("why: stage1.block0.conv2, keras: not explained")
    assert lines[3] == ""


def test_a_sentence_that_is_wrapped_hangs() -> None:
    lines = rendered(full(), width=60).splitlines()
    assert lines[0].startswith("divergence: ")
    end = next(i for i, line in enumerate(lines) if line.startswith("where: "))
    assert end > 1
    assert all(line.startswith("  ") and line[2] != " " for line in lines[1:end])
    # A sentence that is indented itself hangs from there.
    start = next(i for i, line in enumerate(lines) if line.startswith("  keras fails in isolation"))
    assert lines[start + 1].startswith("    ")


def test_what_is_piped_is_not_wrapped() -> None:
    stream = io.StringIO()
    render(full(), Console(file=stream, width=10_000, soft_wrap=True, highlight=False))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) < 1000, "no line is filled with spaces"
    assert "inputs: of 3 more inputs, zeros (diverged) and large (non-finite) fail; the" in text


def test_notes_stand_apart_from_the_findings() -> None:
    report = dataclasses.replace(full(), notes=("the cache was damaged",))
    text = rendered(report, width=1000)
    (paragraph,) = [part for part in text.split("\n\n") if "note: " in part]
    assert paragraph == "note: the cache was damaged"


def test_the_json_report_has_the_remedy_alone() -> None:
    from parity.report.formats import json as json_format

    (cause,) = json.loads(json_format.render(full()))["causes"]
    assert cause["remedy"] == "pad by 1"
    assert cause["message"].endswith("Remedy: pad by 1")
