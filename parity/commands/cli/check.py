"""The command `parity check`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console, panels, report_options
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress

if TYPE_CHECKING:
    from parity.commands.check import CheckResult


@report_options.with_report_options
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The case file.")] = Path(
        "parity.toml"
    ),
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Run only this case. Repeatable.", rich_help_panel=panels.WHAT
        ),
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Save the figures in parity.lock.json.", rich_help_panel=panels.OUTPUTS
        ),
    ] = False,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REF",
            help="Write FILE instead, with comments: a case for this architecture, or for models, "
            "one --init each.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Where cases run: local, ray or ray:ADDRESS.",
            rich_help_panel=panels.WHERE,
        ),
    ] = "local",
    *,
    reports: dict[str, Path],
) -> None:
    """Run the cases of parity.toml, as a check in CI.

    Exits with the worst result: 1 if a case differs or a figure exceeds its locked one, 3 if a case
    could not be decided. A report's FILE may be a folder, which gets one file for each case.
    """
    with handle_errors():
        if init:
            from parity.commands.case_template import write_case_file

            write_case_file(file, init)
            typer.echo(f"wrote {file}; now run: parity check {file}")
            raise typer.Exit(0)
        from parity.commands import check as checking
        from parity.processes.cache import is_cache_note
        from parity.report import collection, formats

        report_options.require_one_printed(reports)
        formats_to_print = [form for form, path in reports.items() if path == report_options.STDOUT]
        paths = {form: None if form in formats_to_print else path for form, path in reports.items()}
        with show_progress() as update_progress:
            result = checking.check(
                file,
                cases=case or (),
                update=update,
                on=on,
                reports=paths,
                progress=update_progress,
            )
        locations = {each.case.name: (file, each.case.line) for each in result.results}
        collection.publish_to_github(result.reports, locations)
        for form in formats_to_print:
            print(formats.combine(result.reports, form), end="")
        if not formats_to_print:
            _print_result(result)
        damaged = (n for r in result.reports.values() for n in r.notes if is_cache_note(n))
        for note in (*dict.fromkeys(damaged), *result.notes):
            console.print_note(note)
        raise typer.Exit(result.exit_code)


def _print_result(result: "CheckResult") -> None:
    from parity.report import wording
    from parity.report.model import Outcome, Verdict

    console.print_table(
        ["case", "verdict", "worst", "where", "seconds"],
        [
            [
                name,
                f"{wording.SYMBOLS[report.verdict]} {report.verdict.value}",
                *wording.describe_worst(report),
                f"{report.seconds:.1f}",
            ]
            for name, report in result.reports.items()
        ],
        right=("worst", "seconds"),
    )
    for name, report in result.reports.items():
        if report.verdict is Verdict.PARITY:
            continue
        print(f"\n{name}: {wording.describe_verdict(report)}")
        for subject, sentence in wording.describe_first_failures(report):
            print(f"  {subject} {sentence}")
        for sentence in report.attribution:
            print(f"  {sentence}")
        for subject, facts in report.subjects.items():
            if facts.failure:
                print(f"  {subject}: {facts.failure}")
        for level in report.levels.values():
            if level.outcome is Outcome.FAIL:
                for message in level.messages:
                    print(f"  {message}")
    verdicts = [each.report.verdict for each in result.results]
    lock = f", locked figures in {result.lock_file}" if result.lock_file else ""
    console.stdout_console().print(
        f"\n{verdicts.count(Verdict.PARITY)} of {len(verdicts)} cases agree, "
        f"{result.seconds:.1f} s{lock}"
    )


COMMANDS = (
    Command(
        check,
        place=90,
        examples=(
            "parity check --init resnet18",
            "parity check --init net.py:build --init deployed.onnx",
            "parity check",
            "parity check --update",
            "parity check tests/parity.toml --junit parity.xml --html reports",
        ),
    ),
)
