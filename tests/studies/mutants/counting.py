"""The table of the mutants, and the shares in it that are below the promised ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.studies.mutants.result import Result

MIN_SHARES = {"detected": 1.0, "located": 0.98, "named": 0.95}
MAX_MISNAMED = 0.01

COLUMNS = {
    "detected": "detected",
    "located": "located",
    "named": "named",
    "unexplained": "rightly not explained",
    "misnamed": "wrongly named",
}
"""The columns of the table, each a property of `Result`; where that is None, it does not count."""


def format_result(result: Result) -> str:
    """Return one mutant and its result as one line."""
    words = "not named"
    if result.named is None:
        words = {
            True: "rightly not explained",
            False: "NOT CALLED UNEXPLAINED",
            None: "no cause to name",
        }[result.unexplained]
    if result.named:
        words = "named"
    if result.misnamed:
        words = "WRONGLY NAMED"
    if not result.detectable:
        flag = "FLAGGED" if result.detected else "as declared"
        words = f"{flag}, undetectable: {result.undetectable}"
    elif not result.detected:
        words = "NOT DETECTED"
    elif result.located is False:
        words += ", NOT LOCATED"
    causes = ", ".join(dict.fromkeys(f"{row}: {cause}" for row, cause in result.answers))
    option = " --isolate" if result.isolate else ""
    return (
        f"{result.seconds:5.2f} s  {result.model} {result.subject} {result.fault} "
        f"@ {'+'.join(result.rows)}{option}, by {result.by or 'nothing'}: {words} ({causes})"
    )


def counts(results: Iterable[Result], field: str) -> tuple[int, int]:
    """Return how many results have a property, and how many could have it."""
    values = [value for result in results if (value := getattr(result, field)) is not None]
    return sum(values), len(values)


def format_table(results: list[Result], clean: list[tuple[str, str, bool]]) -> str:
    """Return the table as Markdown: a row for each fault, then all, then the undetectable ones.

    `clean` has the model, the subject and whether it passed, for each unmutated run. Where not
    every mutant has a place or a cause, the cell has "of" how many; without any it is empty.
    """
    undetectable = [result for result in results if not result.detectable]
    results = [result for result in results if result.detectable]
    lines = [
        "| fault | mutants | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---:|" * (len(COLUMNS) + 1),
    ]
    lines += [_row(name, group) for name, group in _by_fault(results)]
    lines.append(_row("**all**", results))
    if undetectable:
        flags = sum(result.detected for result in undetectable)
        lines.append(f"| **declared undetectable** | {len(undetectable)} | {flags} |  |  |  |  |")
    lines.append("")
    lines += _shares(results)
    lines += _facts(results)
    for name, group in _by_fault(undetectable):
        why = "; ".join(sorted({str(result.undetectable) for result in group}))
        flags = sum(result.detected for result in group)
        lines.append(f"Undetectable: {len(group)} of {name!r}, {flags} flagged: {why}.")
    alarms = sum(not passes for *_, passes in clean)
    lines.append(f"{len(clean)} runs of unmutated models, {alarms} false alarms.")
    return "\n".join(lines)


def _row(name: str, group: list[Result]) -> str:
    cells = []
    for field in COLUMNS:
        count, of = counts(group, field)
        cells.append("" if not of else str(count) if of == len(group) else f"{count} of {of}")
    return f"| {name} | {len(group)} | " + " | ".join(cells) + " |"


def _shares(results: list[Result]) -> list[str]:
    shares = []
    for field, words in COLUMNS.items():
        count, of = counts(results, field)
        if of:
            shares.append(f"{words} {count} of {of} ({count / of:.1%})")
    return [f"Of those that could be: {', '.join(shares)}."] if shares else []


def _facts(results: list[Result]) -> list[str]:
    models = sorted({result.model for result in results})
    levels = Counter(result.by or "nothing" for result in results)
    alone = sum(not result.isolate for result in results)
    lines = [
        f"{len(models)} architectures: {', '.join(models)}.",
        f"Detected by {', '.join(f'{level} {n}' for level, n in levels.most_common())}.",
        f"{alone} were judged as the default command does it, {len(results) - alone} with "
        "`--isolate`.",
    ]
    located_results = [r for r in results if r.faintest is not None and r.located]
    if located_results:
        faint = min(located_results, key=lambda r: r.faintest)
        lines.append(
            f"The faintest that was located is {faint.faintest:.3g}x the floor of its layer alone: "
            f"{faint.model} {faint.subject} {faint.fault} @ {'+'.join(faint.rows)}."
        )
    return lines


def find_shortfalls(results: list[Result], clean: list[tuple[str, str, bool]]) -> list[str]:
    """Return a line for each figure that is worse than the promised one."""
    false_flags = [result for result in results if not result.detectable and result.detected]
    results = [result for result in results if result.detectable]
    lines = []
    for field, least in MIN_SHARES.items():
        count, of = counts(results, field)
        if of and count / of < least:
            lines.append(f"{field}: {count / of:.1%}, promised are {least:.0%}")
    share = sum(result.misnamed for result in results) / max(len(results), 1)
    if share > MAX_MISNAMED:
        lines.append(f"wrongly named: {share:.1%}, promised are at most {MAX_MISNAMED:.0%}")
    lines += [
        f"declared undetectable, and flagged: {format_result(result).strip()}"
        for result in false_flags
    ]
    alarms = sum(not passes for *_, passes in clean)
    return lines + ([f"{alarms} false alarms"] if alarms else [])


def _by_fault(results: list[Result]) -> list[tuple[str, list[Result]]]:
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.fault].append(result)
    return sorted(groups.items(), key=lambda item: (not item[0][0].isdigit(), _number(item[0])))


def _number(name: str) -> tuple[int, str]:
    first = name.partition(" ")[0]
    return (int(first) if first.isdigit() else 999, name)
