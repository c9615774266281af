"""Every page by the rules of WCAG 2, levels A and AA: axe in a real browser, keyboard, widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parity.report.formats import html
from parity.report.model import Report
from tests.report import pages
from tests.report.browser import emulate, find_violations, show
from tests.report.samples import full, resnext101

pytestmark = pytest.mark.browser


def opened(driver: Any, name: str, folder: Path) -> None:
    """Open one of the pages."""
    path = folder / f"{name}.html"
    path.write_text(pages.render(name, folder), encoding="utf-8")
    show(driver, path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", pages.NAMES)
def test_axe_finds_nothing(driver: Any, tmp_path: Path, name: str, scheme: str) -> None:
    emulate(driver, scheme=scheme)
    opened(driver, name, tmp_path)
    assert find_violations(driver) == []


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_in_a_page_of_344_layers(
    driver: Any, tmp_path: Path, scheme: str
) -> None:
    """What has a colour in it is on the other pages, too, which are checked in both schemes."""
    emulate(driver, scheme=scheme)
    path = tmp_path / "page.html"
    path.write_text(html.render(resnext101()), encoding="utf-8")
    show(driver, path)
    assert find_violations(driver) == []


def test_axe_finds_what_is_wrong(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        "<!doctype html><html><title>t</title><p style='color:#ccc'>grey</p><input>"
        "<img src='data:,'>"
        "<h1>a</h1><p>b</p><table><tr><td>c</td></tr></table><button>d</button><a href='#x'>e</a>"
    )
    show(driver, path)
    found = {each.split(":")[0] for each in find_violations(driver)}
    assert {"color-contrast", "html-has-lang", "image-alt", "label"} <= found


# The bar ---------------------------------------------------------------------------------------


def bar_covers(driver: Any, selector: str) -> bool:
    """Whether the bar covers the beginning of an element that was scrolled to."""
    script = (
        "const bar = document.querySelector('.bar').getBoundingClientRect();"
        "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return box.top < bar.bottom && box.bottom > bar.top"
    )
    return bool(driver.execute_script(script, selector))


@pytest.mark.parametrize("name", pages.NAMES)
@pytest.mark.parametrize("width", [360, 1280])
def test_the_verdict_stays_visible(driver: Any, tmp_path: Path, name: str, width: int) -> None:
    emulate(driver, width=width)
    opened(driver, name, tmp_path)
    driver.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    top, bottom, text = driver.execute_script(
        "const badge = document.querySelector('.bar .badge');"
        "const box = badge.getBoundingClientRect(); return [box.top, box.bottom, badge.innerText]"
    )
    assert 0 <= top < bottom <= 60
    assert text.split()[-1] in driver.find_element("css selector", ".bar").text


@pytest.mark.parametrize("name", pages.NAMES)
def test_no_link_leads_below_the_bar(driver: Any, tmp_path: Path, name: str) -> None:
    opened(driver, name, tmp_path)
    links = driver.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash)"
    )
    assert "#main" in links
    for target in links:
        found = driver.execute_script(
            "return document.querySelectorAll(arguments[0]).length", target
        )
        assert found == 1, target
        driver.execute_script(
            "window.scrollTo(0, 0); location.hash = ''; location.hash = arguments[0]", target
        )
        assert not bar_covers(driver, target), target


def test_a_bar_that_covers_a_target_is_noticed(driver: Any, tmp_path: Path) -> None:
    opened(driver, "isolated", tmp_path)
    driver.execute_script(
        "document.documentElement.style.scrollPaddingTop = 0;"
        "document.querySelector('#table').style.scrollMarginTop = 0; location.hash = '#table'"
    )
    assert bar_covers(driver, "#table")


def test_each_cause_leads_to_what_the_documentation_says(driver: Any, tmp_path: Path) -> None:
    opened(driver, "isolated", tmp_path)
    link = driver.find_element("css selector", "#findings a")
    assert link.text == "same-padding"
    target = driver.find_element("css selector", link.get_attribute("hash"))
    assert target.text == "same-padding"
    said = driver.find_element("id", "causes").text
    assert "largest at one border" in said
    assert "How it shows, how it is proved, how to mend it" in said


# The keyboard ----------------------------------------------------------------------------------

CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"


@pytest.mark.parametrize("name", pages.NAMES)
def test_every_control_is_reached_by_tab_with_a_visible_focus(
    driver: Any, tmp_path: Path, name: str
) -> None:
    """Of radio buttons of one name the browser's Tab reaches the chosen one, arrows the others."""
    opened(driver, name, tmp_path)
    expected = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility("
        "  { visibilityProperty: true }) && !e.disabled"
        "  && !(e.type === 'radio' && !e.checked)).length",
        CONTROLS,
    )
    assert expected > 2
    reached: list[str] = []
    for step in range(expected):
        press_tab(driver)
        index, outline, covered = driver.execute_script(
            "const e = document.activeElement;"
            "const at = [...document.querySelectorAll(arguments[0])].indexOf(e);"
            "const seen = e.type === 'radio' ? e.nextElementSibling : e;"
            "const style = getComputedStyle(seen), box = seen.getBoundingClientRect();"
            "const bar = document.querySelector('.bar');"
            "const under = !bar.contains(e) && !e.matches('.skip')"
            "  && box.bottom <= bar.getBoundingClientRect().bottom;"
            "return [at, parseFloat(style.outlineWidth) * (style.outlineStyle !== 'none'), under]",
            CONTROLS,
        )
        assert index >= 0, f"Tab {step + 1} of {expected} leaves the controls"
        assert outline >= 1, index
        assert not covered, f"the bar covers the focused control {index}"
        reached.append(index)
    assert len(set(reached)) == expected
    first = driver.execute_script(
        "return document.querySelectorAll(arguments[0])[arguments[1]].className",
        CONTROLS,
        reached[0],
    )
    assert first == "skip"


