"""The HTML report in a real, headless browser."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest

from parity.report import formats
from parity.report.model import PairedLayer, Report
from tests.report.browser import emulate, fetched, show
from tests.report.samples import divergence, full, long, parity, resnext101
from tests.report.test_html import hostile

pytestmark = pytest.mark.browser


def test_a_page_that_fetches_or_complains_is_noticed(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<img src='http://127.0.0.1:9/x.png'><script>absent()</script>")
    fetched(browser), browser.get_log("browser")
    browser.get(path.as_uri())
    assert fetched(browser) == ["http://127.0.0.1:9/x.png"]
    assert "absent is not defined" in str(browser.get_log("browser"))


def opened(driver: Any, report: Report, folder: Path) -> None:
    """Open the report."""
    path = folder / "report.html"
    formats.write_report(report, path)
    show(driver, path)


def names(driver: Any) -> list[str]:
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('#rows tbody tr:not([hidden]) th')]"
            ".map((cell) => cell.textContent)"
        )
    )


def click(driver: Any, selector: str) -> None:
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def enter(driver: Any, selector: str, value: str) -> None:
    script = (
        "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    driver.execute_script(script, selector, value)


def column(driver: Any, number: int) -> list[float]:
    script = (
        "return [...document.querySelectorAll('#rows tbody tr')]"
        ".map((row) => row.cells[arguments[0]].dataset.v)"
    )
    return [float(value) for value in driver.execute_script(script, number)]


def test_the_rows_are_there_and_sort(driver: Any, tmp_path: Path) -> None:
    report = divergence()
    opened(driver, report, tmp_path)
    order = [stage.name for stage in report.stages]
    assert names(driver) == order
    for at in range(4, 4 + 3 * len(report.subjects)):
        click(driver, f"#rows button[data-column='{at}']")
        figures = column(driver, at)
        assert figures == sorted(figures, reverse=True)
        click(driver, f"#rows button[data-column='{at}']")
        assert column(driver, at) == sorted(figures)
    sorted_by = driver.execute_script(
        "return [...document.querySelectorAll('#rows [aria-sort]')].map((e) => e.ariaSort)"
    )
    assert sorted_by == ["ascending"]
    click(driver, "#rows button[data-column='0']")
    assert names(driver) == order
    click(driver, "#rows button[data-column='0']")
    assert names(driver) == order[::-1]


def test_what_is_not_finite_sorts_as_the_largest(driver: Any, tmp_path: Path) -> None:
    opened(driver, full(), tmp_path)
    header = driver.find_element("css selector", "#rows button[aria-label='onnx-keras, × floor']")
    at = int(header.get_attribute("data-column"))
    click(driver, f"#rows button[data-column='{at}']")
    assert column(driver, at)[:4] == [math.inf] * 4


def test_the_filter(driver: Any, tmp_path: Path) -> None:
    report = long(80, wrong=True)
    opened(driver, report, tmp_path)
    enter(driver, "#query", "STAGE1")
    assert names(driver) == [s.name for s in report.stages if "stage1" in s.name]
    enter(driver, "#query", "")
    enter(driver, "#status", "diverged")
    wrong = [s.name for s in report.stages if not all(r.status.passes for r in s.subjects.values())]
    assert names(driver) == wrong
    enter(driver, "#stage", "stage4")
    assert 0 < len(names(driver)) < len(wrong)
    count = driver.find_element("id", "count").text
    assert count == f"{len(names(driver))} of 80"
    enter(driver, "#query", "no such layer")
    assert names(driver) == []


def test_columns_can_be_hidden(driver: Any, tmp_path: Path) -> None:
    opened(driver, full(), tmp_path)
    shown = "return getComputedStyle(document.querySelector('#rows td.isolated')).display"
    assert driver.execute_script(shown) == "table-cell"
    click(driver, "#show-isolated")
    assert driver.execute_script(shown) == "none"
    spans = "return [...document.querySelectorAll('#rows th.group')].map((e) => e.colSpan)"
    assert driver.execute_script(spans) == [2, 2, 2, 2]
    click(driver, "#show-growth")
    assert driver.execute_script(spans) == [3, 3, 3, 3]


@pytest.mark.parametrize("report", [parity(), divergence(), full(), long(100, wrong=True)])
def test_the_plots_are_drawn(driver: Any, tmp_path: Path, report: Report) -> None:
    opened(driver, report, tmp_path)
    drawn = driver.execute_script(
        "return [...document.querySelectorAll('main svg path')].map((path) => {"
        " const box = path.getBBox(); return [path.getAttribute('class') || '',"
        " path.getAttribute('d'), box.x, box.y, box.width, box.height] })"
    )
    for name, path, *box in drawn:
        assert all(math.isfinite(side) for side in box), name
        assert re.search(r"nan|inf|undefined|null", path, re.IGNORECASE) is None
    lines = [box for name, path, *box in drawn if name == "line" and path.count("L") > 1]
    assert len(lines) >= 3 * len(report.subjects) - 3
    assert sum(name == "band" for name, *_ in drawn) >= 3
    assert units(driver).count(True) == 1


def test_another_unit_is_chosen(driver: Any, tmp_path: Path) -> None:
    opened(driver, full(), tmp_path)
    for number in (0, 1, 2):
        click(driver, f"label[for=unit{number}]")
        assert units(driver) == [at == number for at in range(3)]


def units(driver: Any) -> list[bool]:
    """Which of the plots along the network are seen."""
    script = "return [...document.querySelectorAll('figure.unit')].map((f) => f.offsetHeight > 100)"
    return list(driver.execute_script(script))


def test_the_pointer_and_the_keys_show_figures(driver: Any, tmp_path: Path) -> None:
    opened(driver, full(), tmp_path)
    script = (
        "const plot = document.querySelector('.unit2 svg.plot');"
        "plot.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }));"
        "plot.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }));"
        "return document.getElementById('tip').innerText"
    )
    told = driver.execute_script(script)
    assert "stage1" in told
    assert "310×" in told
    heat = (
        "const map = document.getElementById('heat'), box = map.getBoundingClientRect();"
        "map.dispatchEvent(new PointerEvent('pointermove',"
        " { clientX: box.left + 3, clientY: box.top + 3 }));"
        "return document.getElementById('heat-at').textContent"
    )
    assert driver.execute_script(heat) == "h 0, w 0: 2.1e-2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["", "print"])
def test_text_is_legible(driver: Any, tmp_path: Path, scheme: str, media: str) -> None:
    emulate(driver, media=media, scheme=scheme)
    opened(driver, full(), tmp_path)
    pairs = driver.execute_script(
        "const ground = (e) => { for (; e; e = e.parentElement) {"
        "  const colour = getComputedStyle(e).backgroundColor;"
        "  if (!/, 0\\)$|transparent/.test(colour)) return colour }"
        " return 'rgb(255, 255, 255)' };"
        "return [...document.querySelectorAll('h1, h2, p, li, td, th, dt, dd, b, label, .badge')]"
        " .filter((e) => e.offsetWidth && e.innerText)"
        " .map((e) => [getComputedStyle(e).color, ground(e), e.className, e.innerText])"
    )
    assert len(pairs) > 100
    for ink, ground, *what in pairs:
        assert contrast(ink, ground) >= 4.5, (ink, ground, what)


def contrast(ink: str, ground: str) -> float:
    """The contrast ratio of WCAG 2.1; 4.5 is its level AA for text."""
    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_never_scrolls_sideways(driver: Any, tmp_path: Path, width: int) -> None:
    emulate(driver, width=width)
    opened(driver, full(), tmp_path)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_it_prints_without_controls(driver: Any, tmp_path: Path) -> None:
    emulate(driver, media="print", scheme="dark")
    opened(driver, full(), tmp_path)
    hidden = "return document.querySelector('.tools').offsetHeight"
    assert driver.execute_script(hidden) == 0
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert driver.execute_script(ground) == "rgb(255, 255, 255)"


def test_hostile_names_run_nothing(driver: Any, tmp_path: Path) -> None:
    opened(driver, hostile(), tmp_path)
    assert driver.execute_script("return document.querySelectorAll('script, img').length") == 2
    assert driver.find_element("tag name", "h1").text.startswith("</script><script>alert(1)")
    assert len(names(driver)) == 7


def test_a_resnext_101_at_depth_layer_is_whole_and_sorts(driver: Any, tmp_path: Path) -> None:
    """How fast such a page opens is measured by `tests.studies.benchmarks.page`."""
    report = resnext101()
    opened(driver, report, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 3e6
    before = names(driver)
    assert len(before) == len(report.stages) == 344
    assert len(driver.find_elements("css selector", "#sides tbody tr")) == 344
    click(driver, "#rows button[data-column='5']")
    assert len(names(driver)) == 344
    assert names(driver) != before


def test_a_thousand_pairs_are_side_by_side_and_quick(driver: Any, tmp_path: Path) -> None:
    layers = tuple(
        PairedLayer("conv", (1, 64, 7, 7), {"torch": f"body.{at} (net.py:{at})", "keras": f"k{at}"},
                    {name: (max(at - 1, 0), max(at - 3, 0)) for name in ("torch", "keras")})
        for at in range(1000)
    )  # fmt: skip
    opened(driver, dataclasses.replace(parity(), layers=layers), tmp_path)
    rows = driver.find_elements("css selector", "#sides tbody tr")
    assert len(rows) == 1000
    tops = driver.execute_script(
        "return [...document.querySelectorAll('#sides tbody tr')].map("
        "row => row.getBoundingClientRect().top)"
    )
    # The edges fit only rows of this height.
    assert {round(b - a, 2) for a, b in itertools.pairwise(tops)} == {24.0}
    body = driver.execute_script(
        "let e = document.querySelector('#sides .edges').getBoundingClientRect();"
        "let b = document.querySelector('#sides tbody').getBoundingClientRect();"
        "return [e.top - b.top, e.bottom - b.bottom]"
    )
    assert all(abs(each) < 1.0 for each in body)
