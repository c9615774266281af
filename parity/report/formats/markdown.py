"""The report as Markdown, for a pull request or ``$GITHUB_STEP_SUMMARY``, and as annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from parity.numerics.verdict import PointResult, Status, SubjectResult
from parity.report import wording
from parity.report.model import Outcome, Report, Verdict
from parity.report.reliability import describe_reliability

SUFFIX = ".md"

MAX_LENGTH = 60_000
"""Characters; GitHub refuses a comment of more than 65,536."""

_VISIBLE_ROWS = 12
"""Rows that are visible without unfolding."""

_SYMBOLS = {Verdict.PARITY: "✅", Verdict.DIVERGENCE: "❌", Verdict.UNKNOWN: "❔"}

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~$@!])")


def render(report: Report) -> str:
    """Return the report as GitHub-flavoured Markdown of at most ``MAX_LENGTH`` characters."""
    blocks = [
        f"### {_SYMBOLS[report.verdict]} {_escape(report.model)}: {report.verdict.value}",
        _escape(wording.describe_verdict(report)[:2000]),
        _bullets(_describe_findings(report)),
        _table(report, wording.select_rows(report, _VISIBLE_ROWS)),
    ]
    folded = _build_folded_table(report, MAX_LENGTH - sum(map(len, blocks)) - 4000)
    blocks += [folded, _bullets(_describe_levels(report)), _footer(report)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def combine(reports: Mapping[str, Report], longest: int = MAX_LENGTH) -> str:
    """Return one line for each case, then the cases' reports, failing cases first.

    The result has at most ``longest`` characters; reports that do not fit are left out.
    """
    count = sum(report.verdict is Verdict.PARITY for report in reports.values())
    lines = [f"## parity check: {count} of {len(reports)} cases agree", ""]
    lines += ["| case | verdict | worst | where |", "| --- | --- | ---: | --- |"]
    for name, report in reports.items():
        ratio, where = wording.describe_worst(report)
        lines.append(f"| {name} | {report.verdict.value} | {ratio} | {where} |")
    blocks = ["\n".join(lines) + "\n"]
    room = longest - len(blocks[0]) - 200
    sorted_reports = sorted(reports.items(), key=lambda item: item[1].verdict is Verdict.PARITY)
    omitted = 0
    for name, report in sorted_reports:
        block = f"---\n\n**{name}**\n\n{render(report)}"
        if len(block) > room:
            omitted += 1
            continue
        room -= len(block)
        blocks.append(block)
    if omitted:
        blocks.append(f"{omitted} more reports do not fit here; see the other formats.\n")
    return "\n".join(blocks)


def render_github_annotations(
    report: Report, *, case: str | None = None, file: str | None = None, line: int = 1
) -> list[str]:
    """Return a GitHub workflow command for each error, which annotates the run.

    ``case`` is the name of the comparison, defined in line ``line`` of ``file``.
    """
    if report.verdict is Verdict.PARITY:
        return []
    errors = [f"{names} {text}" for names, text in wording.describe_first_failures(report)]
    errors += [
        f"{name}: {facts.failure}" for name, facts in report.subjects.items() if facts.failure
    ]
    for name, level in report.levels.items():
        if level.outcome is Outcome.FAIL:
            errors += [f"{name}: {message}" for message in level.messages]
    title = _property(f"parity: {case or report.model}: {report.verdict.value}")
    place = "" if file is None else f"file={_property(file)},line={line},"
    return [
        f"::error {place}title={title}::{_message(error)}"
        for error in errors or [wording.describe_verdict(report)]
    ]


def _table(report: Report, stages: Iterable[PointResult]) -> str:
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


def _build_folded_table(report: Report, room: int) -> str:
    """Return the whole table, folded, with as many rows as fit in ``room`` characters."""
    if len(report.stages) <= _VISIBLE_ROWS:
        return ""
    lines = _table(report, report.stages).split("\n")
    count_lines, used = 0, 0
    for line in lines:
        used += len(line) + 1
        if used > room:
            break
        count_lines += 1
    count = len(report.stages)
    visible = min(count, count_lines - 2)
    remark = (
        ""
        if visible == count
        else f"\n\n{count - visible} more rows do not fit; see the JSON report."
    )
    title = f"all {count} {report.depth}s"
    body = "\n".join(lines[:count_lines])
    return f"<details><summary>{title}</summary>\n\n{body}{remark}\n\n</details>"


def _describe_findings(report: Report) -> Iterator[str]:
    sentences = (*wording.describe_first_failures(report), *wording.describe_inheritance(report))
    for names, text in sentences:
        yield f"**{_escape(names)}** {_escape(text)}"
    for line in report.attribution:
        yield _escape(line)
    for cause in report.causes:
        yield f"{_escape(cause.layer)}, {_escape(cause.subject)}: {_escape(cause.statement)}"
        if cause.remedy:
            yield f"**remedy** {_escape(cause.remedy)}"
    for name, facts in report.subjects.items():
        if facts.failure:
            yield f"**{_escape(name)}** could not be run: {_escape(facts.failure)}"


def _describe_levels(report: Report) -> Iterator[str]:
    levels = (f"{name} {level.outcome.value}" for name, level in report.levels.items())
    yield "levels: " + " · ".join(levels)
    for name, level in report.levels.items():
        for message in level.messages[:20]:
            yield f"{_escape(name)}: {_escape(message)}"
    for name, text, is_good in describe_reliability(report):
        yield f"{name}: {'' if is_good else '❌ '}{_escape(text)}"
    for note in report.notes:
        yield _escape(note)


def _bullets(lines: Iterable[str]) -> str:
    # A very long line would leave no room for the table.
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
    block = f"\n\n{fence}sh\n{command}\n{fence}" if command and "\n" not in command else ""
    return f"<sub>{legend} {_escape(line)}</sub>{block}"


def _escape(text: str) -> str:
    """Escape text from files and models, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
