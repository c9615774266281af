"""A headless Chromium for the tests of the HTML report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), ""
)
DRIVER = shutil.which("chromedriver") or ""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A driver of a Chromium that keeps its logs; skips the test where it cannot be had."""
    selenium = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its chromedriver is installed")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = selenium.chrome.service.Service(DRIVER)
    driver = selenium.Chrome(options=options, service=service)
    # Axe needs seconds for a long page, and more where other tests compute.
    driver.set_script_timeout(180)
    try:
        # The tab that a browser opens by itself is full of its own requests.
        driver.get("about:blank")
        yield driver
    finally:
        driver.quit()


def emulate(driver: Any, *, media: str = "", scheme: str = "light", width: int = 1400) -> None:
    """Show pages as on a medium ("print"), in a colour scheme, at a width in pixels."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requests(driver: Any) -> list[str]:
    """Return the addresses that were asked for since the last call."""
    entries = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [_url(e["params"]) for e in entries if e["method"] == "Network.requestWillBeSent"]


def fetched(driver: Any) -> list[str]:
    """Return the addresses outside the page itself that were asked for since the last call."""
    own = ("file://", "data:", "blob:", "about:", "chrome://")
    return [url for url in requests(driver) if not url.startswith(own)]


def _url(parameters: Mapping[str, Any]) -> str:
    return str(parameters["request"]["url"])


def show(driver: Any, path: Path) -> float:
    """Open a page; return the milliseconds until it was loaded and painted."""
    driver.get(path.as_uri())
    return float(
        driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => setTimeout(() => done(performance.now())))"
        )
    )


def find_violations(driver: Any) -> list[str]:
    """Return what axe finds against WCAG 2.1 AA and its own best practices, by element.

    Skips the test where axe is not installed.
    """
    package = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    path = Path(package.__file__).with_name("axe.min.js")
    if not driver.execute_script("return typeof axe === 'object'"):
        driver.execute_script(path.read_text(encoding="utf-8"))
    found = driver.execute_async_script(
        "const done = arguments[0];"
        # The selectors of all that passes would take longer than the checks.
        "axe.run({ resultTypes: ['violations'],"
        "  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }).then("
        "  (result) => done({ checked: result.passes.length, violations: result.violations }),"
        "  (error) => done({ checked: 0, violations: [{ id: String(error), nodes: [] }] }))"
    )
    assert found["checked"] > 5, "axe checked nothing"
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
