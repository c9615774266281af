"""The browser that the tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.browser import chromium, emulate, fetched, requests


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def driver(browser: Any) -> Iterator[Any]:
    """The browser, which must have fetched nothing and complained of nothing when a test ends."""
    requests(browser), browser.get_log("browser")
    emulate(browser)
    yield browser
    assert browser.get_log("browser") == []
    assert fetched(browser) == []