def press_tab(driver: Any) -> None:
    for kind in ("rawKeyDown", "keyUp"):
        driver.execute_cdp_cmd(
            "Input.dispatchKeyEvent",
            {"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
        )


def test_the_skip_link_leads_to_the_report(driver: Any, tmp_path: Path) -> None:
    opened(driver, "divergence", tmp_path)
    press_tab(driver)
    assert driver.execute_script("return document.activeElement.getBoundingClientRect().top") >= 0
    driver.execute_script("document.activeElement.click()")
    assert driver.execute_script("return location.hash") == "#main"


# The widths and what colours say -----------------------------------------------------------------


def cut_parts(driver: Any) -> list[str]:
    """Return the parts that clip their contents, or scroll, because these do not fit."""
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('html, main *')].filter((e) => {"
            "  const style = getComputedStyle(e);"
            "  const clips = e.tagName === 'HTML' || style.overflowX !== 'visible'"
            "    || style.contentVisibility === 'auto';"
            "  return clips && e.clientWidth > 1 && e.scrollWidth > e.clientWidth + 1"
            "    && !e.closest('.layers') })"
            " .map((e) => `${e.tagName}.${e.className} ${e.scrollWidth} > ${e.clientWidth}`)"
        )
    )


@pytest.mark.parametrize("report", [full(), resnext101()], ids=["stages", "layers"])
def test_nothing_is_cut_at_1280_pixels(driver: Any, tmp_path: Path, report: Report) -> None:
    assert any(stage.isolated for stage in report.stages)
    emulate(driver, width=1280)
    path = tmp_path / "page.html"
    path.write_text(html.render(report), encoding="utf-8")
    show(driver, path)
    # Drawn only when it is scrolled to.
    driver.execute_script("document.querySelector('#table').scrollIntoView()")
    assert cut_parts(driver) == []
    emulate(driver, width=600)
    assert cut_parts(driver) != []


@pytest.mark.parametrize("name", ["divergence", "isolated", "side-by-side"])
def test_no_difference_is_said_by_colour_alone(driver: Any, tmp_path: Path, name: str) -> None:
    opened(driver, name, tmp_path)
    texts = driver.execute_script(
        "return [...document.querySelectorAll('.ratio.diverged, .ratio.non-finite,"
        " .isolated.wrong, .status.diverged, .layers .fail .floors, .level.fail')]"
        " .map((e) => e.textContent)"
    )
    assert texts
    assert all("✗" in text for text in texts), texts


@pytest.mark.parametrize("name", pages.NAMES)
def test_tables_have_captions_and_headers_with_a_scope(
    driver: Any, tmp_path: Path, name: str
) -> None:
    opened(driver, name, tmp_path)
    bare = driver.execute_script(
        "return [...document.querySelectorAll('table:not(#tip table)')].filter((t) => !t.caption"
        "  || !t.caption.textContent.trim()"
        "  || [...t.querySelectorAll('th')].some((th) => !th.scope))"
        " .map((t) => t.outerHTML.slice(0, 99))"
    )
    assert bare == []
    silent = driver.execute_script(
        "return [...document.querySelectorAll('svg')]"
        " .filter((s) => !s.closest('[aria-hidden=true]'))"
        " .filter((s) => s.getAttribute('role') !== 'img' || !s.ariaLabel).length"
    )
    assert silent == 0
