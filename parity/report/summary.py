"""The report in three lines, verdict, where and why, and as a small table for notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from parity.comparison.results import Outcome
from parity.explain.messages import UNKNOWN
from parity.numerics.verdict import PointResult, Status
from parity.report import wording
from parity.text import one_line

if TYPE_CHECKING:
    from parity.report.model import Report

MAX_LINE_LENGTH = 400
"""Characters of a line."""

MAX_ROWS = 30
"""Rows of the table."""

_COLORS = {"parity": "#1a7f37", "divergence": "#cf222e", "unknown": "#9a6700"}


def render_text(report: Report) -> str:
    """Return three lines without control characters: the verdict, where and why."""
    return "\n".join(build_lines(report))


def build_lines(report: Report) -> tuple[str, str, str]:
    """Return the verdict, where and why, each a line of at most ``MAX_LINE_LENGTH`` characters."""
    verdict, where, why = (
        one_line(line, longest=MAX_LINE_LENGTH)
        for line in (
            f"{report.verdict.value}: {report.model}: {wording.describe_verdict(report)}",
            f"where: {describe_where(report)}",
            f"why: {describe_why(report, longest=MAX_LINE_LENGTH - len('why: '))}",
        )
    )
    return verdict, where, why


def describe_where(report: Report) -> str:
    """Return the first point, layer and value that differ, of each subject."""
    worst = wording.find_worst(report)
    if report.ok and worst is not None:
        return f"no {report.depth} differs; the largest error is that of {worst[1]} at {worst[2]}"
    places = [f"{names} {how}" for names, how in wording.describe_first_failures(report)]
    places += [
        f"{name} could not be run" for name, facts in report.subjects.items() if facts.failure
    ]
    places += [
        f"level {name}" for name in _failed_levels(report) if name != "numerics" or not places
    ]
    return "; ".join(places) or "; ".join(_describe_missing(report)) or "nothing was compared"


def _describe_missing(report: Report) -> Iterator[str]:
    for name in report.subjects:
        for stage in report.stages:
            if name not in stage.subjects or stage.subjects[name].status is Status.MISSING:
                yield f"{name} is missing at {stage.name}"
                break


def describe_why(report: Report, *, longest: int | None = None) -> str:
    """Return the first cause with its proof, or else what is known instead of one.

    Of more than the `longest` characters the cause is cut, and not what is said of the others.
    """
    if report.ok:
        return f"no error is above {report.limit:g}× the rounding floor"
    reasons = list_reasons(report)
    if not reasons:
        return "no cause was found"
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    more += _describe_open_place(report)
    if longest is None:
        return reasons[0] + more
    return one_line(reasons[0], longest=max(longest - len(more), 1)) + more


def _describe_open_place(report: Report) -> str:
    """Return that the first cause is not that of the first difference, which no cause explains.

    "" where it is, or where that difference has a cause too. What is proved is told first, however
    small its part is.
    """
    if not report.causes:
        return ""
    first = report.causes[0]
    layer = wording.find_layer(report, first.subject)
    if layer is None or first.layer == layer:
        return ""
    entries = [each.cause for each in report.causes
               if (each.layer, each.subject) == (layer, first.subject)]  # fmt: skip
    is_open = bool(entries) and all(each == UNKNOWN for each in entries)
    return f"; {layer}, where the models differ first, is not explained" if is_open else ""


def list_reasons(report: Report) -> list[str]:
    """Return the causes of a difference, or else the sentences that locate it, or failures."""
    causes = [f"{cause.layer}, {cause.subject}: {cause.statement}" for cause in report.causes]
    failures = [f"{names}: {failure}" for names, failure in wording.describe_failures(report)]
    messages = [
        f"{name}: {message}"
        for name, level in report.levels.items()
        if level.outcome is not Outcome.PASS
        and (level.outcome is Outcome.FAIL or report.verdict == "unknown")
        for message in level.messages
    ]
    return next(filter(None, (causes, list(report.attribution), failures, messages)), [])


def _failed_levels(report: Report) -> list[str]:
    return [name for name, level in report.levels.items() if level.outcome is Outcome.FAIL]


def render_html(report: Report, *, page: Path | None = None) -> str:
    """Return an HTML fragment without scripts or external resources; all text is escaped.

    `page` is the file of the whole report, which the fragment links to.
    """
    verdict, *rest = build_lines(report)
    first = f'<strong style="color:{_COLORS[report.verdict]}">{escape(verdict)}</strong>'
    paragraphs = "<br>".join([first, *map(escape, rest)])
    link = "" if page is None else _link_page(page)
    return f"<div><p>{paragraphs}</p>{_table(report)}{link}</div>"


def _link_page(page: Path) -> str:
    """Return a link as a notebook's browser follows it: relative to the notebook's folder.

    A file elsewhere has its path as text too: a browser may not open it from a notebook.
    """
    if page.is_relative_to(Path.cwd()):
        relative = page.relative_to(Path.cwd()).as_posix()
        return f'<p><a href="{quote(relative)}">{escape(relative)}</a></p>'
    return f'<p><a href="{page.as_uri()}">{escape(str(page))}</a></p>'


def _table(report: Report) -> str:
    stages = wording.select_rows(report, MAX_ROWS)
    if not stages:
        return ""
    names = [report.depth, "shape", "floor", *report.subjects, "status"]
    head = "".join(f"<th>{_cell(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_row(report, stage))}</tr>" for stage in stages)
    hidden = len(report.stages) - len(stages)
    foot = f"<p>{hidden} more {escape(report.depth)}s are not shown.</p>" if hidden else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"


def _row(report: Report, stage: PointResult) -> Iterator[str]:
    floor = wording.format_number(stage.floor.max_abs) if stage.floor else "–"
    for value in (stage.name, wording.format_shape(stage.shape[1:]), floor):
        yield f"<td>{_cell(value)}</td>"
    for name in report.subjects:
        result = stage.subjects.get(name)
        figures = _cell(wording.format_figures(result))
        is_failure = result is not None and result.status.is_failure
        yield f"<td><strong>{figures}</strong></td>" if is_failure else f"<td>{figures}</td>"
    status = wording.worst_status(report, stage)
    yield f"<td>{wording.SYMBOLS[status]} {status.value}</td>"


def _cell(value: str) -> str:
    return escape(one_line(value, longest=MAX_LINE_LENGTH))
