"""The report on a terminal: tables, the verdict, and its reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from parity.numerics.verdict import Status, SubjectResult
from parity.report.model import Level, Outcome, Report, Verdict
from parity.report.reliability import (
    describe_class_names,
    describe_predictions,
    describe_reliability,
)
from parity.report.summary import describe_where, describe_why, list_reasons
from parity.report.wording import (
    compute_growth,
    describe_failures,
    describe_inheritance,
    describe_locations,
    describe_machine,
    describe_verdict,
    find_worst_pair,
    format_number,
    format_ratio,
    format_shape,
    larger_ratio,
    worst_status,
)

_STYLES: Mapping[str, str] = {
    Status.EXACT: "green",
    Status.AT_FLOOR: "green",
    Status.DIVERGED: "bold red",
    Status.NON_FINITE: "bold red",
    Status.MISSING: "yellow",
    Verdict.PARITY: "bold green",
    Verdict.DIVERGENCE: "bold red",
    Verdict.UNKNOWN: "bold yellow",
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.SKIPPED: "dim",
}

_LEGEND = "Each subject: max abs error, × the rounding floor. Pair: largest difference between two."


_ISOLATED_LEGEND = (
    "Isolated: × its floor, with the reference's input. "
    "Growth: relative L2 divided by that of the row before."
)


HANGING = 2
"""Spaces before the further lines of a sentence that a terminal wraps."""


def render(report: Report, console: Console) -> None:
    """Print the report: the verdict, then the table, then what is behind the verdict.

    A stage has one line if the console is wide enough, else two.
    """
    render_verdict(report, console)
    console.print()
    console.print(_build_heading(report))
    console.print()
    if report.stages:
        table = _build_table(report, two_lines=False)
        # Measured without the console's limit: the natural width of the table.
        unlimited = console.options.update(width=1000)
        if Measurement.get(console, unlimited, table).maximum > console.width:
            table = _build_table(report, two_lines=True)
        console.print(table)
        console.print(Text(_LEGEND, style="dim"))
        if any(stage.isolated for stage in report.stages):
            console.print()
            console.print(_build_isolated_table(report))
            console.print(Text(_ISOLATED_LEGEND, style="dim"))
        console.print()
    for line in _describe_details(report):
        _print_hanging(console, line)
    if report.notes:
        console.print()
    for note in report.notes:
        _print_hanging(console, Text(f"note: {note}"))
    console.print()
    for line in _describe_footer(report):
        _print_hanging(console, line)


def render_verdict(report: Report, console: Console) -> None:
    """Print what the verdict is; for a difference also where, why and the remedy, each a line."""
    verdict = Text.assemble(_style_word(report.verdict), ": ", describe_verdict(report))
    _print_hanging(console, verdict)
    if report.verdict is Verdict.PARITY:
        return
    lines = [("where", describe_where(report)), ("why", describe_why(report))]
    # That of a later cause would be read as the remedy of the first one.
    remedy = report.causes[0].remedy if report.causes else ""
    for label, text in [*lines, *([("remedy", remedy)] if remedy else [])]:
        _print_hanging(console, Text.assemble((label, "bold"), ": ", text))


def _print_hanging(console: Console, line: Text) -> None:
    """Print a sentence; the further lines that a terminal needs are indented.

    Output that is piped is not wrapped: a program, or a search, reads whole sentences.
    """
    if console.soft_wrap:
        console.print(line, soft_wrap=True)
        return
    indent = len(line.plain) - len(line.plain.lstrip())
    body = line[indent:]
    parts = body.wrap(console, max(console.width - indent - HANGING, 20))
    for position, part in enumerate(parts):
        part.rstrip()
        space = " " * (indent + (HANGING if position else 0))
        console.print(Text(space).append_text(part), no_wrap=True)


def _build_heading(report: Report) -> Text:
    weights, source = report.weights, report.input.source or report.input.kind
    text = Text.assemble((report.model, "bold"), f" · {weights.parameters:,} parameters")
    text.append(f"\nweights {weights.source or weights.sha256[:12]}", "dim")
    text.append(f" · input {source} {format_shape(report.input.shape)}", "dim")
    return text.append(f" · reference {report.reference} in float64", "dim")


def _build_table(report: Report, *, two_lines: bool) -> Table:
    """Build the table; ``two_lines`` puts the × floor and the shape on a second line."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(f"{report.depth}\nshape" if two_lines else report.depth, no_wrap=True)
    if not two_lines:
        table.add_column("shape", no_wrap=True, style="dim")
    table.add_column("floor\nmax abs" if two_lines else "floor", justify="right", style="dim")
    for name in report.subjects:
        # "onnx-keras" is wider than its figures, so it breaks at the hyphen.
        label = name.replace("-", "-\n") if two_lines else name
        table.add_column(Text(label), justify="right", no_wrap=True)
    has_pairs = any(stage.pairs for stage in report.stages)
    gap = "\n" if two_lines else " "
    if has_pairs:
        table.add_column("worst\npair" if two_lines else "pair", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for stage in report.stages:
        cells = [_build_cell(stage.subjects.get(name), gap) for name in report.subjects]
        shape = Text(format_shape(stage.shape[1:]), style="dim")
        row = [Text.assemble(stage.name, "\n", shape)] if two_lines else [Text(stage.name), shape]
        row.append(Text(format_number(stage.floor.max_abs) if stage.floor else "-"))
        row.extend(cells)
        if has_pairs:
            row.append(Text(format_number(find_worst_pair(stage)[0])))
        row.append(_style_word(worst_status(report, stage)))
        table.add_row(*row)
    return table


def _build_isolated_table(report: Report) -> Table:
    """Build the table of isolated errors, with the growth of the accumulated errors."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("isolated", no_wrap=True)
    # If isolation was not requested, it covers only the subjects that differ.
    subjects = [n for n in report.subjects if any(n in stage.isolated for stage in report.stages)]
    growths = {name: compute_growth(report, name) for name in subjects}
    for name in subjects:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for at, stage in enumerate(report.stages):
        cells = []
        for name in subjects:
            isolated, factor = stage.isolated.get(name), growths[name][at]
            if isolated is None or isolated.status is Status.MISSING:
                cell = Text("missing", style=_STYLES[Status.MISSING])
            else:
                style = "" if isolated.status.passes else _STYLES[isolated.status]
                cell = Text(format_ratio(larger_ratio(isolated)), style=style)
            growth = "-" if factor is None else format_ratio(factor)
            cells.append(cell.append(f"{growth:>7}", style="dim"))
        table.add_row(Text(stage.name), *cells)
    return table


def _build_cell(result: SubjectResult | None, gap: str) -> Text:
    if result is None or result.status is Status.MISSING:
        return Text("missing", style=_STYLES[Status.MISSING])
    style = "" if result.status.passes else _STYLES[result.status]
    if result.status is Status.NON_FINITE:
        return Text("NaN/Inf", style=style)
    if math.isinf(result.rel_l2):
        return Text("shape", style=style)
    return Text(
        f"{format_number(result.max_abs)}{gap}{format_ratio(larger_ratio(result)):>4}", style
    )


def _style_word(word: Status | Verdict | Outcome) -> Text:
    return Text(word.value, style=_STYLES[word])


def _describe_details(report: Report) -> Iterator[Text]:
    # The first reason stands above the table.
    reasons = [] if report.ok else list_reasons(report)[:1]
    for names, text in describe_inheritance(report):
        yield Text(f"  {names} {text}")
    for text in (*describe_locations(report), *report.attribution):
        if text not in reasons:
            yield Text(f"  {text}")
    for name, failure in describe_failures(report):
        if f"{name}: {failure}" not in reasons:
            yield Text(f"  {name}: {failure}", style="yellow")
    levels = Text("levels: ", style="dim")
    for position, (name, level) in enumerate(report.levels.items()):
        levels.append(" · " if position else "").append(f"{name} ").append_text(
            _style_word(level.outcome)
        )
    yield levels
    for name, level in report.levels.items():
        # The reason for a skipped level matters only if the verdict depends on it.
        if level.outcome is not Outcome.SKIPPED or report.verdict is Verdict.UNKNOWN:
            yield from _style_messages(name, level, reasons)
    for name, text, is_good in describe_reliability(report):
        yield Text(f"  {name}: {text}", style="dim" if is_good else "yellow")
    for text in describe_predictions(report):
        yield Text(f"  predicts: {text}", style="dim")
    if report.predictions:
        yield Text(f"  {describe_class_names(report)}", style="dim")
    for cause in report.causes[len(reasons) :]:
        yield Text(f"  {cause.layer}, {cause.subject}: {cause.statement}")
        if cause.remedy:
            yield Text(f"    remedy: {cause.remedy}")


def _style_messages(name: str, level: Level, known: Sequence[str]) -> Iterator[Text]:
    style = _STYLES[level.outcome] if level.outcome is Outcome.FAIL else "dim"
    for message in level.messages:
        if f"{name}: {message}" not in known:
            yield Text(f"  {name}: {message}", style=style)


def _describe_footer(report: Report) -> Iterator[Text]:
    pairs = [(*find_worst_pair(stage), stage.name) for stage in report.stages if stage.pairs]
    if pairs:
        difference, pair, stage = max(pairs)
        subjects = " and ".join(pair.split("|"))
    if pairs and math.isfinite(difference):
        yield Text(
            f"largest difference between two subjects: {format_number(difference)}, {subjects}, "
            f"at {stage}",
            "dim",
        )
    width = max((len(name) for name in report.subjects), default=0)
    for name, facts in report.subjects.items():
        backend = f" on {facts.backend}" if facts.backend else ""
        line = f"{name:{width}}  {facts.runtime}{backend}, {facts.device}, {facts.precision}"
        yield Text(line, style="dim")
    yield Text(" · ".join([*describe_machine(report), f"{report.seconds:.1f} s"]), style="dim")
