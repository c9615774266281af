"""`parity check`, the numeric check for continuous integration, as a command."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console
from parity.commands.cli.console import guarded, output, progress
from parity.commands.cli.report_options import reported

if TYPE_CHECKING:
    from parity.commands.check import Outcomes
    from parity.report.model import Report


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
        from parity.commands import cases
        from parity.commands import check as checking
        from parity.report import collection

        plan = cases.load(file)
        names = case or [each.name for each in plan.cases]
        printed = [form for form, path in reports.items() if str(path) == "-"]
        written = {**plan.reports, **reports}
        for form in printed:
            del written[form]
        collection.require_writable(written, names)
        with progress() as tell:
            outcomes = checking.check(plan, only=case or (), update=update, progress=tell)
        found = {each.case.name: each.report for each in outcomes.checked}
        collection.write(found, written)
        places = {each.case.name: (file, each.case.line) for each in outcomes.checked}
        collection.publish_to_github(found, places)
        for form in printed:
            print(collection.render(found, form), end="")
        if not printed:
            _show(outcomes, found)
        for note in outcomes.notes:
            console.note(note)
        raise typer.Exit(outcomes.verdict.exit_code)


def _show(outcomes: "Outcomes", found: Mapping[str, "Report"]) -> None:
    from parity.report import collection, wording
    from parity.report.model import Outcome, Verdict

    console.columns(
        ["case", "verdict", "worst", "where", "seconds"],
        [
            [
                name,
                f"{wording.SYMBOLS[report.verdict]} {report.verdict.value}",
                *collection.format_worst(report),
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
    lock = f"; figures in {outcomes.locked}" if outcomes.locked else ""
    output().print(f"\n{agreed} of {len(found)} cases agree, {outcomes.seconds:.1f} s{lock}")
