"""The report as Markdown, for a pull request or ``$GITHUB_STEP_SUMMARY``, and as annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from parity.numerics.verdict import StageResult, Status, SubjectResult
from parity.report import wording
from parity.report.model import Outcome, Report, Verdict
from parity.report.reliability import describe_reliability

SUFFIX = ".md"

LONGEST = 60_000
"""Characters: GitHub refuses a comment of more than 65,536."""

_OPEN = 12
"""Rows that are shown without being unfolded."""

_SIGNS = {Verdict.PARITY: "✅", Verdict.DIVERGENCE: "❌", Verdict.UNKNOWN: "❔"}

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~$@!])")


def render(report: Report) -> str:
    """Return the report as GitHub-flavoured Markdown of at most ``LONGEST`` characters."""
    blocks = [
        f"### {_SIGNS[report.verdict]} {_escape(report.model)}: {report.verdict.value}",
        _escape(wording.describe_verdict(report)[:2000]),
        _bullets(_findings(report)),
        _table(report, wording.select_rows(report, _OPEN)),
    ]
    folded = _rest(report, LONGEST - sum(map(len, blocks)) - 4000)
    blocks += [folded, _bullets(_told(report)), _footer(report)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def render_github_annotations(
    report: Report, *, case: str | None = None, file: str | None = None, line: int = 1
) -> list[str]:
    """Return GitHub's workflow commands, one an error: they mark the run where it is read.

    ``case`` is what the comparison is called where ``file`` asks for it, in line ``line``.
    """
    if report.verdict is Verdict.PARITY:
        return []
    told = [f"{name} {how}" for name, how in wording.describe_first_failures(report)]
    told += [f"{name}: {facts.failure}" for name, facts in report.subjects.items() if facts.failure]
    for name, level in report.levels.items():
        if level.outcome is Outcome.FAIL:
            told += [f"{name}: {message}" for message in level.messages]
    title = _property(f"parity: {case or report.model}: {report.verdict.value}")
    place = "" if file is None else f"file={_property(file)},line={line},"
    return [
        f"::error {place}title={title}::{_message(each)}"
        for each in told or [wording.describe_verdict(report)]
    ]


def _table(report: Report, stages: Iterable[StageResult]) -> str:
    names = list(report.subjects)
    head = [report.depth, "shape", "floor", *names, "status"]
    lines = [_line(map(_escape, head)), _line(["---", "---", *["---:"] * (len(names) + 1), "---"])]
    for stage in stages:
        status = wording.worst_status(report, stage)
        floor = wording.format_number(stage.floor.max_abs) if stage.floor else "–"
        cells = [_cell(stage.subjects.get(name)) for name in names]
        shape = wording.format_shape(stage.shape[1:])
        lines.append(_line([_escape(stage.name), shape, floor, *cells, _status(status)]))
    return "\n".join(lines) if len(lines) > 2 else ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(result: SubjectResult | None) -> str:
    figures = wording.format_figures(result)
    return f"**{figures}**" if result is not None and result.status.is_failure else figures


def _status(status: Status) -> str:
    return status.value if status.passes else f"❌ {status.value}"


def _rest(report: Report, room: int) -> str:
    """Fold the whole table away, as many of its rows as there is room for."""
    if len(report.stages) <= _OPEN:
        return ""
    lines = _table(report, report.stages).split("\n")
    kept, used = 0, 0
    for line in lines:
        used += len(line) + 1
        if used > room:
            break
        kept += 1
    count = len(report.stages)
    shown = min(count, kept - 2)
    cut = (
        "" if shown == count else f"\n\n{count - shown} more rows do not fit; see the JSON report."
    )
    title = f"all {count} {report.depth}s"
    body = "\n".join(lines[:kept])
    return f"<details><summary>{title}</summary>\n\n{body}{cut}\n\n</details>"


def _findings(report: Report) -> Iterator[str]:
    for name, how in wording.describe_first_failures(report):
        yield f"**{_escape(name)}** {_escape(how)}"
    for name, told in wording.describe_inheritance(report):
        yield f"**{_escape(name)}** {_escape(told)}"
    for line in report.attribution:
        yield _escape(line)
    for cause in report.causes:
        yield f"{_escape(cause.layer)}, {_escape(cause.subject)}: {_escape(cause.message)}"
    for name, facts in report.subjects.items():
        if facts.failure:
            yield f"**{_escape(name)}** could not be run: {_escape(facts.failure)}"


def _told(report: Report) -> Iterator[str]:
    levels = (f"{name} {level.outcome.value}" for name, level in report.levels.items())
    yield "levels: " + " · ".join(levels)
    for name, level in report.levels.items():
        for message in level.messages[:20]:
            yield f"{_escape(name)}: {_escape(message)}"
    for name, told, fine in describe_reliability(report):
        yield f"{name}: {'' if fine else '❌ '}{_escape(told)}"
    for note in report.notes:
        yield _escape(note)


def _bullets(lines: Iterable[str]) -> str:
    # One that is long as a book would leave no room for the table.
    return "\n".join(f"- {line[:1000]}" for line in list(lines)[:30])


def _footer(report: Report) -> str:
    runtimes = []
    for name, facts in report.subjects.items():
        backend = f" on {facts.backend}" if facts.backend else ""
        runtimes.append(f"{name}: {facts.runtime}{backend}, {facts.device}, {facts.precision}")
    line = " · ".join([*runtimes, *wording.describe_machine(report), f"{report.seconds:.1f} s"])
    legend = "Each subject: max abs error (× the rounding floor)."
    command = wording.format_command(report)
    # A fence longer than any run of backticks inside cannot be closed from within.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    how = f"\n\n{fence}sh\n{command}\n{fence}" if command and "\n" not in command else ""
    return f"<sub>{legend} {_escape(line)}</sub>{how}"


def _escape(text: str) -> str:
    """Make text that came from files and models show as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
