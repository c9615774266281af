"""The report on a terminal: one table, and the verdict in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from parity.numerics.verdict import Status, SubjectResult
from parity.report.model import Level, Outcome, Report, Verdict
from parity.report.reliability import describe_reliability
from parity.report.wording import (
    compute_growth,
    describe_failures,
    describe_first_failures,
    describe_inheritance,
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

_LEGEND = "Each subject: max abs error, × the rounding floor. Pair: largest difference of two."


_ISOLATED_LEGEND = (
    "Isolated: × its floor, given the reference's input. "
    "Then growth: relative L2 over that of the one before."
)


def render(report: Report, console: Console) -> None:
    """Print the report: a line a stage where the console is wide enough, else two."""
    console.print(_heading(report))
    console.print()
    if report.stages:
        table = _table(report, stacked=False)
        # Measured without the console's limit: what matters is how wide the table wants to be.
        free = console.options.update(width=1000)
        if Measurement.get(console, free, table).maximum > console.width:
            table = _table(report, stacked=True)
        console.print(table)
        console.print(Text(_LEGEND, style="dim"))
        if any(stage.isolated for stage in report.stages):
            console.print()
            console.print(_isolated(report))
            console.print(Text(_ISOLATED_LEGEND, style="dim"))
        console.print()
    for line in _conclusion(report):
        console.print(line)
    console.print()
    for line in _footer(report):
        console.print(line)


def _heading(report: Report) -> Text:
    weights, source = report.weights, report.input.source or report.input.kind
    text = Text.assemble((report.model, "bold"), f" · {weights.parameters:,} parameters")
    text.append(f"\nweights {weights.source or weights.sha256[:12]}", "dim")
    text.append(f" · input {source} {format_shape(report.input.shape)}", "dim")
    return text.append(f" · reference {report.reference} in float64", "dim")


def _table(report: Report, *, stacked: bool) -> Table:
    """Build the table; ``stacked`` puts a cell's × floor, and a stage's shape, on a second line."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(f"{report.depth}\nshape" if stacked else report.depth, no_wrap=True)
    if not stacked:
        table.add_column("shape", no_wrap=True, style="dim")
    table.add_column("floor\nmax abs" if stacked else "floor", justify="right", style="dim")
    for name in report.subjects:
        # "onnx-keras" is wider than its figures: it may break at the hyphen.
        label = name.replace("-", "-\n") if stacked else name
        table.add_column(Text(label), justify="right", no_wrap=True)
    paired = any(stage.pairs for stage in report.stages)
    gap = "\n" if stacked else " "
    if paired:
        table.add_column("worst\npair" if stacked else "pair", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for stage in report.stages:
        cells = [_cell(stage.subjects.get(name), gap) for name in report.subjects]
        shape = Text(format_shape(stage.shape[1:]), style="dim")
        row = [Text.assemble(stage.name, "\n", shape)] if stacked else [Text(stage.name), shape]
        row.append(Text(format_number(stage.floor.max_abs) if stage.floor else "-"))
        row.extend(cells)
        if paired:
            row.append(Text(format_number(find_worst_pair(stage)[0])))
        row.append(_word(worst_status(report, stage)))
        table.add_row(*row)
    return table


def _isolated(report: Report) -> Table:
    """Build the table of each part's own error, beside the growth of the accumulated one."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("isolated", no_wrap=True)
    # Not asked for, isolation looks only at the subjects that differ.
    subjects = [n for n in report.subjects if any(n in stage.isolated for stage in report.stages)]
    growths = {name: compute_growth(report, name) for name in subjects}
    for name in subjects:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for at, stage in enumerate(report.stages):
        cells = []
        for name in subjects:
            alone, factor = stage.isolated.get(name), growths[name][at]
            if alone is None or alone.status is Status.MISSING:
                own = Text("missing", style=_STYLES[Status.MISSING])
            else:
                style = "" if alone.status.passes else _STYLES[alone.status]
                own = Text(format_ratio(larger_ratio(alone)), style=style)
            grown = "-" if factor is None else format_ratio(factor)
            cells.append(own.append(f"{grown:>7}", style="dim"))
        table.add_row(Text(stage.name), *cells)
    return table


def _cell(result: SubjectResult | None, gap: str) -> Text:
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


def _word(word: Status | Verdict | Outcome) -> Text:
    return Text(word.value, style=_STYLES[word])


def _conclusion(report: Report) -> Iterator[Text]:
    yield Text.assemble(_word(report.verdict), ": ", describe_verdict(report))
    for name, told in describe_first_failures(report):
        yield Text(f"  {name} {told}")
    for name, told in describe_inheritance(report):
        yield Text(f"  {name} {told}")
    for told in report.attribution:
        yield Text(f"  {told}")
    for name, failure in describe_failures(report):
        yield Text(f"  {name}: {failure}", style="yellow")
    levels = Text("levels: ", style="dim")
    for position, (name, level) in enumerate(report.levels.items()):
        levels.append(" · " if position else "").append(f"{name} ").append_text(
            _word(level.outcome)
        )
    yield levels
    for name, level in report.levels.items():
        # Why a level was skipped matters only where the verdict hangs on it.
        if level.outcome is not Outcome.SKIPPED or report.verdict is Verdict.UNKNOWN:
            yield from _messages(name, level)
    for name, told, fine in describe_reliability(report):
        yield Text(f"  {name}: {told}", style="dim" if fine else "yellow")
    for cause in report.causes:
        yield Text(f"  {cause.layer}, {cause.subject}: {cause.message}")
    for note in report.notes:
        yield Text(f"note: {note}")


def _messages(name: str, level: Level) -> Iterator[Text]:
    style = _STYLES[level.outcome] if level.outcome is Outcome.FAIL else "dim"
    for message in level.messages:
        yield Text(f"  {name}: {message}", style=style)


def _footer(report: Report) -> Iterator[Text]:
    pairs = [(*find_worst_pair(stage), stage.name) for stage in report.stages if stage.pairs]
    if pairs:
        top, pair, stage = max(pairs)
        both = " and ".join(pair.split("|"))
    if pairs and math.isfinite(top):
        yield Text(
            f"largest difference between two subjects: {format_number(top)}, {both}, at {stage}",
            "dim",
        )
    width = max((len(name) for name in report.subjects), default=0)
    for name, facts in report.subjects.items():
        backend = f" on {facts.backend}" if facts.backend else ""
        line = f"{name:{width}}  {facts.runtime}{backend}, {facts.device}, {facts.precision}"
        yield Text(line, style="dim")
    yield Text(" · ".join([*describe_machine(report), f"{report.seconds:.1f} s"]), style="dim")
