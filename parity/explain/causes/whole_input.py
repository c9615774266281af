"""Groups that each read the whole input: the parameter count is too high by the number of groups.

A loop over the groups without slicing makes ordinary convolutions, whose outputs are joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity.explain.proof.candidate import StructuralCause
from parity.network.structure import Difference

NAME = "groups-read-whole-input"


def find_structural_causes(differences: Sequence[Difference]) -> Iterator[StructuralCause]:
    by_subject: dict[str, list[Difference]] = {}
    for item in differences:
        # Joined convolutions over the whole input are one convolution without groups.
        if item.field == "groups" and item.found == 1 and item.expected > 1:
            by_subject.setdefault(item.subject, []).append(item)
    for subject, items in by_subject.items():
        groups = items[0].expected
        yield StructuralCause(
            NAME,
            subject,
            tuple(item.row for item in items),
            f"Each of the {groups} groups reads the whole input; this is not a grouped "
            "convolution, "
            f"and has {groups} times its weights",
            f"use groups={groups}, or pass each group its own slice of the channels",
            {"layers": float(len(items)), "groups": float(groups)},
        )
