"""The report on a terminal: one table, and the verdict in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from parity.verdict import StageResult, Status, SubjectResult
from parity.report.model import Level, Outcome, Report, Verdict

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

# From best to worst: a row's status is its worst subject's.
_ORDER = tuple(Status)


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
    text.append(f" · input {source} {_shape(report.input.shape)}", "dim")
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
        shape = Text(_shape(stage.shape[1:]), style="dim")
        row = [Text.assemble(stage.name, "\n", shape)] if stacked else [Text(stage.name), shape]
        row.append(Text(_number(stage.floor.max_abs) if stage.floor else "-"))
        row.extend(cells)
        if paired:
            row.append(Text(_number(_worst_pair(stage)[0])))
        row.append(_word(_row_status(report, stage)))
        table.add_row(*row)
    return table


def _cell(result: SubjectResult | None, gap: str) -> Text:
    if result is None or result.status is Status.MISSING:
        return Text("missing", style=_STYLES[Status.MISSING])
    style = "" if result.status.passes else _STYLES[result.status]
    if result.status is Status.NON_FINITE:
        return Text("NaN/Inf", style=style)
    if math.isinf(result.rel_l2):
        return Text("shape", style=style)
    return Text(f"{_number(result.max_abs)}{gap}{_ratio(_worse(result)):>4}", style)


def _worse(result: SubjectResult) -> float:
    """Return the larger of the two ratios that the verdict looks at."""
    return max(result.x_floor, result.x_floor_max)


def _row_status(report: Report, stage: StageResult) -> Status:
    found = [
        stage.subjects[name].status if name in stage.subjects else Status.MISSING
        for name in report.subjects
    ]
    return max(found, key=_ORDER.index, default=Status.MISSING)


def _worst_pair(stage: StageResult) -> tuple[float, str]:
    return max(((pair.max_abs, name) for name, pair in stage.pairs.items()), default=(0.0, ""))


def _word(word: Status | Verdict | Outcome) -> Text:
    return Text(word.value, style=_STYLES[word])


def _conclusion(report: Report) -> Iterator[Text]:
    sentence = {
        Verdict.PARITY: _parity,
        Verdict.DIVERGENCE: _divergence,
        Verdict.UNKNOWN: _unknown,
    }[report.verdict](report)
    yield Text.assemble(_word(report.verdict), ": ", sentence)
    first = report.first_divergence
    if first is not None:
        yield from _first(report)
    for name, facts in report.subjects.items():
        if facts.failure:
            yield Text(f"  {name}: {facts.failure}", style="yellow")
    levels = Text("levels: ", style="dim")
    for position, (name, level) in enumerate(report.levels.items()):
        levels.append(" · " if position else "").append(f"{name} ").append_text(
            _word(level.outcome)
        )
    yield levels
    for name, level in report.levels.items():
        yield from _messages(name, level)
    for cause in report.causes:
        yield Text(f"  {cause.layer}, {cause.subject}: {cause.message}")
    for note in report.notes:
        yield Text(f"note: {note}")


def _messages(name: str, level: Level) -> Iterator[Text]:
    style = _STYLES[level.outcome] if level.outcome is Outcome.FAIL else "dim"
    for message in level.messages:
        yield Text(f"  {name}: {message}", style=style)


def _parity(report: Report) -> str:
    ratio, name, stage = max(
        (_worse(result), name, stage.name)
        for stage in report.stages
        for name, result in stage.subjects.items()
    )
    count = len(report.stages)
    cuts = f"all {count} {report.depth}s" if count > 1 else f"the one {report.depth}"
    return (
        f"{_list(report.subjects)} {'agree' if len(report.subjects) > 1 else 'agrees'} with "
        f"{report.reference} in float64 at {cuts}; the worst is {_ratio(ratio)} the rounding "
        f"floor ({name}, {stage}), {report.limit:g}× is allowed."
    )


def _divergence(report: Report) -> str:
    wrong = [name for name in report.subjects if not _passes(report, name)]
    right = [name for name in report.subjects if name not in wrong]
    if report.first_divergence is None:
        failed = [n for n, level in report.levels.items() if level.outcome is Outcome.FAIL]
        return f"the {_list(failed)} differ{'s' if len(failed) == 1 else ''}."
    sentence = (
        f"{_list(wrong)} {'differ' if len(wrong) > 1 else 'differs'} from {report.reference} in "
        f"float64 by more than {report.limit:g}× the rounding floor"
    )
    return sentence + (f"; {_list(right)} {'agree' if len(right) > 1 else 'agrees'}." if right
                       else ".")  # fmt: skip


def _unknown(report: Report) -> str:
    failed = [name for name, facts in report.subjects.items() if facts.failure]
    if failed:
        return f"{_list(failed)} could not be run."
    missing = [name for name in report.subjects if not _passes(report, name)]
    if report.stages and missing:
        return f"{_list(missing)} could not be compared everywhere."
    return "nothing was compared."


def _passes(report: Report, name: str) -> bool:
    return all(
        name in stage.subjects and stage.subjects[name].status.passes for stage in report.stages
    )


def _first(report: Report) -> Iterator[Text]:
    """Say where each subject that diverges does so first."""
    for name in report.subjects:
        for stage in report.stages:
            result = stage.subjects.get(name)
            if result is not None and result.status in (Status.DIVERGED, Status.NON_FINITE):
                yield Text(f"  {name} first at {_where(report, name, stage)}: {_how(result)}")
                break


def _where(report: Report, name: str, stage: StageResult) -> str:
    first = report.first_divergence
    if first is not None and first.layer and name in first.subjects and first.layer != stage.name:
        return f"{stage.name}, layer {first.layer}"
    return stage.name


def _how(result: SubjectResult) -> str:
    parts = [result.message] if result.message else [
        f"max abs {_number(result.max_abs)}, {_ratio(_worse(result))} the floor"
    ]  # fmt: skip
    if result.worst is not None:
        where = ", ".join(map(str, result.worst))
        kind = "first" if result.status is Status.NON_FINITE else "worst"
        parts.append(f"{kind} at [{where}], {result.actual:.6g} instead of {result.expected:.6g}")
    return "; ".join(parts)


def _footer(report: Report) -> Iterator[Text]:
    pairs = [(*_worst_pair(stage), stage.name) for stage in report.stages if stage.pairs]
    if pairs:
        top, pair, stage = max(pairs)
        both = " and ".join(pair.split("|"))
    if pairs and math.isfinite(top):
        yield Text(
            f"largest difference between two subjects: {_number(top)}, {both}, at {stage}", "dim"
        )
    width = max((len(name) for name in report.subjects), default=0)
    for name, facts in report.subjects.items():
        backend = f" on {facts.backend}" if facts.backend else ""
        line = f"{name:{width}}  {facts.runtime}{backend}, {facts.device}, {facts.precision}"
        yield Text(line, style="dim")
    facts_line = ", ".join(str(value) for value in report.environment.values())
    yield Text(f"{facts_line}{' · ' if facts_line else ''}{report.seconds:.1f} s", style="dim")


def _list(names: Mapping[str, object] | list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _number(value: float) -> str:
    """Write a figure in two digits, without the exponent's leading zeros: 3.6e-6."""
    if not math.isfinite(value):
        return "NaN/Inf"
    if value == 0.0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _ratio(value: float) -> str:
    """Write a ratio in at most six characters: 0.8×, 31×, 2.4e5×."""
    if not math.isfinite(value):
        return "∞×"
    if value < 10:
        return f"{value:.1f}×"
    return f"{value:.0f}×" if value < 1000 else f"{_number(value)}×"
