"""What the structure's differences come to: one line for all layers that differ in one way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from parity.network.structure import Difference

MIN_GROUP = 2
"""From how many layers on one line tells them all."""


def summarise_differences(found: Iterable[Difference]) -> tuple[str, ...]:
    """The messages of all that follows from nothing else, those that say the same put together."""
    groups: dict[tuple[str, ...], list[Difference]] = {}
    surplus: dict[str, list[Difference]] = {}
    counts: list[str] = []
    for difference in found:
        if difference.field == "parameters" and not difference.row:
            # What people know a model by, whatever it follows from.
            counts.append(difference.message)
            continue
        if difference.consequence:
            continue
        if difference.field == "layer" and difference.expected is None:
            surplus.setdefault(difference.subject, []).append(difference)
            continue
        said = difference.message.partition(": ")[2]
        same = difference.row and difference.message.startswith(f"{difference.row}: ")
        key = (difference.subject, said) if same else (difference.subject, difference.message)
        groups.setdefault(key, []).append(difference)
    lines = [_describe_group(group) for group in groups.values()]
    lines += [_describe_surplus(subject, group) for subject, group in surplus.items()]
    return (*lines, *counts)


def _describe_surplus(subject: str, group: list[Difference]) -> str:
    """Layers that are in no row of the table, all of them in one line."""
    if len(group) < MIN_GROUP:
        return group[0].message
    names = ", ".join(repr(difference.found) for difference in group[:4])
    more = f", … {group[-1].found!r}" if len(group) > 4 else ""
    return f"{subject} has {len(group)} layers that are not in the table: {names}{more}"


def _describe_group(group: list[Difference]) -> str:
    first, last = group[0], group[-1]
    if first.field == "groups" and 1 in (first.expected, first.found):
        said = f"{first.message}, which reads the whole input and is no grouped convolution"
        first = replace(first, message=said)
    if len(group) < MIN_GROUP:
        return first.message
    rows = [difference.row for difference in group]
    where = f"{len(group)} layers, {rows[0]} to {last.row}" if len(rows) > 3 else ", ".join(rows)
    return f"{where}: {first.message.partition(': ')[2]}"
