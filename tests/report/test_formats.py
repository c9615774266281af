"""Finding the formats, and the options that they give a command."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from parity.commands.cli import report_options
from parity.errors import OutputError, UsageError
from parity.report import formats
from tests.report.samples import divergence, full, parity


def test_every_module_is_a_format() -> None:
    assert {"html", "json", "junit", "markdown"} <= set(formats.list_formats())
    suffixes = [formats.load_format(name).SUFFIX for name in formats.list_formats()]
    assert len(set(suffixes)) == len(suffixes)


@pytest.mark.parametrize("name", formats.list_formats())
@pytest.mark.parametrize("report", [parity(), divergence(), full()])
def test_each_is_written_whole(name: str, report, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / f"report{formats.load_format(name).SUFFIX}"
    formats.write_report(report, path)
    assert path.read_text(encoding="utf-8") == formats.load_format(name).render(report)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", formats.list_formats())
def test_no_folder_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        formats.write_report(parity(), tmp_path / "absent" / "report", name)


def test_unknown_suffix() -> None:
    with pytest.raises(
        UsageError,
        match=r"report\.doc: expected a name that ends in one of .*\.html.*found '\.doc'",
    ):
        formats.write_report(parity(), "report.doc")


def command() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @report_options.with_report_options
    def compare(model: str, *, reports: dict[str, Path]) -> None:
        report_options.require_writable(reports)
        if not report_options.write_reports(parity(), reports):
            typer.echo(f"the table of {model}")

    return app


def test_a_command_has_an_option_for_each(tmp_path: Path) -> None:
    paths = {
        name: tmp_path / f"r{formats.load_format(name).SUFFIX}" for name in formats.list_formats()
    }
    arguments = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    result = CliRunner().invoke(command(), ["resnet18", *arguments])
    assert result.output == "the table of resnet18\n"
    assert all(path.stat().st_size for path in paths.values())


def test_one_can_be_printed_instead() -> None:
    result = CliRunner().invoke(command(), ["resnet18", "--markdown", "-"])
    assert result.stdout == formats.load_format("markdown").render(parity())


def test_two_cannot_be_printed() -> None:
    result = CliRunner().invoke(command(), ["resnet18", "--markdown", "-", "--json", "-"])
    assert isinstance(result.exception, UsageError)


def test_a_workflow_gets_annotations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    report_options.write_reports(divergence(), {})
    assert capsys.readouterr().err.startswith("::error title=")
    report_options.write_reports(parity(), {})
    assert capsys.readouterr().err == ""
