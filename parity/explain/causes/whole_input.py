"""“Groups” that each read the whole input: the parameter count is the number of groups too high.

A loop over the groups that slices nothing makes as many ordinary convolutions, joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity.explain.proof.case import Shape
from parity.network.structure import Difference

NAME = "groups-read-whole-input"


def shapes(found: Sequence[Difference]) -> Iterator[Shape]:
    by_subject: dict[str, list[Difference]] = {}
    for item in found:
        # Written side by side, the convolutions of the groups are one without groups.
        if item.field == "groups" and item.found == 1 and item.expected > 1:
            by_subject.setdefault(item.subject, []).append(item)
    for subject, items in by_subject.items():
        groups = items[0].expected
        yield Shape(
            NAME,
            subject,
            tuple(item.row for item in items),
            f"Each of the {groups} groups reads the whole input, which is no grouped convolution "
            f"and has {groups} times its weights",
            f"use groups={groups}, or give each group its own slice of the channels",
            {"layers": float(len(items)), "groups": float(groups)},
        )
