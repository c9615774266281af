"""`parity check`, the numeric check for continuous integration, as a command."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console
from parity.commands.cli.command import Command
from parity.commands.cli.console import guarded, output, progress
from parity.commands.cli.report_options import reported

if TYPE_CHECKING:
    from parity.commands.check import CheckResult


@reported
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The cases to run.")] = Path(
        "parity.toml"
    ),
    case: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run this case only; repeatable.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Lock the figures in parity.lock.json.")
    ] = False,
    *,
    reports: dict[str, Path],
) -> None:
    """Run every case of parity.toml: the numeric check for continuous integration.

    It fails where a case differs, and where a figure has become worse than its locked one. A
    report's FILE may be a folder, which then gets a file a case.
    """
    with guarded():
        from parity.commands import check as checking
        from parity.report import collection, formats

        printed = [form for form, path in reports.items() if str(path) == "-"]
        written = {form: None if form in printed else path for form, path in reports.items()}
        with progress() as tell:
            result = checking.check(
                file, cases=case or (), update=update, reports=written, progress=tell
            )
        places = {each.case.name: (file, each.case.line) for each in result.results}
        collection.publish_to_github(result.reports, places)
        for form in printed:
            print(formats.combine(result.reports, form), end="")
        if not printed:
            _show(result)
        for note in result.notes:
            console.note(note)
        raise typer.Exit(result.exit_code)


def _show(result: "CheckResult") -> None:
    from parity.report import wording
    from parity.report.model import Outcome, Verdict

    found = result.reports

    console.columns(
        ["case", "verdict", "worst", "where", "seconds"],
        [
            [
                name,
                f"{wording.SYMBOLS[report.verdict]} {report.verdict.value}",
                *wording.describe_worst(report),
                f"{report.seconds:.1f}",
            ]
            for name, report in found.items()
        ],
        right=("worst", "seconds"),
    )
    for name, report in found.items():
        if report.verdict is Verdict.PARITY:
            continue
        print(f"\n{name}: {wording.describe_verdict(report)}")
        for subject, told in wording.describe_first_failures(report):
            print(f"  {subject} {told}")
        for told in report.attribution:
            print(f"  {told}")
        for subject, facts in report.subjects.items():
            if facts.failure:
                print(f"  {subject}: {facts.failure}")
        for level in report.levels.values():
            if level.outcome is Outcome.FAIL:
                for told in level.messages:
                    print(f"  {told}")
    agreed = sum(report.verdict is Verdict.PARITY for report in found.values())
    lock = f"; figures in {result.lock_file}" if result.lock_file else ""
    output().print(f"\n{agreed} of {len(found)} cases agree, {result.seconds:.1f} s{lock}")


COMMANDS = (
    Command(
        check,
        place=90,
        examples=(
            "parity check",
            "parity check --update",
            "parity check tests/parity.toml --junit parity.xml --html reports",
        ),
    ),
)
