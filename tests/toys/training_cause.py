"""Weights whose squares are added to them after the update."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence
from parity.training.definition import Update


class Grown(Update):
    """An update after which a thousandth of the square of each weight is added to it."""

    def take(self) -> dict[str, np.ndarray]:
        found = super().take()
        return {
            name: value + 1e-3 * self.before[name] ** 2 if name.startswith("weight/") else value
            for name, value in found.items()
        }


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.is_of_the_update:
        yield Candidate(
            "toy-growth",
            "the squares of the weights are added to them",
            "leave it out",
            change=lambda update: Grown(**{f.name: getattr(update, f.name)
                                           for f in dataclasses.fields(Update)}),
        )  # fmt: skip
