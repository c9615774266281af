"""A fault and the places that it can be put at: a row of a layer table, in one subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity.network.table import parse_torch_point

CODE = ("keras", "torch")
CONV = ("conv", "depthwise_conv")
EVERYWHERE = ("keras", "torch", "onnx-torch")
NAMELESS = frozenset({"not-explained"})


@dataclass(frozen=True)
class Site:
    """A row of the table, its tensor's name in a graph, and the layers before it."""

    name: str
    kind: str
    block: str
    keras: str
    torch: str
    shape: tuple[int, ...]
    weights: tuple[Any, ...]
    tensor: str
    pad: str | None
    """The Keras layer that pads this one's input, if there is one."""
    image_shape: tuple[int, ...] | None
    """The image (C, H, W) that a dense layer's input was flattened from, if it was."""


@dataclass(frozen=True)
class Place:
    """One row of a model that a fault may be put at."""

    subject: str
    row: Site
    hypers: dict
    """By row, the hyperparameters of its layer."""
    rows: dict
    values: dict
    rng: np.random.Generator
    first: str = ""
    """The row of the first cut."""

    @property
    def layer(self) -> str:
        if self.subject == "onnx-torch":
            return self.row.tensor
        return self.row.keras if self.subject == "keras" else self.row.torch

    @property
    def hyper(self) -> dict:
        return self.hypers.get(self.row.name, {})

    @property
    def calls(self) -> int:
        """How often a block's one ReLU module is called in a PyTorch model."""
        inside = [r for r in self.rows.values() if r.block == self.row.block and "relu#" in r.torch]
        return len([row for row in inside if "@" not in row.torch]) or 1

    @property
    def following(self) -> Site | None:
        """The next row in the table."""
        order = list(self.rows.values())
        return next(iter(order[order.index(self.row) + 1 :]), None)

    @property
    def preceding(self) -> Site:
        """The row before this one in the table."""
        order = list(self.rows.values())
        return order[order.index(self.row) - 1]

    def at(self, row: Site) -> Place:
        """Return the place of another row of the same model."""
        return replace(self, row=row)

    def same_module(self) -> list[Site]:
        """The rows that are calls of this row's PyTorch module, this one among them."""
        own = parse_torch_point(self.row.torch).module
        return [row for row in self.rows.values()
                if "@" not in row.torch and parse_torch_point(row.torch).module == own]  # fmt: skip

    def weight(self, role: str) -> str | None:
        return next((w.name for w in self.row.weights if w.role == role), None)


@dataclass(frozen=True)
class Mutation:
    """The changes of one fault at one place; `rows` are the layers that become faulty."""

    rows: tuple[str, ...]
    weights: dict = field(default_factory=dict)
    changes: tuple[dict, ...] = ()
    depth: str = "stage"
    """The depth of the comparison: `layer` for a fault that only a layer's own capture shows."""
    fails: bool = False
    """Whether the subject cannot be run at all."""
    copies_weights: bool = False
    """Whether the weights are copied after the change, as into a model that was built with it."""
    changes_description: bool = False
    """Whether it changes the description of the model's layers."""
    whole: bool = False
    """Whether it is a fault of the whole graph, so that it has no place."""
    device: str = "cpu"
    expected: dict[str, frozenset[str]] = field(default_factory=dict)
    """By row, the causes that may name it, where not all rows have the fault's."""
    undetectable: str | None = None
    """Why nothing can detect it; without a reason, a fault that is not detected was missed."""


@dataclass(frozen=True)
class Fault:
    name: str
    """Its name in the table; the number is that of the cause."""
    kinds: tuple[str, ...]
    expected: frozenset[str]
    plan: Callable[[Place], Mutation | None]
    subjects: tuple[str, ...] = EVERYWHERE
    faint: bool = False
    """Whether only the weights or float64 show it: levels that name no cause."""

    @property
    def nameable(self) -> bool:
        return not self.faint and self.expected != NAMELESS


def fault(name, kinds, expected, plan, subjects=EVERYWHERE, *, faint=False):
    """Return a fault of these kinds of layers; `expected` has the allowed causes, joined by `|`."""
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    return Fault(name, kinds, frozenset(expected.split("|")), plan, subjects, faint)


def code(change, **more):
    """Return the plan of a change that a child makes in its model at one layer."""

    def plan(place):
        call = {"layer": place.layer, "change": change, "calls": place.calls, **more}
        return Mutation((place.row.name,), changes=(call,))

    return plan
