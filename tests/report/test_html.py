"""The HTML report as text: whole, self-contained, and safe whatever the names in it are."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from parity.report import charts
from parity.report.codec import from_json, to_json
from parity.report.formats import html
from parity.report.formats.html import render
from parity.report.model import Cause, Level, Outcome, Prediction, Report, SubjectFacts, Verdict
from tests.report.samples import SAMPLES, SUBJECTS, border_profile, full, long, parity

VOID = {"meta", "link", "input", "br"}
PATH = re.compile(r"(?:[MLHVAZhvz]|-?\d*\.?\d+| )+")


class Page(HTMLParser):
    """The elements of a page; fails on a tag that is closed by another's end."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.elements if found == tag]

    def embedded(self) -> Report:
        (data,) = [data for tag, data in self.texts if data.startswith('{"schema"')]
        return from_json(json.loads(data))


@pytest.mark.parametrize("sample", [*SAMPLES, "full"])
def test_a_row_each_and_the_report_inside(sample: str) -> None:
    report = full() if sample == "full" else SAMPLES[sample]()
    page = Page(render(report))
    rows = [tr for tr in page.all("tr") if "data-at" in tr]
    assert [tr["data-at"] for tr in rows] == [str(at) for at in range(len(report.stages))]
    assert to_json(page.embedded()) == to_json(report)


def test_every_coordinate_is_a_number() -> None:
    for report in (full(), SAMPLES["divergence"](), SAMPLES["unknown"](), long(wrong=True)):
        paths = [path["d"] for path in Page(render(report)).all("path")]
        assert len([path for path in paths if path.count("L") >= 6]) >= 4
        for path in paths:
            assert PATH.fullmatch(path) or not path


def test_nothing_is_referred_to_but_the_page_itself() -> None:
    page = render(full())
    for _, attributes in Page(page).elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "#")[:1] in ("#", "d"), attributes
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_the_policy_allows_the_one_script() -> None:
    page = render(full())
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}<!--\u2028&lt;"


def hostile() -> Report:
    """A report in which every string that can come from outside is an attack."""
    data = json.dumps(to_json(full()))
    for name in ("resnext50_32x4d", "keras", "stage1", "stem", "grace_hopper.jpg", "torch 2.13.0"):
        data = data.replace(json.dumps(name)[1:-1], json.dumps(HOSTILE + name[:2])[1:-1])
    report = from_json(json.loads(data))
    facts = SubjectFacts(
        HOSTILE, HOSTILE, backend=HOSTILE, flags={HOSTILE: HOSTILE}, failure=HOSTILE, file=HOSTILE
    )
    return dataclasses.replace(
        report,
        model=HOSTILE,
        notes=(HOSTILE,),
        attribution=(HOSTILE,),
        subjects={**report.subjects, HOSTILE: facts},
        levels={**report.levels, "structure": Level(Outcome.FAIL, (HOSTILE,))},
        causes=(Cause(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: 1.0}, HOSTILE),),
        predictions={HOSTILE: Prediction(1, 0.5, HOSTILE)},
        class_names=HOSTILE,
        command=("parity", HOSTILE),
        environment={"parity": HOSTILE, "gpu": HOSTILE},
    )


def test_hostile_names_stay_text() -> None:
    page = render(hostile())
    clean = Page(page)
    assert len(clean.all("script")) == 2
    assert clean.all("img") == []
    assert not any(name.startswith("on") for _, a in clean.elements for name in a)
    assert "{{7*7}}" in page
    assert clean.embedded().model == HOSTILE


def test_what_was_not_measured_is_not_shown() -> None:
    page = render(parity())
    for name in ("isolated", "profile", "trust"):
        assert f'<section id="{name}"' not in page
        assert f'<section id="{name}"' in render(full())
    assert "--isolate" in page


def test_a_report_without_stages() -> None:
    page = render(dataclasses.replace(parity(), stages=(), verdict=Verdict.UNKNOWN))
    assert "nothing was compared." in page
    assert '<table id="rows"' not in page


def test_the_profile_is_told_in_words() -> None:
    page = render(full())
    assert "3 of 256 channels are above 4× the floor" in page
    assert "the largest error on the border is 2.1e-2, inside it 4.5e-5" in page


def test_the_command_can_be_pasted() -> None:
    command = "parity compare resnext50_32x4d --isolate --html &#39;my report.html&#39;"
    assert f'<code id="command">{command}</code>' in render(full())


def test_a_network_of_347_layers_is_under_3_megabytes() -> None:
    report = long(347, wrong=True)
    assert set(report.stages[0].isolated) == set(SUBJECTS)
    assert len(render(report).encode()) < 3e6


def test_heat_shades_every_position_once() -> None:
    profile = border_profile()
    lines = [list(line) for line in profile.spatial]
    lines[5][6] = float("inf")
    heat = charts.build_heat_map(dataclasses.replace(profile, spatial=tuple(map(tuple, lines))))
    drawn = "".join((*heat.shades, heat.non_finite))
    assert sum(map(int, re.findall(r"M\d+ \d+h(\d+)", drawn))) == 56 * 56
    assert heat.non_finite == "M6 5h1v1h-1z"
    assert heat.shades[charts.BUCKETS].startswith("M0 0h56v1h-56z")


@pytest.mark.parametrize("value", [0.0, 1e-7, float("inf")])
def test_a_flat_profile_is_drawn(value: float) -> None:
    profile = dataclasses.replace(
        border_profile(), spatial=((value,) * 3,) * 2, channels=(value,) * 3, shape=(1, 3, 2, 3)
    )
    page = render(dataclasses.replace(full(), profile=profile))
    paths = [path["d"] for path in Page(page).all("path")]
    assert all(PATH.fullmatch(path) or not path for path in paths)


def test_the_band_is_the_floor_that_was_judged_by() -> None:
    def drawn(**facts: str) -> object:
        report = parity()
        subjects = {
            name: dataclasses.replace(subject, **facts) for name, subject in report.subjects.items()
        }
        return html._build_plots(dataclasses.replace(report, subjects=subjects))

    assert drawn(precision="bfloat16") != drawn(precision="float32")
    assert drawn(precision="bfloat16", judged_as="float32") == drawn(precision="float32")


def test_what_is_predicted_is_named_where_names_are_known() -> None:
    page = render(full())
    assert '<th scope="row">keras</th><td>457</td><td class="text">bow tie</td>' in page
    assert "Class names: ImageNet&#39;s, from torchvision." in page
    bare = {"torch": Prediction(652, 0.873)}
    page = render(dataclasses.replace(full(), predictions=bare, class_names=""))
    assert '<th scope="row">torch</th><td>652</td><td>87.3%</td>' in page
    assert "Class names are not known" in page
    assert "What is predicted?" not in render(parity())


def test_a_file_of_the_users_can_be_drawn() -> None:
    report = parity()
    given = dataclasses.replace(report.subjects["onnx-torch"], file="my models/deployed.onnx")
    page = render(dataclasses.replace(report, subjects={**report.subjects, "onnx-torch": given}))
    assert "<code>netron &#39;my models/deployed.onnx&#39;</code>" in page
    assert 'href="https://netron.app"' in page
    # An export of the comparison itself is deleted after it.
    assert "netron" not in render(report)
