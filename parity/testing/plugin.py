"""The plugin of pytest: cases of `parity.toml` as tests, fixtures, a marker, and the report.

    pytest --parity                 also run every case of parity.toml, each as a test
    pytest --parity=ci/parity.toml  those of another file
    pytest --parity-html DIR        write the page of each comparison that fails

It imports neither NumPy nor the rest of `parity` before a test needs them.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from parity.report.model import Report

DEFAULT_FILE = "parity.toml"

MARKER = (
    "parity(*models, **options): the models that the fixture `parity_report` compares, as "
    "`parity.compare` takes them"
)

WIDTH = 100
"""Columns of a report in a test's output."""


class DifferenceError(AssertionError):
    """A case of `parity.toml` that differs or could not be decided, with its report."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("parity")
    group.addoption(
        "--parity",
        nargs="?",
        const=DEFAULT_FILE,
        metavar="FILE",
        help=f"also run the cases of this file, by default {DEFAULT_FILE}, each as a test",
    )
    group.addoption(
        "--parity-html",
        metavar="DIR",
        help="write the HTML report of each comparison that fails into this folder",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and add the case file to what is collected."""
    config.addinivalue_line("markers", MARKER)
    file = config.getoption("--parity")
    if file is not None:
        path = config.invocation_params.dir / file
        if not path.is_file():
            raise pytest.UsageError(
                f"--parity: {path} is no file; `parity check --init MODEL` writes one"
            )
        config.args.append(str(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the cases of the file that `--parity` names."""
    file = parent.config.getoption("--parity")
    if file is None or file_path != (parent.config.invocation_params.dir / file).resolve():
        return None
    collector: pytest.Collector = CaseFileCollector.from_parent(parent, path=file_path)
    return collector


class CaseFileCollector(pytest.File):
    """A `parity.toml`, whose cases are tests."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the cases; a malformed file is an error of the collection, on one line."""
        from parity.commands import cases
        from parity.errors import ParityError

        try:
            found = cases.load(self.path)
        except ParityError as error:
            raise self.CollectError(str(error)) from None
        for case in found.cases:
            yield CaseItem.from_parent(self, name=case.name, line=case.line)


class CaseItem(pytest.Item):
    """One case of a `parity.toml`."""

    def __init__(self, *, line: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.line = line

    def runtest(self) -> None:
        """Run the case; raises `DifferenceError` unless it is in parity."""
        import parity

        (report,) = parity.check(self.path, cases=[self.name]).reports.values()
        if not report:
            raise DifferenceError(report)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the message alone: no line of this plugin is at fault."""
        from parity.errors import ParityError

        if isinstance(excinfo.value, DifferenceError | ParityError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the case is written."""
        return self.path, self.line - 1, f"parity: {self.name}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """Attach the report of a comparison that failed, as text and, if asked for, as a page."""
    test_report: pytest.TestReport = yield  # type: ignore[misc, assignment]
    failure = None if call.excinfo is None else call.excinfo.value
    report = getattr(failure, "report", None)
    if report is None:
        report = item.stash.get(_REPORT, None) if test_report.failed else None
    if report is None or call.when != "call":
        return test_report  # type: ignore[return-value]
    test_report.sections.append(("parity report", _render(report)))
    folder = item.config.getoption("--parity-html")
    if folder is not None:
        from parity.report import formats

        name = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-")
        path = item.config.invocation_params.dir / folder / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        formats.write_report(report, path)
        test_report.sections.append(("parity page", str(path)))
    return test_report  # type: ignore[return-value]


_REPORT: pytest.StashKey[Report] = pytest.StashKey()


def _render(report: Report) -> str:
    """Return the report as the command line prints it, without colours."""
    from rich.console import Console

    from parity.report import terminal

    text = io.StringIO()
    terminal.render(report, Console(file=text, width=WIDTH, highlight=False))
    return text.getvalue()


@pytest.fixture
def assert_parity() -> Callable[..., None]:
    """Return `parity.testing.assert_parity`; a failing test shows the report."""
    from parity.testing import assert_parity as function

    return function


@pytest.fixture
def parity_report(request: pytest.FixtureRequest) -> Report:
    """Return the report on the models of the test's marker: `assert parity_report`."""
    import parity
    from parity.errors import ParityError

    marker = request.node.get_closest_marker("parity")
    if marker is None or not marker.args:
        message = "parity_report: the test has no models; mark it with @pytest.mark.parity(A, B)"
        pytest.fail(message, pytrace=False)
    try:
        # An option that `compare` has not is an error of the marker, not of parity.
        bound = inspect.signature(parity.compare).bind(*marker.args, **marker.kwargs)
    except TypeError as error:
        pytest.fail(f"@pytest.mark.parity: {error}", pytrace=False)
    try:
        report = parity.compare(*bound.args, **bound.kwargs)
    except ParityError as error:
        pytest.fail(f"@pytest.mark.parity: {error}", pytrace=False)
    request.node.stash[_REPORT] = report
    return report
