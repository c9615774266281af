"""A summary of structural differences: one line for all layers with the same difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from parity.network.structure import Difference

MIN_GROUP = 2
"""Number of layers from which one line summarises them."""


def summarise_differences(differences: Iterable[Difference]) -> tuple[str, ...]:
    """Return the messages of all independent differences; equal messages become one line."""
    groups: dict[tuple[str, ...], list[Difference]] = {}
    surplus: dict[str, list[Difference]] = {}
    counts: list[str] = []
    for difference in differences:
        if difference.field == "parameters" and not difference.row:
            # The parameter count identifies a model, so it is always reported.
            counts.append(difference.message)
            continue
        if difference.consequence:
            continue
        if difference.field == "layer" and difference.expected is None:
            surplus.setdefault(difference.subject, []).append(difference)
            continue
        description = difference.message.partition(": ")[2]
        names_row = difference.row and difference.message.startswith(f"{difference.row}: ")
        key = (
            (difference.subject, description)
            if names_row
            else (difference.subject, difference.message)
        )
        groups.setdefault(key, []).append(difference)
    lines = [_describe_group(group) for group in groups.values()]
    lines += [_describe_surplus(subject, group) for subject, group in surplus.items()]
    return (*lines, *counts)


def _describe_surplus(subject: str, group: list[Difference]) -> str:
    """Return one line for all layers of a subject that are in no row of the table."""
    if len(group) < MIN_GROUP:
        return group[0].message
    names = ", ".join(repr(difference.found) for difference in group[:4])
    more = f", … {group[-1].found!r}" if len(group) > 4 else ""
    return f"{subject} has {len(group)} layers that are not in the table: {names}{more}"


def _describe_group(group: list[Difference]) -> str:
    first, last = group[0], group[-1]
    if first.field == "groups" and 1 in (first.expected, first.found):
        message = (
            f"{first.message}; the layer with groups=1 reads the whole input and is not a grouped "
            "convolution"
        )
        first = replace(first, message=message)
    if len(group) < MIN_GROUP:
        return first.message
    rows = [difference.row for difference in group]
    where = f"{len(group)} layers, {rows[0]} to {last.row}" if len(rows) > 3 else ", ".join(rows)
    return f"{where}: {first.message.partition(': ')[2]}"
